use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        let text = String::from("of the body");
        tg.workers().spawn(async move || text.len());
    });
}
