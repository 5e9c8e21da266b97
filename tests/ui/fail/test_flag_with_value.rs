#[xiio::test(virtual_time = true)]
async fn on_a_virtual_clock() {}

fn main() {}
