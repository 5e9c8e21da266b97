use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut kept = None;
    task_group!(workers = 2, |tg| {
        kept = Some(tg.workers());
    });
    if let Some(workers) = kept {
        workers.spawn(async || {});
    }
}
