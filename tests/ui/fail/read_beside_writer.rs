use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut counter = 1;
    task_group!(|tg| {
        tg.spawn(async { counter += 1 });
        assert_eq!(counter, 2);
    });
}
