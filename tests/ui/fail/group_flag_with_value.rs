#[xiio::main]
async fn main() {
    let _ = xiio::try_task_group!(error = (), all_errors = true, |tg| {
        tg.cancel();
    });
}
