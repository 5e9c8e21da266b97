//! Two tasks that wait for each other.

use xiio::Promise;

fn main() {
    let (left, right) = (Promise::<()>::new(), Promise::<()>::new());
    xiio::run(async {
        xiio::task_group!(name = "kitchen", |tg| {
            tg.spawn_named("cook", async {
                left.wait().await;
                right.set(()).unwrap();
            });
            tg.spawn_named("waiter", async {
                right.wait().await;
                left.set(()).unwrap();
            });
        });
    });
}
