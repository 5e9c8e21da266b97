use std::sync::atomic::{AtomicU32, Ordering};

use xiio::task_group;

#[xiio::main]
async fn main() {
    let counter = AtomicU32::new(0);
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || counter.store(1, Ordering::Relaxed));
    });
}
