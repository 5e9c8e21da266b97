use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = String::from("outlives the handle");
    let handle;
    {
        handle = task_group!(|tg| tg.spawn(async { text.as_str() }));
    }
    assert_eq!(handle.await, "outlives the handle");
}
