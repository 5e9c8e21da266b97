#[xiio::main]
async fn main() {
    xiio::task_group!(|tg| -> () { tg.cancel() });
}
