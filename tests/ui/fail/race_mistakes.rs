use std::future::ready;
use xiio::race;

fn main() {
    let _ = async { race!() };
    let _ = async { race!(biased; n = ready(1) => n) };
    let _ = async { race!(ready(1) => 1) };
    let _ = async { race!(ready(1), n = ready(2) => n) };
    let _ = async { race!(n = ready(1) => n n = ready(2) => n) };
    let _ = async { race!(else => 1, n = ready(2) => n) };
    let _ = async { race!(n = ready(1)) };
    let _ = async { race!(n = ready(1), if => n) };
    let _ = async { race!(#[cfg(unix)] n = ready(1) => n, #[cfg(windows)] else => 2) };
    let _: i32 = race!(n = ready(1) => n);
}
