#[xiio::main]
async fn main() {
    xiio::task_group!(|tg| async { tg.cancel() });
}
