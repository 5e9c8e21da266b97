use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut kept = None;
    task_group!(|tg| {
        kept = Some(tg);
    });
    if let Some(tg) = kept {
        tg.spawn(async {});
    }
}
