use xiio::task_group;

struct Failure;

async fn parse(text: &str) -> Result<i32, Failure> {
    task_group!(|tg| {
        tg.spawn(async {});
        let number: i32 = text.parse()?;
        Ok(number)
    })
}

fn main() {
    drop(xiio::run(parse("5")));
}
