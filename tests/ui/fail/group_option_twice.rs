#[xiio::main]
async fn main() {
    xiio::task_group!(limit = 1, name = "twice", limit = 2, |tg| {
        tg.cancel();
    });
}
