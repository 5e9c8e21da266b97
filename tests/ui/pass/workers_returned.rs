use xiio::task_group;

async fn first() -> i32 {
    task_group!(workers = 1, |tg| {
        let task = tg.workers().spawn(async || 1);
        return task.await;
    })
}

fn main() {
    assert_eq!(xiio::run(first()), 1);
}
