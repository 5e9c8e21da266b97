use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(|tg| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tg.spawn(async {});
            });
        });
    });
}
