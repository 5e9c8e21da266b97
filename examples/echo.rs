//! Sends every client back what it sends, any number of them at once.
//!
//! Shows: sockets of `std::net`, waited for with `readable`, `read` and `write_all`, which work with anything that has a
//! descriptor; a group as the server, and a task for each client that what happens to another does not disturb.
//!
//! ```text
//! $ cargo run --release --example echo &
//! listening on 127.0.0.1:7007
//! $ printf 'hello\n' | nc -N 127.0.0.1 7007
//! hello
//! ```
//!
//! A client that closes its half gets the rest and then the end; one that does not read waits for itself alone; one that
//! breaks off is noted on standard error. Where there are no more descriptors, new clients wait in the queue until others
//! have left. Ctrl-C ends it. With `xiio::net` in place of `std::net` the loop is shorter, and each client costs two system
//! calls less a round: see `chat.rs`.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use xiio::{catch_panic, read, readable, sleep, task_group, write_all};

/// How long the server rests when it cannot take a client: the same would happen at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends every client back what it sends.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any that is free
    #[arg(default_value = "127.0.0.1:7007")]
    address: String,
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), name = "echo")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Err(error) = serve(&arguments.address).await;
    eprintln!("echo: {}: {error}", arguments.address);
    ExitCode::FAILURE
}

/// Ends only with an error, of the listener.
async fn serve(address: &str) -> io::Result<std::convert::Infallible> {
    let listener = TcpListener::bind(address)?;
    // A client that was in the queue may be gone when it is taken.
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    task_group!(name = "clients", |clients| {
        loop {
            readable(&listener).await?;
            match listener.accept() {
                Ok((stream, address)) => {
                    clients.spawn(async move {
                        match catch_panic(echo(&stream)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => complain(format_args!("{address}: {error}")),
                            // A bug that one client has met is not the others' affair.
                            Err(panic) => complain(format_args!("{address}: {panic}")),
                        }
                    });
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    complain(format_args!("cannot take a client: {error}"));
                    sleep(PAUSE).await;
                }
            }
        }
    })
}

/// Says what goes wrong. Not by `eprintln!`, which panics when nobody reads, and would end the server.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether the next client may be asked for at once.
fn is_of_one_client(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

async fn echo(stream: &TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match read(stream, &mut buf).await? {
            0 => return Ok(()),
            n_read => write_all(stream, &buf[..n_read]).await?,
        }
    }
}
