#[xiio::main]
async fn main() {
    xiio::task_group!(limit, |tg| {
        tg.cancel();
    });
}
