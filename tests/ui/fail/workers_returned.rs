use xiio::{Workers, task_group};

async fn first<'a>() -> Workers<'a> {
    task_group!(workers = 1, |tg| {
        return tg.workers();
    })
}

fn main() {
    xiio::run(async {
        first().await.spawn(async || {});
    });
}
