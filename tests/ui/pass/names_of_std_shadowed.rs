#![deny(warnings, unsafe_code)]
#![no_implicit_prelude]
#![allow(dead_code, unused_macros)]

mod core {}
mod std {}
mod xiio {}

struct Result;
struct Option;
struct Box;
struct Vec;
struct String;
trait Future {}
trait Drop {}
fn drop() {}

macro_rules! compile_error {
    () => {};
}
macro_rules! unreachable {
    () => {};
}
macro_rules! pin {
    () => {};
}

type Outcome = ::core::result::Result<u8, u8>;

async fn plain(outcome: Outcome) -> Outcome {
    let number = ::xiio::task_group!(name = "plain", |tg| {
        tg.spawn(async {});
        let number = outcome?;
        if number == 3 {
            return outcome;
        }
        number
    });
    ::core::result::Result::Ok(number)
}

async fn tried(outcome: Outcome) -> Outcome {
    ::xiio::try_task_group!(|tg| {
        tg.spawn(async { outcome });
        let number = outcome?;
        if number == 3 {
            return outcome;
        }
        number
    })
}

#[::xiio::main]
async fn main() {
    ::core::assert!(::core::matches!(
        plain(::core::result::Result::Ok(3)).await,
        ::core::result::Result::Ok(3)
    ));
    ::core::assert!(::core::matches!(
        tried(::core::result::Result::Err(4)).await,
        ::core::result::Result::Err(4)
    ));
}
