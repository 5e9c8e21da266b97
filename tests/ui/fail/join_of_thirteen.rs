use std::future::ready;

fn main() {
    xiio::run(async {
        let one = || ready(1);
        xiio::join!(one(), one(), one(), one(), one(), one(), one(), one(), one(), one(), one(), one(), one());
    });
}
