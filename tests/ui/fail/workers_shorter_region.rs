use xiio::{Workers, task_group};

fn spawn_length<'env>(workers: Workers<'env>, text: &str) {
    workers.spawn(async move || text.len());
}

#[xiio::main]
async fn main() {
    let text = String::from("borrowed");
    task_group!(workers = 1, |tg| {
        spawn_length(tg.workers(), &text);
    });
}
