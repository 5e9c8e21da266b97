//! `examples/http_server.rs` and `examples/http_get.rs`, with each other and with `curl`.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xiio_tests::example::{example, run_with_input};

const LONG: Duration = Duration::from_secs(20);

/// A server that is killed when the test has ended.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = example("http_server");
        let command = command.arg("127.0.0.1:0").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("it says where it listens").to_owned();
        Self { child, address }
    }

    /// What `curl` prints, with the status at its end.
    fn curl(&self, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--write-out", "%{http_code} %{http_version}"]).args(arguments);
        let output = command.arg(format!("http://{}{path}", self.address)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_curl() -> bool {
    let there = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("skipped: there is no `curl` here");
    }
    there
}

#[test]
fn curl_is_answered_in_both_languages() {
    if !has_curl() {
        return;
    }
    let server = Server::start(&[]);
    for (language, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        assert_eq!(server.curl(&[language], "/"), format!("hello\n200 {version}"));
        assert_eq!(server.curl(&[language, "--data", "text"], "/echo"), format!("text200 {version}"));
        assert_eq!(server.curl(&[language], "/nothing"), format!("there is nothing here\n404 {version}"));
    }
}

#[test]
fn a_body_over_the_limit_and_a_request_over_its_time_are_refused() {
    if !has_curl() {
        return;
    }
    let server = Server::start(&["--body-limit", "1000", "--request-time", "0.2"]);
    let body = "x".repeat(1001);
    for (language, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let answer = server.curl(&[language, "--data", &body], "/echo");
        assert_eq!(answer, format!("the body is too long\n413 {version}"));
        assert_eq!(server.curl(&[language], "/sleep?60000"), format!("took too long\n503 {version}"));
    }
    assert_eq!(server.curl(&["--data", &body[..1000]], "/echo"), format!("{}200 1.1", &body[..1000]));
}

#[test]
fn one_connection_serves_several_requests() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello\n") {
            let mut buf = [0; 1024];
            let n = stream.read(&mut buf).unwrap();
            assert!(n > 0, "it was closed in between");
            answer.extend_from_slice(&buf[..n]);
        }
    }
}

#[test]
fn a_client_that_takes_its_time_is_cut_off_and_the_others_are_served() {
    let server = Server::start(&["--head-time", "0.3"]);
    for first in [&b""[..], b"GET / HT", b"PRI * HT"] {
        let start = Instant::now();
        let mut slow = server.connect();
        slow.write_all(first).unwrap();
        let mut quick = server.connect();
        quick.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        quick.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello\n"), "{answer}");
        // Closed with bytes unread is a reset.
        match slow.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{first:?}"),
        }
        assert!(start.elapsed() < LONG);
    }
}

#[test]
fn a_client_that_breaks_off_does_not_disturb_the_server() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf").unwrap();
        drop(stream);
    }
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello\n"), "{answer}");
}

#[test]
fn a_running_request_is_answered_before_the_server_ends() {
    let mut server = Server::start(&[]);
    let idle = server.connect();
    let mut stream = server.connect();
    stream.write_all(b"GET /sleep?400 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // Another one is answered, so the first has been taken.
    let mut probe = server.connect();
    probe.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    probe.read_to_string(&mut String::new()).unwrap();
    server.terminate();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("slept\n"), "{answer}");
    assert!(server.child.wait().unwrap().success());
    assert!(TcpStream::connect(&server.address).is_err());
    drop(idle);
}

#[test]
fn the_fetcher_says_what_became_of_each_url() {
    let server = Server::start(&[]);
    let base = format!("http://{}", server.address);
    let input = format!("{base}/\n\n {base}/nothing\n{base}/sleep?5\n");
    let output = run_with_input(&mut example("http_get"), &input);
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let wanted = [
        format!("200       6  {base}/"),
        format!("200       6  {base}/sleep?5"),
        format!("404      22  {base}/nothing"),
    ];
    assert_eq!(lines, wanted);
    assert!(output.status.success());
}

#[test]
fn the_fetcher_tries_again_and_then_gives_up() {
    let output = run_with_input(
        example("http_get").args(["--retries", "1", "--time", "2000"]),
        "http://127.0.0.1:1/\nftp://127.0.0.1/\n",
    );
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert_eq!(text.matches("---").count(), 2, "{text}");
    assert!(text.contains("only http:// is fetched here"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}
