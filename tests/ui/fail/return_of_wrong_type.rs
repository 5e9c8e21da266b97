use xiio::task_group;

async fn number() -> i32 {
    task_group!(|tg| {
        tg.spawn(async {});
        return "five";
    })
}

fn main() {
    xiio::run(number());
}
