use xiio::task_group;

fn main() {
    task_group!(|tg| {
        tg.spawn(async {});
    });
}
