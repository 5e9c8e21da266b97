#[xiio::main]
async fn main() {
    xiio::task_group!(timout = None, |tg| {
        tg.cancel();
    });
}
