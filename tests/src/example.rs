//! The programs of `examples/`, as children of a test.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The example `name`, as built for the profile of this test.
///
/// # Panics
/// When it is not built: `cargo test` builds it, `cargo test -p xiio-tests` does not.
#[must_use]
pub fn example(name: &str) -> Command {
    let path = examples_dir().join(name);
    assert!(path.exists(), "{} is missing; build it with `cargo build --examples`", path.display());
    Command::new(path)
}

/// Runs a program with `input` on its standard input, to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that ends without reading all of it may do so.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// `target/<profile>/examples`, seen from `target/<profile>/deps/<test>`.
fn examples_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples")
}
