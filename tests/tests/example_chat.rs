//! `examples/chat.rs`: talk over TCP and a Unix socket, and the goodbye.
#![allow(missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use xiio_tests::example::example;
use xiio_tests::os::nobody_reads;

const LONG: Duration = Duration::from_secs(60);

/// The program, killed at the end of the test.
struct Server {
    child: Child,
    tcp: String,
    unix: PathBuf,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(name: &str) -> Self {
        let unix = std::env::temp_dir().join(format!("xiio-chat-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&unix);
        let mut child = example("chat")
            .args(["--tcp", "127.0.0.1:0", "--unix"])
            .arg(&unix)
            .stdout(Stdio::piped())
            .stderr(nobody_reads())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut next_address = || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line.trim_end().strip_prefix("listening on ").unwrap().to_string()
        };
        let tcp = next_address();
        assert_eq!(next_address(), unix.to_str().unwrap());
        Self { child, tcp, unix, _stdout: stdout }
    }

    fn tcp(&self, name: &str) -> Client<TcpStream> {
        let stream = TcpStream::connect(&self.tcp).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client::enter(stream.try_clone().unwrap(), stream, name)
    }

    fn unix(&self, name: &str) -> Client<UnixStream> {
        let stream = UnixStream::connect(&self.unix).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client::enter(stream.try_clone().unwrap(), stream, name)
    }

    #[expect(unsafe_code, reason = "std does not send signals")]
    fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: takes its arguments by value; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.unix);
    }
}

struct Client<S> {
    lines: BufReader<S>,
    stream: S,
}

impl<S: Read + Write> Client<S> {
    fn enter(reading: S, stream: S, name: &str) -> Self {
        let mut client = Self { lines: BufReader::new(reading), stream };
        client.hears("Your name?");
        client.says(name);
        client
    }

    fn says(&mut self, text: &str) {
        self.stream.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    fn hears(&mut self, text: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{text}\n"));
    }

    #[track_caller]
    fn hears_the_end(&mut self) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn what_one_says_the_others_hear() {
    let server = Server::start("talk");
    let mut ada = server.tcp("Ada");
    ada.hears("* welcome, Ada; with you: nobody");
    let mut grace = server.unix("Grace");
    grace.hears("* welcome, Grace; with you: Ada");
    ada.hears("* Grace has come");
    let mut alan = server.tcp("Alan");
    alan.hears("* welcome, Alan; with you: Ada, Grace");
    ada.hears("* Alan has come");
    grace.hears("* Alan has come");
    grace.says("hello");
    ada.hears("Grace: hello");
    alan.hears("Grace: hello");
    drop(alan);
    ada.hears("* Alan has left");
    grace.hears("* Alan has left");
}

#[test]
fn a_signal_says_goodbye_to_every_client_and_ends_it() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut server = Server::start(&format!("goodbye-{signal}"));
        let mut ada = server.tcp("Ada");
        ada.hears("* welcome, Ada; with you: nobody");
        let mut grace = server.unix("Grace");
        grace.hears("* welcome, Grace; with you: Ada");
        ada.hears("* Grace has come");
        let stream = TcpStream::connect(&server.tcp).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut unnamed = Client { lines: BufReader::new(stream.try_clone().unwrap()), stream };
        unnamed.hears("Your name?");
        server.signal(signal);
        unnamed.hears("* goodbye");
        unnamed.hears_the_end();
        ada.hears("* goodbye, Ada");
        ada.hears_the_end();
        grace.hears("* goodbye, Grace");
        grace.hears_the_end();
        assert_eq!(server.child.wait().unwrap().signal(), Some(signal));
        assert!(!server.unix.exists());
    }
}

#[test]
fn a_client_that_does_not_read_is_sent_away_and_holds_up_nobody() {
    let server = Server::start("slow");
    let mut ada = server.tcp("Ada");
    ada.hears("* welcome, Ada; with you: nobody");
    let mut slow = server.unix("slow");
    slow.hears("* welcome, slow; with you: Ada");
    ada.hears("* slow has come");
    let mut grace = server.tcp("Grace");
    grace.hears("* welcome, Grace; with you: Ada, slow");
    ada.hears("* Grace has come");
    let long = "x".repeat(900);
    let started = Instant::now();
    // It says so much that no buffer holds it. Grace reads it all.
    for n in 0..2000 {
        ada.says(&format!("{n} {long}"));
        let mut line = String::new();
        grace.lines.read_line(&mut line).unwrap();
        if line == "* slow has left\n" {
            return;
        }
        assert!(line.starts_with("Ada: "), "{line}");
    }
    panic!("it was not sent away within {:?}", started.elapsed());
}

#[test]
fn a_line_that_is_too_long_ends_its_client_only() {
    let server = Server::start("long");
    let mut ada = server.tcp("Ada");
    ada.hears("* welcome, Ada; with you: nobody");
    let mut grace = server.tcp("Grace");
    ada.hears("* Grace has come");
    grace.says(&"x".repeat(5000));
    ada.hears("* Grace has left");
    let mut alan = server.tcp("Alan");
    alan.hears("* welcome, Alan; with you: Ada");
}

#[test]
fn where_it_cannot_listen_is_told() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let complaint = |arguments: &[&str]| {
        let output = example("chat").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let taken = complaint(&["--tcp", &address]);
    assert_eq!(taken, format!("chat: cannot listen on {address}: Address already in use (os error 98)\n"));
    let no_socket = complaint(&["--tcp", "127.0.0.1:0", "--unix", "/"]);
    assert_eq!(no_socket, "chat: cannot listen on /: Address already in use (os error 98)\n");
}

#[test]
fn a_server_with_clients_that_do_not_read_ends_in_time() {
    let mut server = Server::start("stuck");
    let mut ada = server.tcp("Ada");
    ada.hears("* welcome, Ada; with you: nobody");
    let _unnamed = TcpStream::connect(&server.tcp).unwrap();
    let started = Instant::now();
    server.signal(libc::SIGTERM);
    ada.hears("* goodbye, Ada");
    assert_eq!(server.child.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert!(started.elapsed() < Duration::from_secs(30));
}
