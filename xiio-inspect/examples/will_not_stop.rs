//! A task that was cancelled, and whose cleanup waits for an answer that does not come.

use std::future::pending;

fn main() {
    xiio::run(async {
        let (answer, _server) = std::io::pipe().unwrap();
        xiio::task_group!(|tg| {
            let clingy = async |()| drop(xiio::readable(&answer).await);
            tg.spawn_named("clingy", xiio::bracket((), async |()| pending::<()>().await, clingy));
            for _ in 0..20 {
                tg.spawn(xiio::readable(&answer));
            }
            xiio::yield_now().await;
            tg.cancel();
        });
    });
}
