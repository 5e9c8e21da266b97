use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        let task = tg.workers().spawn(async || 1);
        tg.workers().spawn(async move || task.await);
    });
}
