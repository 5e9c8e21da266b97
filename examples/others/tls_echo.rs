//! Sends every client back what it sends, over TLS, with a certificate that is made at the start.
//!
//! Shows: a library over the traits of `futures-io` (feature `futures-io`), here `futures-rustls`, works on xiio's
//! streams as it is. The number of clients is bounded before they are taken. One that does not get through its handshake is cut off, and one that
//! says nothing or does not read. A `bracket` says goodbye on every connection, also when Ctrl-C cancels it. TLS has a message for that, which a destructor could not send, and without
//! which a client takes the end for an attack.
//!
//! ```text
//! $ cargo run --release --package xiio-examples-others --example tls_echo -- --certificate cert.pem &
//! listening on 127.0.0.1:7443
//! $ (echo hello; sleep 1) | openssl s_client -quiet -no_ign_eof -connect localhost:7443 -CAfile cert.pem -verify_return_error
//! hello
//! ```
//!
//! The certificate is for `localhost`, signed by itself, and gone with the program; its key never leaves the memory.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_lock::Semaphore;
use clap::Parser;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::pki_types::PrivateKeyDer;
use futures_rustls::server::TlsStream;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use xiio::net::{TcpListener, TcpStream};
use xiio::{bracket, task_group, timeout};

/// How many clients are served at once. The others wait in the queue of the system.
const N_CLIENTS: usize = 1000;

/// How long a client has to take its goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Sends every client back what it sends, over TLS.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any that is free
    #[arg(default_value = "127.0.0.1:7443")]
    address: String,
    /// Where to write the certificate, for clients that want to check it
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Milliseconds that a handshake may take
    #[arg(long, default_value_t = 5000)]
    handshake_time: u64,
    /// Milliseconds that a client may say nothing, or not read
    #[arg(long, default_value_t = 60_000)]
    idle_time: u64,
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), grace = Duration::from_secs(2), name = "tls_echo")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match serve(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls_echo: {}: {error}", arguments.address);
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let acceptor = make_acceptor(arguments)?;
    let places = Semaphore::new(N_CLIENTS);
    let listener = TcpListener::bind(&*arguments.address).await?;
    println!("listening on {}", listener.local_addr()?);
    task_group!(name = "clients", |clients| {
        let mut incoming = listener.incoming();
        loop {
            // Before the client: the `limit` of a group would hold the connections of those that wait.
            let place = places.acquire().await;
            let Some(client) = incoming.next().await else { break };
            match client {
                Ok(stream) => {
                    clients.spawn(async {
                        if let Err(error) = serve_client(&acceptor, stream, arguments).await {
                            complain(format_args!("a client: {error}"));
                        }
                        drop(place);
                    });
                }
                Err(error) => complain(format_args!("cannot take a client: {error}")),
            }
        }
    });
    Ok(())
}

/// Says what goes wrong. Not by `eprintln!`, which panics when nobody reads, and would end the server.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What accepts TLS, with a certificate of its own.
fn make_acceptor(arguments: &Arguments) -> Result<TlsAcceptor, Box<dyn Error>> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    if let Some(path) = &arguments.certificate {
        fs::write(path, cert.pem()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve_client(acceptor: &TlsAcceptor, stream: TcpStream, arguments: &Arguments) -> io::Result<()> {
    let handshake_time = Duration::from_millis(arguments.handshake_time);
    let idle_time = Duration::from_millis(arguments.idle_time);
    let stream = timeout(handshake_time, acceptor.accept(stream)).await??;
    bracket(
        stream,
        async |stream| echo(stream, idle_time).await,
        async |mut stream| {
            // One that has gone needs no goodbye, and one that does not read gets none.
            let _ = timeout(GOODBYE, stream.close()).await;
        },
    )
    .await
}

async fn echo(stream: &mut TlsStream<TcpStream>, idle_time: Duration) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        let n_read = timeout(idle_time, stream.read(&mut buf)).await??;
        if n_read == 0 {
            return Ok(());
        }
        let answer = async {
            stream.write_all(&buf[..n_read]).await?;
            stream.flush().await
        };
        timeout(idle_time, answer).await??;
    }
}
