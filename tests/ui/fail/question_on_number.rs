use xiio::task_group;

async fn parse() -> Option<i32> {
    task_group!(|tg| {
        tg.spawn(async {});
        Some(5_i32?)
    })
}

fn main() {
    xiio::run(parse());
}
