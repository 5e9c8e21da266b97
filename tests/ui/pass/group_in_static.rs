use xiio::{TaskGroup, task_group};

fn spawn_greeting<'a>(tg: &'a TaskGroup<'a>, name: &'a str) {
    tg.spawn(async move { println!("Hello, {name}!") });
}

#[xiio::main]
async fn main() {
    let name = String::from("Ada");
    task_group!(|tg| {
        spawn_greeting(tg, &name);
    });
}
