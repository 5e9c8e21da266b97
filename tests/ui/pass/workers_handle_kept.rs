use xiio::task_group;

#[xiio::main]
async fn main() {
    let handle;
    {
        let text = String::from("gone before the handle");
        handle = task_group!(workers = 1, |tg| tg.workers().spawn(async || text.len()));
    }
    assert_eq!(handle.await, 22);
}
