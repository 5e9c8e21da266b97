//! A server that has a task for each client, and does not tell it that the client has left.

use std::time::Duration;

use xiio::{Promise, sleep, task_group};

#[xiio::main(inspect)]
async fn main() {
    task_group!(name = "sessions", |tg| {
        loop {
            let has_left = Promise::<()>::new();
            tg.spawn(has_left.wait());
            sleep(Duration::from_millis(1)).await;
        }
    });
}
