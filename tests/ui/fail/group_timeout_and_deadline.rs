#[xiio::main]
async fn main() {
    let _ = xiio::task_group!(timeout = None, deadline = None, |tg| {
        tg.cancel();
    });
}
