use std::sync::Mutex;

use xiio::task_group;

#[xiio::main]
async fn main() {
    let counter = Mutex::new(0);
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || counter.lock().unwrap());
    });
}
