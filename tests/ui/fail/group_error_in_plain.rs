#[xiio::main]
async fn main() {
    xiio::task_group!(error = std::io::Error, |tg| {
        tg.cancel();
    });
}
