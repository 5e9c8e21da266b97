use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut text = String::new();
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || text.len());
        text.push('x');
    });
}
