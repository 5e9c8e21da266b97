use std::rc::Rc;

use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = Rc::new(String::from("of this thread"));
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || text.len());
    });
}
