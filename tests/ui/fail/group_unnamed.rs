#[xiio::main]
async fn main() {
    xiio::task_group!(|| {});
    xiio::task_group!({});
}
