use std::cell::Cell;

use xiio::{TaskGroup, task_group};

thread_local! {
    static SMUGGLED: Cell<Option<&'static TaskGroup<'static>>> = const { Cell::new(None) };
}

#[xiio::main]
async fn main() {
    task_group!(|tg| {
        SMUGGLED.set(Some(tg));
    });
}
