//! The programs of `README.md` and `docs/` that are shown with their output say just that.
//!
//! `build.rs` has made a module of each; this test runs each in a process of its own and compares.
#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]

use std::env;
use std::process::{Command, ExitCode, Stdio};

include!(concat!(env!("OUT_DIR"), "/docs_programs.rs"));

/// Page, line, the program, its output.
pub(crate) type Program = (&'static str, usize, fn() -> ExitCode, &'static str);

const CHILD: &str = "XIIO_DOCS_PROGRAM";

fn main() -> ExitCode {
    if let Ok(index) = env::var(CHILD) {
        let (_, _, run, _) = PROGRAMS[index.parse::<usize>().unwrap()];
        return run();
    }
    let n_failed = (0..PROGRAMS.len()).filter(|&index| !says_what_is_shown(index)).count();
    let verdict = if n_failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {} passed; {n_failed} failed", PROGRAMS.len() - n_failed);
    ExitCode::from(u8::from(n_failed > 0))
}

/// Runs the program at `index`. What it writes to standard error is expected after what it writes to standard output.
fn says_what_is_shown(index: usize) -> bool {
    let (page, line, _, expected) = PROGRAMS[index];
    let child = Command::new(env::current_exe().unwrap())
        .env(CHILD, index.to_string())
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8([child.stdout, child.stderr].concat()).unwrap();
    if said != expected {
        println!("{page}:{line} says\n{said}\nand not\n{expected}");
    }
    said == expected
}
