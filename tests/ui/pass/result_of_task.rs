use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = String::from("of the parent");
    let word = task_group!(|tg| {
        let task = tg.spawn(async { text.split(' ').next() });
        task.await
    });
    assert_eq!(word, Some("of"));
}
