//! The thread of tokio's runtime costs nothing while nothing happens. A file of its own, as the time of the whole
//! process is measured.

use std::time::Duration;

use xiio::compat::with_tokio;
use xiio::{sleep, task_group};
use xiio_tests::os::cpu_time;
use xiio_tests::{LONG, run};

async fn use_of_half_a_second() -> Duration {
    // The first turns of both sides.
    sleep(Duration::from_millis(50)).await;
    let before = cpu_time();
    sleep(Duration::from_millis(500)).await;
    cpu_time() - before
}

#[test]
fn a_wait_for_tokio_and_its_thread_afterwards_use_no_time_of_the_processor() {
    run(async {
        let used = task_group!(|tg| {
            tg.spawn(with_tokio(async { tokio::time::sleep(LONG).await }));
            let used = use_of_half_a_second().await;
            tg.cancel();
            used
        });
        assert!(used < Duration::from_millis(10), "{used:?} of 500 ms while one waits");
        let used = use_of_half_a_second().await;
        assert!(used < Duration::from_millis(10), "{used:?} of 500 ms afterwards");
    });
}
