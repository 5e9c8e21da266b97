use xiio::task_group;

#[xiio::main]
async fn main() {
    let names = vec!["Ada", "Grace"];
    task_group!(|tg| {
        for name in &names {
            tg.spawn(async { println!("{name}") });
        }
    });
    drop(names);
}
