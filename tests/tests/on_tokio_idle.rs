//! A tree inside tokio that waits costs nothing. A file of its own, as the time of the whole process is measured.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use xiio::compat::on_tokio;
use xiio::{Promise, sleep, task_group};
use xiio_tests::os::cpu_time;

#[test]
fn a_tree_that_waits_uses_no_time_of_the_processor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let promise = Promise::<()>::new();
    let used = runtime.block_on(on_tokio(async {
        task_group!(|tg| {
            tg.spawn(sleep(Duration::from_secs(3600)));
            tg.spawn(promise.wait());
            tg.spawn(async {
                xiio::read(&ours, &mut [0; 1]).await.unwrap();
                // Ready again at once, and nobody reads it.
                std::future::pending::<()>().await;
            });
            theirs.write_all(b"xyz").unwrap();
            // Its first turns, and those of tokio.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let before = cpu_time();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let used = cpu_time() - before;
            tg.cancel();
            used
        })
    }));
    assert!(used < Duration::from_millis(10), "{used:?} of 500 ms");
}
