//! `examples/echo.rs`: a thousand clients, and some that misbehave.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::ExitStatusExt;

use xiio_tests::example::{Server, example};

#[track_caller]
fn assert_echoes(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut echoed = vec![0; text.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, text.as_bytes());
}

#[test]
fn a_thousand_clients_are_served_at_once() {
    let server = Server::start("echo", &[]);
    let clients: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    // All are connected, and then all are answered, the last first.
    for (n, client) in clients.iter().enumerate().rev() {
        assert_echoes(client, &format!("client {n}"));
    }
    for client in &clients {
        assert_echoes(client, "again");
    }
}

#[test]
fn a_client_that_closes_its_half_gets_the_rest_and_the_end() {
    let server = Server::start("echo", &[]);
    let mut client = server.connect();
    client.write_all(b"the last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "the last words");
}

#[test]
fn one_that_resets_and_one_that_does_not_read_disturb_nobody() {
    let server = Server::start("echo", &[]);
    let good = server.connect();
    assert_echoes(&good, "before");

    // It closes with bytes unread, which resets the connection.
    let mut resetting = server.connect();
    resetting.write_all(&[0; 1000]).unwrap();
    let mut byte = [0];
    resetting.read_exact(&mut byte).unwrap();
    drop(resetting);
    assert_echoes(&good, "after a reset");

    // It writes until nothing is taken any more.
    let mut slow = server.connect();
    slow.set_nonblocking(true).unwrap();
    let chunk = vec![b'x'; 1 << 16];
    let (mut n_written, mut n_refused) = (0, 0);
    while n_refused < 50 {
        match slow.write(&chunk) {
            Ok(n) => (n_written, n_refused) = (n_written + n, 0),
            Err(_) => {
                n_refused += 1;
                assert_echoes(&good, "beside a slow reader");
            }
        }
    }
    // As soon as it reads, it gets everything.
    slow.set_nonblocking(false).unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    assert_eq!(slow.read_to_end(&mut Vec::new()).unwrap(), n_written);
}

#[test]
fn a_signal_ends_it_and_is_seen_from_outside() {
    let mut server = Server::start("echo", &[]);
    let client = server.connect();
    assert_echoes(&client, "here");
    server.terminate();
    assert_eq!(server.child.wait().unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let server = Server::start("echo", &[]);
    let output = example("echo").arg(&server.address).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with(&format!("echo: {}: Address already in use", server.address)), "{stderr}");
}
