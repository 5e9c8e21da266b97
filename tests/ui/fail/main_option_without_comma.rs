use std::time::Duration;

#[xiio::main(cancel_on(SIGINT) grace = Duration::from_secs(1))]
async fn main() {}
