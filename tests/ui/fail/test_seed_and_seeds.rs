#[xiio::test(seed = 3, seeds = 0..10)]
async fn seeded_twice() {}

fn main() {}
