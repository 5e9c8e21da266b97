use std::sync::Arc;

use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = Arc::new(String::from("of any thread"));
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || text.len());
    });
}
