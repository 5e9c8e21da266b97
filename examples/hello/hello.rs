//! Reads two names from standard input, within ten seconds, and greets both at once, each after a time that depends on
//! the name.
//!
//! Shows: a time limit around any future; waiting for standard input as it is (pipe, terminal or file, its flags stay
//! untouched); a group whose tasks borrow from the function around.
//!
//! ```text
//! $ printf 'Grace\nAda\n' | cargo run --release --example hello
//! Hello, Ada!
//! Hello, Grace!
//! ```
//!
//! What goes wrong is said on standard error, and the exit code is 1: the names did not come in time, or there are fewer
//! than two. Another time limit, in seconds, may be given as an argument: `cargo run --example hello 0.5`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use xiio::{sleep, task_group, timeout};

const N_NAMES: usize = 2;
const MAX_BYTES: usize = 4096;

#[xiio::main]
async fn main() -> ExitCode {
    match hello().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn hello() -> io::Result<()> {
    let limit = limit_of_arguments()?;
    if io::stdin().is_terminal() {
        eprintln!("{N_NAMES} names, please, one a line:");
    }
    let names = timeout(limit, read_names()).await.map_err(|_| {
        io::Error::other(format!("timed out: expected {N_NAMES} names on standard input within {limit:?}"))
    })??;
    task_group!(|tg| {
        for name in &names {
            tg.spawn(async move {
                sleep(Duration::from_millis(100 * name.chars().count() as u64)).await;
                // Not by `println!`, which panics when nobody reads.
                let _ = writeln!(io::stdout(), "Hello, {name}!");
            });
        }
    });
    Ok(())
}

/// Ten seconds, or what the first argument says.
fn limit_of_arguments() -> io::Result<Duration> {
    let Some(argument) = std::env::args().nth(1) else { return Ok(Duration::from_secs(10)) };
    let seconds = argument.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| io::Error::other(format!("expected a number of seconds, got `{argument}`")))
}

/// Reads lines from standard input until there are names enough. A last line may lack its end.
async fn read_names() -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    loop {
        let mut buf = [0; 256];
        let n_read = xiio::read(io::stdin(), &mut buf).await?;
        text.extend_from_slice(&buf[..n_read]);
        let names = names_in(&text, n_read == 0);
        if names.len() >= N_NAMES {
            return Ok(names);
        }
        if n_read == 0 {
            return Err(io::Error::other(format!(
                "expected {N_NAMES} names on standard input, one a line; got {}",
                names.len()
            )));
        }
        if text.len() > MAX_BYTES {
            return Err(io::Error::other(format!("no {N_NAMES} names in the first {MAX_BYTES} bytes")));
        }
    }
}

/// The first names in `text`, without empty lines; the last line counts if `is_end`.
fn names_in(text: &[u8], is_end: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let whole_lines = if is_end { &*text } else { text.rsplit_once('\n').map_or("", |(lines, _)| lines) };
    let names = whole_lines.lines().map(str::trim).filter(|line| !line.is_empty());
    names.take(N_NAMES).map(str::to_owned).collect()
}
