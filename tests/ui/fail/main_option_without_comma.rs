use std::time::Duration;

#[xiio::main(name = "root" grace = Duration::from_secs(1))]
async fn main() {}
