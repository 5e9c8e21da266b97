use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut number = 1;
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(async || number += 1);
        tg.workers().spawn(async || number += 1);
    });
}
