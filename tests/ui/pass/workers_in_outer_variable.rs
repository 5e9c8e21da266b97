use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        let mut kept = None;
        if kept.is_none() {
            kept = Some(tg.workers());
        }
        if let Some(workers) = kept {
            workers.spawn(async || {});
        }
    });
}
