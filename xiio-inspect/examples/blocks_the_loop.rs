//! A task that sleeps as a thread does, so that nothing else goes on.

use std::thread;
use std::time::Duration;

fn main() {
    xiio::run(async {
        xiio::task_group!(|tg| {
            tg.spawn_named("heartbeat", async {
                loop {
                    xiio::sleep(Duration::from_millis(10)).await;
                }
            });
            tg.spawn_named("impolite", async {
                xiio::sleep(Duration::from_millis(20)).await;
                thread::sleep(Duration::from_secs(600));
            });
        });
    });
}
