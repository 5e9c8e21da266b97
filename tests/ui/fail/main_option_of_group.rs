#[xiio::main(limit = 3)]
async fn main() {}
