use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        let workers = tg.workers();
        workers.spawn(async move || {
            workers.spawn(async || 1).await;
        });
    });
}
