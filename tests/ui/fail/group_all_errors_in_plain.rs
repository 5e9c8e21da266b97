#[xiio::main]
async fn main() {
    xiio::task_group!(all_errors, |tg| {
        tg.cancel();
    });
}
