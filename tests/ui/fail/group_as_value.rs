use xiio::task_group;

#[xiio::main]
async fn main() {
    let tg = task_group!(|tg| tg);
    tg.spawn(async {});
}
