#[xiio::main]
fn main() {}
