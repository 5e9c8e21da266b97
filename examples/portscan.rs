//! Looks which ports of a host are open, a few hundred at a time.
//!
//! Shows: `as_completed` over ten thousand futures of which only so many run at once, and what they give in the order in which they end;
//! a time limit on each; a progress bar while standard error is a terminal.
//!
//! ```text
//! $ cargo run --release --example portscan
//! 22
//! 5432
//! portscan: 2 of 10000 ports of 127.0.0.1 are open
//! ```
//!
//! The ports are on standard output, the summary on standard error. The exit code is 1 when a port could not be looked at.
//! Scan hosts that are yours.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::ProgressBar;
use xiio::net::TcpStream;
use xiio::{as_completed, timeout};

/// Looks which ports of a host are open.
#[derive(Parser)]
struct Arguments {
    /// The host, as an address
    #[arg(default_value = "127.0.0.1")]
    host: IpAddr,
    /// Which ports, as first-last
    #[arg(short, long, default_value = "1-10000", value_parser = parse_ports)]
    ports: RangeInclusive<u16>,
    /// How many ports to look at at once
    #[arg(short, long, default_value = "256")]
    jobs: NonZeroUsize,
    /// How many milliseconds a port has to answer
    #[arg(long, default_value_t = 1000)]
    timeout: u64,
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parse = |port: &str| port.parse::<u16>().map_err(|error| format!("`{port}`: {error}"));
    let (first, last) = (parse(first)?, parse(last)?);
    if first > last {
        return Err(format!("expected the lower port first, got {first} before {last}"));
    }
    Ok(first..=last)
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), name = "portscan")]
async fn main() -> ExitCode {
    let Arguments { host, ports, jobs, timeout } = Arguments::parse();
    let limit = Duration::from_millis(timeout);
    let n_ports = ports.len();
    let progress = if io::stderr().is_terminal() { ProgressBar::new(n_ports as u64) } else { ProgressBar::hidden() };
    let looks = ports.map(|port| async move { (port, is_open(host, port, limit).await) });
    let (mut open, failed) = as_completed(looks)
        .limit(jobs.get())
        .consume(async |looks| {
            let (mut open, mut failed) = (Vec::new(), None);
            while let Some((port, look)) = looks.next().await {
                progress.inc(1);
                match look {
                    Ok(true) => open.push(port),
                    Ok(false) => {}
                    Err(error) => failed = Some((port, error)),
                }
            }
            (open, failed)
        })
        .await;
    progress.finish_and_clear();
    open.sort_unstable();
    open.iter().for_each(say);
    let _ = writeln!(io::stderr(), "portscan: {} of {n_ports} ports of {host} are open", open.len());
    match failed {
        None => ExitCode::SUCCESS,
        Some((port, error)) => {
            let _ = writeln!(io::stderr(), "portscan: cannot look at all of them, as at {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says it on standard output. Not by `println!`, which panics when nobody reads.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Whether somebody answers. An error is one of this end: then it is not known.
async fn is_open(host: IpAddr, port: u16, limit: Duration) -> io::Result<bool> {
    match timeout(limit, TcpStream::connect((host, port))).await {
        // A port from which connections are made may happen to connect to itself. Not asked by `peer_addr`: who has answered may have gone.
        Ok(Ok(stream)) => Ok(stream.local_addr()? != SocketAddr::new(host, port)),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        // Who has answered has hung up at once: before an answer there is nothing to be reset.
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Ok(false),
    }
}
