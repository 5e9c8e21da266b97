//! A sleep that was begun in one runtime and dropped in another took a timer of the other with it: each thread counted
//! its timers from one, so the key of the stray fitted a timer that had nothing to do with it, whose task then slept
//! for ever.

use std::pin::pin;
use std::time::Duration;

use xiio::{Sleep, sleep, task_group, timeout, yield_now};

const LONG: Duration = Duration::from_secs(30);

/// A sleep that has a timer in a runtime of another thread, which has ended.
fn stray() -> Sleep {
    let begin = || {
        xiio::run(async {
            let mut stray = sleep(LONG);
            assert!(futures::poll!(pin!(&mut stray)).is_pending());
            Some(stray)
        })
    };
    std::thread::spawn(begin).join().unwrap().unwrap()
}

#[test]
fn sleep_of_another_runtime_takes_no_timer_with_it() {
    let stray = stray();
    let slept = std::thread::spawn(|| {
        xiio::run(async {
            // First of all timers here, as the stray was there.
            task_group!(|tg| {
                tg.spawn(async {
                    let nap = sleep(Duration::from_millis(20));
                    timeout(LONG / 2, nap).await.is_ok()
                });
                yield_now().await;
                drop(stray);
            });
        });
    });
    let start = std::time::Instant::now();
    slept.join().unwrap();
    assert!(start.elapsed() < LONG / 2, "the nap was never woken");
}

#[test]
fn sleep_of_another_runtime_goes_on_here() {
    let mut stray = stray();
    let start = std::time::Instant::now();
    stray.reset(start + Duration::from_millis(10));
    xiio::run(stray);
    assert!(start.elapsed() >= Duration::from_millis(10));
}
