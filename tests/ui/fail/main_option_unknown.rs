#[xiio::main(timout = std::time::Duration::from_secs(1))]
async fn main() {}
