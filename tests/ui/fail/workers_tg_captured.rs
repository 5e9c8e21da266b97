use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || {
            tg.workers().spawn(async || 1).await;
        });
    });
}
