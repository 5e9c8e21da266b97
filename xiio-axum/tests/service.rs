//! The example `service`, with `curl`, a client of WebSockets, and `wrk` or `oha` where there is one.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use xiio_tests::example::{example, has_program};
use xiio_tests::os::{nobody_reads, send};

const LONG: Duration = Duration::from_secs(60);

struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Service {
    fn start() -> Self {
        let mut command = example("service");
        let mut child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).stderr(nobody_reads()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, stdout, address: String::new() };
        let line = service.line();
        line.strip_prefix("listening on ").unwrap().clone_into(&mut service.address);
        service
    }

    /// The next line that it says.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60"]).args(arguments);
        command.arg(format!("http://{}{path}", self.address));
        command
    }

    fn curled(&self, arguments: &[&str], path: &str) -> String {
        let output = self.curl(arguments, path).args(["--write-out", " %{http_code}"]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn enter_room(&self, name: &str) -> WebSocket<TcpStream> {
        tungstenite::client(format!("ws://{}/room/{name}", self.address), self.connect()).unwrap().0
    }

    fn terminate(&self) {
        assert!(send(self.child.id(), xiio::signal::SIGTERM));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn curl_is_answered_in_both_languages() {
    if !has_program("curl") {
        return;
    }
    let mut service = Service::start();
    let json = ["--header", "content-type: application/json", "--data", r#"{"name":"Ada"}"#];
    for (id, language) in [(1, "--http1.1"), (2, "--http2-prior-knowledge")] {
        let added = service.curled(&[&json[..], &[language]].concat(), "/users");
        assert_eq!(added, format!(r#"{{"id":{id},"name":"Ada"}} 201"#));
        assert_eq!(service.line(), "a letter for Ada", "the job of the request");
        assert_eq!(service.curled(&[language], "/users/1"), r#"{"id":1,"name":"Ada"} 200"#);
        assert_eq!(service.curled(&[language], "/users/7"), " 404");
        assert_eq!(service.curled(&[language], "/both"), "3 + 4 = 7\n 200");
        assert_eq!(service.curled(&[language], "/bug"), " 500");
        // Without a body: one that nobody reads is reset in HTTP/2, which curl takes for a failure where it is still sending.
        let refused = service.curled(&[language, "--request", "POST"], "/users");
        assert!(refused.ends_with(" 415"), "no JSON, says its head: {refused}");
    }
}

#[test]
fn body_is_streamed_up_and_one_that_breaks_off_is_told_of() {
    if !has_program("curl") {
        return;
    }
    let mut service = Service::start();
    let mut child =
        service.curl(&["--data-binary", "@-"], "/count").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("some text\n".repeat(100_000).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1000000 bytes in 100000 lines\n");
    assert_eq!(service.line(), "counted 100000 lines");
    let mut client = service.connect();
    client.write_all(b"POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\none\ntwo\n").unwrap();
    drop(client);
    assert_eq!(service.line(), "counted 2 lines");
}

#[test]
fn events_are_streamed_down_and_a_client_that_leaves_stops_them() {
    let mut service = Service::start();
    let mut client = service.connect();
    client.write_all(b"GET /ticks HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(client).lines();
    assert!(lines.any(|line| line.unwrap() == "data: 2"));
    drop(lines);
    assert!(service.line().starts_with("stopped before tick "));
}

#[test]
fn room_passes_texts_on_and_says_goodbye() {
    let service = Service::start();
    let mut ada = service.enter_room("Ada");
    ada.send(Message::text("is anybody here?")).unwrap();
    let mut grace = service.enter_room("Grace");
    assert_eq!(ada.read().unwrap(), Message::text("* Grace has come"));
    grace.send(Message::text("hello!")).unwrap();
    assert_eq!(ada.read().unwrap(), Message::text("Grace: hello!"));
    ada.send(Message::text("hello, Grace!")).unwrap();
    assert_eq!(grace.read().unwrap(), Message::text("Ada: hello, Grace!"));
    // Without a word.
    drop(grace);
    assert_eq!(ada.read().unwrap(), Message::text("* Grace has left"));
    service.terminate();
    assert_eq!(ada.read().unwrap(), Message::text("* goodbye, Ada"));
    assert!(ada.read().unwrap().is_close());
}

#[test]
fn member_that_does_not_read_is_sent_away() {
    let service = Service::start();
    let mut ada = service.enter_room("Ada");
    let _mute = service.enter_room("Grace");
    assert_eq!(ada.read().unwrap(), Message::text("* Grace has come"));
    // More than the kernel keeps for somebody who does not read, and each is passed on before the next one comes.
    for n in 0..20_000 {
        ada.write(Message::text("x".repeat(1000))).unwrap();
        ada.send(Message::Ping("".into())).unwrap();
        if let Message::Text(text) = ada.read().unwrap() {
            assert_eq!(text, "* Grace has left", "after {n} texts");
            return;
        }
    }
    assert_eq!(ada.read().unwrap(), Message::text("* Grace has left"));
}

#[test]
fn end_answers_what_runs_and_waits_for_the_letter() {
    let mut service = Service::start();
    let mut events = service.connect();
    events.write_all(b"GET /ticks HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 1];
    events.read_exact(&mut first).unwrap();
    let mut client = service.connect();
    let body = r#"{"name":"Ada"}"#;
    let head = "POST /users HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    client.read_exact(&mut first).unwrap();
    service.terminate();
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the stream has come to its end: {rest}");
    let said = [service.line(), service.line()];
    assert!(said.iter().any(|line| line == "a letter for Ada"), "{said:?}");
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn load_is_answered_without_an_error() {
    let service = Service::start();
    let url = format!("http://{}/both", service.address);
    let output = if has_program("wrk") {
        Command::new("wrk").args(["-t1", "-c50", "-d2s", &url]).output().unwrap()
    } else if has_program("oha") {
        Command::new("oha").args(["--no-tui", "-c", "50", "-z", "2s", &url]).output().unwrap()
    } else {
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    assert_eq!(service.curled(&[], "/both"), "3 + 4 = 7\n 200");
}
