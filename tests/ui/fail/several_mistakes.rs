#[xiio::main]
async fn main() {
    xiio::task_group!(limit = 1, limit = 2, color = "red", all_errors, || {});
}
