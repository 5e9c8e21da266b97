//! `examples/portscan.rs`: all that is open, and nothing else.
#![allow(missing_docs)]

use std::net::TcpListener;

use xiio_tests::example::example;

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
