use std::rc::Rc;

use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || *Rc::new(1));
    });
}
