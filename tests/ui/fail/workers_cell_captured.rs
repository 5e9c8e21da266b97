use std::cell::Cell;

use xiio::task_group;

#[xiio::main]
async fn main() {
    let counter = Cell::new(0);
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || counter.set(1));
    });
}
