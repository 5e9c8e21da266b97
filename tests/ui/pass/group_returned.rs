use xiio::task_group;

async fn first() -> i32 {
    task_group!(|tg| {
        let task = tg.spawn(async { 1 });
        return task.await;
    })
}

fn main() {
    assert_eq!(xiio::run(first()), 1);
}
