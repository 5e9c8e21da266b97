//! Connects to the first of several addresses that answers.
//!
//! Shows: a group in which the first to succeed ends all others. Attempts begin one after the other, each when the one before
//! has failed or has not answered for 250 ms (RFC 8305); what has not won is cancelled, and its destructors run.
//! `xiio::net::TcpStream::connect` does this by itself for the addresses of a name. There the next attempt begins also when an
//! earlier one fails, and the two families take turns.
//!
//! ```text
//! $ cargo run --release --example happy_eyeballs 127.0.0.1:9 192.0.2.1:80 example.org:80
//! trying 127.0.0.1:9
//! 127.0.0.1:9: Connection refused (os error 111)
//! trying 192.0.2.1:80
//! trying 93.184.215.14:80
//! connected to 93.184.215.14:80
//! gave up 192.0.2.1:80
//! ```
//!
//! The exit code is 1 when no address has answered in time.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use xiio::net::{TcpStream, lookup_host};
use xiio::{timeout, try_task_group};

/// Connects to the first of several addresses that answers.
#[derive(Parser)]
struct Arguments {
    /// Where to connect to, as host:port; a name stands for all its addresses
    #[arg(required = true)]
    targets: Vec<String>,
    /// How many milliseconds an attempt has for itself
    #[arg(long, default_value_t = 250)]
    stagger: u64,
    /// How many seconds all of it may take
    #[arg(long, default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[xiio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let connected = timeout(arguments.timeout, async {
        let addrs = look_up(&arguments.targets).await;
        connect_first(&addrs, Duration::from_millis(arguments.stagger)).await
    });
    match connected.await {
        Ok(Some(stream)) => {
            // Where it was connected to is said by the attempt.
            drop(stream);
            return ExitCode::SUCCESS;
        }
        Ok(None) => complain("no address answers"),
        Err(elapsed) => complain(elapsed),
    }
    ExitCode::FAILURE
}

/// Says it on standard output. Not by `println!`, which panics when nobody reads.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says what goes wrong. Not by `eprintln!`, which panics when nobody reads.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "happy_eyeballs: {text}");
}

/// The addresses of all targets. One that has none leaves the others.
async fn look_up(targets: &[String]) -> Vec<SocketAddr> {
    let mut addrs = Vec::new();
    for target in targets {
        match lookup_host(target).await {
            Ok(found) => addrs.extend(found),
            Err(error) => complain(error),
        }
    }
    addrs
}

/// `None` when all have failed.
async fn connect_first(addrs: &[SocketAddr], stagger: Duration) -> Option<TcpStream> {
    // What ends a group early and cancels the rest is an error; here it is the stream that was wanted.
    let connected = try_task_group!(error = TcpStream, |attempts| {
        for addr in addrs {
            let attempt = attempts.spawn(async move {
                match connect(*addr).await {
                    Ok(stream) => Err(stream),
                    Err(error) => {
                        say(format_args!("{addr}: {error}"));
                        Ok(())
                    }
                }
            });
            // It goes on when its handle is dropped.
            let _ = timeout(stagger, attempt).await;
        }
    });
    connected.err()
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    say(format_args!("trying {addr}"));
    let mut attempt = Attempt { addr, has_ended: false };
    let connected = TcpStream::connect(addr).await;
    attempt.has_ended = true;
    if connected.is_ok() {
        say(format_args!("connected to {addr}"));
    }
    connected
}

/// Says when an attempt is cut off.
struct Attempt {
    addr: SocketAddr,
    has_ended: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            say(format_args!("gave up {}", self.addr));
        }
    }
}
