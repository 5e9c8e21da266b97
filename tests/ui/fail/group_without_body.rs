#[xiio::main]
async fn main() {
    xiio::task_group!(limit = 2);
    xiio::task_group!(|tg|);
    xiio::task_group!();
}
