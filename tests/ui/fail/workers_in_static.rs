use std::cell::Cell;

use xiio::{Workers, task_group};

thread_local! {
    static SMUGGLED: Cell<Option<Workers<'static>>> = const { Cell::new(None) };
}

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        SMUGGLED.set(Some(tg.workers()));
    });
}
