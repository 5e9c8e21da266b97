use xiio::try_task_group;

async fn work() -> Result<(), std::io::Error> {
    try_task_group!(|tg| {
        tg.spawn(async { Err::<(), &str>("wrong") });
    })
}

fn main() {
    drop(xiio::run(work()));
}
