use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = String::from("text");
    task_group!(|tg| {
        std::thread::scope(|scope| {
            scope.spawn(|| println!("{text}"));
        });
        tg.spawn(async { println!("{text}") });
    });
}
