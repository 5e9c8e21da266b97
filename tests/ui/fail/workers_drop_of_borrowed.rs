use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = String::from("borrowed");
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || text.len());
        drop(text);
    });
}
