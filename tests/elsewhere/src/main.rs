//! A little of everything that has a form of its own on each system, to be linked: a child, a signal, a socket, a limit.
//!
//! Where it can be run it prints what the child has written.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use xiio::process::{Command, Stdio, run_process};
use xiio::signal::{self, SIGINT};
use xiio::{read, timeout, write_all};

#[xiio::main]
async fn main() -> io::Result<()> {
    let _interrupts = signal::subscribe(&[SIGINT])?;
    let (ours, theirs) = UnixStream::pair()?;
    write_all(&ours, b"x").await?;
    read(&theirs, &mut [0; 8]).await?;
    let silent = timeout(Duration::from_millis(1), read(&theirs, &mut [0; 8])).await;
    assert!(silent.is_err(), "nobody has written");

    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    child.stop().await?;
    let said = run_process(["echo", "a child"]).capture_output(true).check(true).await?;
    print!("{}", String::from_utf8_lossy(&said.stdout));
    Ok(())
}
