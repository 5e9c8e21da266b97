use std::cell::Cell;

use xiio::{WorkerTask, task_group};

thread_local! {
    static SMUGGLED: Cell<Option<WorkerTask<i32>>> = const { Cell::new(None) };
}

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        SMUGGLED.set(Some(tg.workers().spawn(async || 1)));
    });
}
