#[xiio::main]
async fn main() {
    let outcome = xiio::try_task_group!(|tg| {
        tg.spawn(async { Ok(()) });
    });
    drop(outcome);
}
