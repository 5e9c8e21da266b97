use std::time::Duration;

mod alone {
    #[xiio::main(impatience = super::Duration::ZERO, impatient_on(SIGTERM))]
    async fn main() {}
}

// The list is missing, and nothing else.
#[xiio::main(cancel_on, impatience = Duration::ZERO)]
async fn main() {}
