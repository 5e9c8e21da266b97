//! `examples/happy_eyeballs.rs`: who is tried, who wins, who is given up.
#![allow(missing_docs)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use xiio_tests::example::example;
use xiio_tests::os::nobody_reads;

const ANY: &str = "127.0.0.1:0";

/// What it prints on either stream, and its exit code.
fn run(arguments: &[String]) -> (String, String, Option<i32>) {
    let output = example("happy_eyeballs").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// A listener whose queue is full: who connects to it gets no answer.
fn mute() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let listener = TcpListener::bind(ANY).unwrap();
    // SAFETY: takes its arguments by value.
    #[expect(unsafe_code, reason = "std has no way to a small queue")]
    let listening = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(listening, 0);
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        queued.push(stream);
    }
    (addr, queued, listener)
}

fn refusing() -> SocketAddr {
    TcpListener::bind(ANY).unwrap().local_addr().unwrap()
}

#[test]
fn the_first_that_answers_wins_and_the_rest_is_given_up() {
    let (mute, _queued, _mute_listener) = mute();
    let refusing = refusing();
    let good = TcpListener::bind(ANY).unwrap();
    let good_addr = good.local_addr().unwrap();
    let never = TcpListener::bind(ANY).unwrap();
    let targets = [refusing, mute, good_addr, never.local_addr().unwrap()].map(|addr| addr.to_string());
    let started = Instant::now();
    let (stdout, stderr, code) = run(&targets);
    let expected = format!(
        "trying {refusing}\n{refusing}: Connection refused (os error 111)\ntrying {mute}\ntrying {good_addr}\n\
         connected to {good_addr}\ngave up {mute}\n"
    );
    assert_eq!((stdout, stderr, code), (expected, String::new(), Some(0)));
    assert!(started.elapsed() >= Duration::from_millis(250));
}

#[test]
fn nobody_answers() {
    let refusing = refusing();
    let (stdout, stderr, code) = run(&[refusing.to_string()]);
    assert_eq!(stdout, format!("trying {refusing}\n{refusing}: Connection refused (os error 111)\n"));
    assert_eq!((stderr.as_str(), code), ("happy_eyeballs: no address answers\n", Some(1)));
}

#[test]
fn the_time_is_over_while_it_waits() {
    let (mute, _queued, _listener) = mute();
    let (stdout, stderr, code) = run(&[mute.to_string(), "--timeout=0.2".into()]);
    assert_eq!(stdout, format!("trying {mute}\ngave up {mute}\n"));
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("happy_eyeballs: "), "{stderr}");
}

#[test]
fn a_name_stands_for_its_addresses() {
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let (stdout, _, code) = run(&[format!("localhost:{}", addr.port())]);
    assert!(stdout.ends_with(&format!("connected to {addr}\n")), "{stdout}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_target_that_is_none_is_explained() {
    let (_, stderr, code) = run(&["nowhere".into()]);
    let expected =
        "happy_eyeballs: expected `host:port`, got `nowhere`: there is no port\nhappy_eyeballs: no address answers\n";
    assert_eq!((stderr.as_str(), code), (expected, Some(1)));
}

#[test]
fn a_time_below_zero_is_refused() {
    let (stdout, stderr, code) = run(&[refusing().to_string(), "--timeout=-1".into()]);
    assert!(stderr.contains("'-1' for '--timeout <TIMEOUT>'"), "{stderr}");
    assert_eq!((stdout.as_str(), code), ("", Some(2)));
}

#[test]
fn a_target_that_is_none_leaves_the_others_and_nobody_has_to_hear_of_it() {
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let targets = ["nowhere".to_owned(), addr.to_string()];
    let (stdout, stderr, code) = run(&targets);
    assert_eq!(stdout, format!("trying {addr}\nconnected to {addr}\n"));
    assert_eq!(stderr, "happy_eyeballs: expected `host:port`, got `nowhere`: there is no port\n");
    assert_eq!(code, Some(0));
    let mut command = example("happy_eyeballs");
    let status = command.args(targets).stdout(nobody_reads()).stderr(nobody_reads()).status().unwrap();
    assert!(status.success());
}
