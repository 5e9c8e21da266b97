use xiio::{TaskGroup, task_group};

fn spawn_later<'a>(tg: &'a TaskGroup<'a>) {
    tg.spawn(async move {
        tg.spawn(async {});
    });
}

#[xiio::main]
async fn main() {
    task_group!(|tg| {
        spawn_later(tg);
    });
}
