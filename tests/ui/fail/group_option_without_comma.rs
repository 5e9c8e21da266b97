#[xiio::main]
async fn main() {
    xiio::task_group!(limit = 3 |tg| {
        tg.cancel();
    });
}
