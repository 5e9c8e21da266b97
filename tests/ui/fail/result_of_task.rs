use xiio::task_group;

#[xiio::main]
async fn main() {
    let word = task_group!(|tg| {
        let text = String::from("of the body");
        let task = tg.spawn(async { text.split(' ').next() });
        task.await
    });
    assert_eq!(word, Some("of"));
}
