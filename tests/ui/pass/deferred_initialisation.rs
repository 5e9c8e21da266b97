use xiio::task_group;

#[xiio::main]
async fn main() {
    let number = task_group!(|tg| tg.spawn(async { 5 }).await);
    assert_eq!(number, 5);
}
