#[xiio::main]
async fn main() {
    xiio::task_group!(async move |tg| { tg.cancel() });
}
