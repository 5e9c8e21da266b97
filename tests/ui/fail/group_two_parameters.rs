#[xiio::main]
async fn main() {
    xiio::task_group!(|tg, other| {
        tg.cancel();
    });
}
