use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut numbers = [1, 2];
    task_group!(workers = 2, |tg| {
        for number in &mut numbers {
            tg.workers().spawn(async || *number += 1);
        }
    });
}
