use xiio::task_group;

#[xiio::main]
async fn main() {
    task_group!(|tg| {
        let local = String::from("of the body");
        tg.spawn(async { println!("{local}") });
    });
}
