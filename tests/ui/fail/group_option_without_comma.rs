#[xiio::main]
async fn main() {
    xiio::task_group!(limit = 3 |tg| {
        tg.cancel();
    });
}

async fn with_a_value_for_a_body() {
    xiio::task_group!(limit = 3 |_| 7);
}

async fn without_a_name() {
    xiio::task_group!(limit = 3 || { 7 });
}
