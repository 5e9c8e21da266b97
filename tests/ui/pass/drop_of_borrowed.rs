use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = String::from("borrowed");
    task_group!(|tg| {
        tg.spawn(async { println!("{text}") });
    });
    drop(text);
}
