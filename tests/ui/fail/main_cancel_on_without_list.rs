#[xiio::main(cancel_on = SIGINT)]
async fn main() {}
