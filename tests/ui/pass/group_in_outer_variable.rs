use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(|tg| {
        let mut kept = None;
        if kept.is_none() {
            kept = Some(tg);
        }
        if let Some(tg) = kept {
            tg.spawn(async {});
        }
    });
}
