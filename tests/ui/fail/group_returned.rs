use xiio::{TaskGroup, task_group};

async fn first<'a>() -> &'a TaskGroup<'a> {
    task_group!(|tg| {
        return tg;
    })
}

fn main() {
    xiio::run(async {
        first().await.spawn(async {});
    });
}
