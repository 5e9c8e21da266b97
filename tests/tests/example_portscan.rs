//! `examples/portscan.rs`: all that is open, and nothing else.
#![allow(missing_docs)]

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Duration;

use xiio::net::TcpSocket;
use xiio_tests::example::example;
use xiio_tests::os::nobody_reads;

fn run(arguments: &[&str]) -> (Vec<u16>, String, Option<i32>) {
    let output = example("portscan").args(arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let ports = stdout.lines().map(|line| line.parse().unwrap()).collect();
    (ports, String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// Listens on some ports of a range, those that are free.
fn listen(ports: impl Iterator<Item = u16>) -> Vec<(u16, TcpListener)> {
    ports.filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?))).collect()
}

#[test]
fn finds_the_open_ones_among_ten_thousand() {
    // Below the range from which the system takes ports by itself.
    let listeners = listen((1200..10_000).step_by(791));
    assert!(!listeners.is_empty());
    let (ports, stderr, code) = run(&[]);
    for (port, _) in &listeners {
        assert!(ports.contains(port), "{port} is open, and {ports:?} were found");
    }
    assert!(ports.is_sorted());
    let summary = format!("portscan: {} of 10000 ports of 127.0.0.1 are open\n", ports.len());
    assert_eq!((stderr, code), (summary, Some(0)));
}

#[test]
fn a_range_of_its_own_and_one_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ports, stderr, code) = run(&["--ports", &port.to_string(), "--jobs", "1"]);
    assert_eq!((ports, code), (vec![port], Some(0)));
    assert_eq!(stderr, "portscan: 1 of 1 ports of 127.0.0.1 are open\n");
}

#[test]
fn a_range_that_is_none_is_explained() {
    let (_, stderr, code) = run(&["--ports", "9-1"]);
    assert!(stderr.contains("expected the lower port first, got 9 before 1"), "{stderr}");
    assert_eq!(code, Some(2));
}

#[test]
fn a_server_that_hangs_up_at_once_is_open_and_nobody_has_to_hear_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let hanging_up = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            // So the end is a reset.
            let socket = TcpSocket::try_from(OwnedFd::from(stream.unwrap())).unwrap();
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    let (ports, stderr, code) = run(&["--ports", &port]);
    assert_eq!((ports.len(), code), (1, Some(0)), "{stderr}");
    let output = example("portscan").args(["--ports", &port]).stdout(nobody_reads()).output().unwrap();
    assert!(output.status.success());
    hanging_up.join().unwrap();
}
