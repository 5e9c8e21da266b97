// A group inside the body of another is all that names `task_group`: its import is in use.
#![deny(warnings)]

use xiio::{task_group, try_task_group};

async fn first_failure() -> Result<(), u8> {
    try_task_group!(|tg| {
        tg.spawn(async { Ok(()) });
        task_group!(|_inner| Err(7)?)
    })
}

fn main() {
    assert_eq!(xiio::run(first_failure()), Err(7));
}
