use xiio::task_group;

async fn longest<'a>() -> &'a str {
    let words = [String::from("a"), String::from("bc")];
    task_group!(|tg| {
        tg.spawn(async {});
        return &words[0];
    })
}

fn main() {
    xiio::run(longest());
}
