use std::time::Duration;

#[xiio::main(impatience = Duration::ZERO, impatient_on(SIGTERM), cancel_on(SIGTERM))]
async fn main() {}
