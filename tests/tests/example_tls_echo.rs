//! `examples/others/tls_echo.rs`, with clients on xiio, with `openssl`, and with some that do not speak TLS.
#![allow(missing_docs)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore};
use xiio::net::TcpStream;
use xiio::task_group;
use xiio_tests::example::{Server, example, has_program};
use xiio_tests::run;

/// A server, and its certificate in a file that goes with the test.
struct Tls {
    server: Server,
    certificate: PathBuf,
}

impl Tls {
    fn start(test: &str, arguments: &[&str]) -> Self {
        let certificate = std::env::temp_dir().join(format!("xiio-tls-{test}-{}.pem", std::process::id()));
        let path = certificate.to_str().unwrap();
        let server = Server::start("tls_echo", &[&["--certificate", path], arguments].concat());
        Self { server, certificate }
    }

    /// A connection that trusts this certificate alone.
    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.certificate).unwrap()).unwrap();
        connect(&self.server.address, roots).await
    }

    fn openssl(&self) -> Command {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &self.server.address, "-CAfile"]);
        command.arg(&self.certificate).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
    }
}

async fn connect(address: &str, roots: RootCertStore) -> io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), TcpStream::connect(address).await?).await
}

async fn assert_echoes(stream: &mut TlsStream<TcpStream>, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
    let mut echoed = vec![0; text.len()];
    stream.read_exact(&mut echoed).await.unwrap();
    assert!(echoed == text);
}

#[test]
fn clients_are_served_at_once_and_get_a_proper_end() {
    let tls = Tls::start("at-once", &[]);
    run(async {
        task_group!(|tg| {
            for n in 0..20 {
                let tls = &tls;
                tg.spawn(async move {
                    let mut stream = tls.connect().await.unwrap();
                    // More than a record holds.
                    assert_echoes(&mut stream, &vec![n; 100_000]).await;
                    stream.close().await.unwrap();
                    // rustls makes an error of an end without a goodbye.
                    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
                });
            }
        });
    });
}

#[test]
fn a_client_that_trusts_another_certificate_turns_away() {
    let tls = Tls::start("trust", &[]);
    run(async {
        let refused = connect(&tls.server.address, RootCertStore::empty()).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_echoes(&mut tls.connect().await.unwrap(), b"still there").await;
    });
}

#[test]
fn a_signal_says_goodbye_on_every_connection() {
    let mut tls = Tls::start("goodbye", &[]);
    run(async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = tls.connect().await.unwrap();
            assert_echoes(&mut stream, b"here").await;
            streams.push(stream);
        }
        tls.server.terminate();
        for mut stream in streams {
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        }
    });
    assert_eq!(tls.server.child.wait().unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn one_that_says_nothing_and_one_that_speaks_plainly_are_cut_off() {
    let tls = Tls::start("plain", &["--handshake-time", "300"]);
    let mut silent = tls.server.connect();
    let mut plain = tls.server.connect();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    run(async { assert_echoes(&mut tls.connect().await.unwrap(), b"meanwhile").await });
    assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0);
    let mut answer = Vec::new();
    // Closed with bytes unread is a reset.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.windows(4).any(|word| word == b"HTTP"), "{answer:?}");
}

#[test]
fn openssl_checks_the_certificate_and_is_answered() {
    if !has_program("openssl") {
        return;
    }
    let tls = Tls::start("openssl", &[]);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = tls.openssl().arg(version).spawn().unwrap();
        let mut stdin = client.stdin.take().unwrap();
        let mut stdout = BufReader::new(client.stdout.take().unwrap());
        let mut line = String::new();
        writeln!(stdin, "hello over {version}").unwrap();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("hello over {version}\n"));
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

#[test]
fn openssl_hears_the_goodbye() {
    if !has_program("openssl") {
        return;
    }
    let tls = Tls::start("openssl-goodbye", &[]);
    let mut client = tls.openssl().spawn().unwrap();
    writeln!(client.stdin.as_ref().unwrap(), "hello").unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    tls.server.terminate();
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !text.contains("unexpected eof"), "{text}");
}

#[test]
fn a_certificate_that_cannot_be_written_is_named() {
    let output = example("tls_echo").args(["127.0.0.1:0", "--certificate", "/nowhere/cert.pem"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot write /nowhere/cert.pem: No such file"), "{text}");
}

#[test]
fn one_that_says_no_more_and_one_that_does_not_read_are_said_goodbye() {
    let tls = Tls::start("idle", &["--idle-time", "300"]);
    run(async {
        let mut silent = tls.connect().await.unwrap();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        let mut deaf = tls.connect().await.unwrap();
        // More than is kept on the way, and none of the answers is read.
        while deaf.write_all(&[0; 100_000]).await.is_ok() {}
    });
}
