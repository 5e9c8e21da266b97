//! A server whose clients have a limit of time, and clean up when it is over. For a recording: it ends by its own limit.

use std::future::pending;
use std::thread;
use std::time::Duration;

use xiio::{Promise, bracket, sleep, task_group, timeout};

fn main() {
    xiio::run(async {
        let loaded = Promise::new();
        let late = task_group!(name = "server", timeout = millis(90), |tg| {
            tg.spawn_named("accept", async {
                loop {
                    sleep(millis(4)).await;
                }
            });
            for number in 0..4 {
                tg.spawn_named(format!("connection {number}"), connection(number));
            }
            tg.spawn_named("cache", async {
                sleep(millis(20)).await;
                let _ = loaded.set(());
                pending::<()>().await;
            });
            // Who waits for the cache blocks the loop when it is there.
            tg.spawn_named("reader", async {
                loaded.clone().wait().await;
                thread::sleep(millis(6));
            });
        });
        assert!(late.is_err(), "it runs until its time is over");
    });
}

/// Says goodbye, which takes a while.
async fn connection(number: u64) {
    sleep(millis(5 * number)).await;
    bracket((), async |()| serve(number).await, async |()| sleep(millis(3 + number)).await).await;
}

async fn serve(number: u64) {
    let requests = async {
        task_group!(name = "requests", |tg| {
            for request in 0..3 {
                tg.spawn(async move {
                    loop {
                        sleep(millis(3 + request)).await;
                    }
                });
            }
            tg.spawn_named("flush", bracket((), async |()| pending::<()>().await, async |()| sleep(millis(8)).await));
        });
    };
    let _ = timeout(millis(30 + 2 * number), requests).await;
    pending::<()>().await;
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
