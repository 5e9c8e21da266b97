//! `http_server`, `http_get` and `reqwest_get`: with each other, with `curl` and `wrk`, and with
//! peers that misbehave.
#![allow(missing_docs)]

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use xiio_tests::example::{Server, example, has_program, run_with_input};
use xiio_tests::os::{is_running, nobody_reads, pseudo_terminal, send, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A server that cuts nobody off.
const PATIENT: [&str; 4] = ["--request-time", "3600", "--head-time", "3600"];

fn serve(arguments: &[&str]) -> Server {
    Server::start("http_server", arguments)
}

/// `curl` for a path of the server.
fn curl(server: &Server, arguments: &[&str], path: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "60"]).args(arguments).arg(format!("http://{}{path}", server.address));
    command
}

/// What `curl` prints, with the status and the version at its end.
fn curled(server: &Server, arguments: &[&str], path: &str) -> String {
    let output = curl(server, arguments, path).args(["--write-out", "%{http_code} %{http_version}"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The whole answer to what is sent on a connection of its own, which the server closes afterwards.
fn answer_to(server: &Server, request: &str) -> String {
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A connection is taken after those before it, so what these had sent has arrived when this one is answered.
fn probe(server: &Server) {
    let answer = answer_to(server, "GET / HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("hello\n"), "{answer}");
}

#[test]
fn curl_is_answered_in_both_languages() {
    if !has_program("curl") {
        return;
    }
    let server = serve(&[]);
    for (language, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        assert_eq!(curled(&server, &[language], "/"), format!("hello\n200 {version}"));
        assert_eq!(curled(&server, &[language, "--data", "text"], "/echo"), format!("text200 {version}"));
        assert_eq!(curled(&server, &[language], "/nothing"), format!("there is nothing here\n404 {version}"));
    }
}

#[test]
fn a_body_over_the_limit_and_a_request_over_its_time_are_refused() {
    if !has_program("curl") {
        return;
    }
    let server = serve(&["--body-limit", "1000", "--request-time", "0.2"]);
    let body = "x".repeat(1001);
    for (language, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let answer = curled(&server, &[language, "--data", &body], "/echo");
        assert_eq!(answer, format!("the body is too long\n413 {version}"));
        assert_eq!(curled(&server, &[language], "/sleep?60000"), format!("took too long\n503 {version}"));
    }
    assert_eq!(curled(&server, &["--data", &body[..1000]], "/echo"), format!("{}200 1.1", &body[..1000]));
}

#[test]
fn one_connection_serves_several_requests() {
    let server = serve(&[]);
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it is not closed in between");
            answer.extend(byte);
        }
    }
}

#[test]
fn a_client_that_takes_its_time_is_cut_off_and_the_others_are_served() {
    let server = serve(&["--head-time", "0.3"]);
    for first in [&b""[..], b"GET / HT", b"PRI * HT"] {
        let start = Instant::now();
        let mut slow = server.connect();
        slow.write_all(first).unwrap();
        probe(&server);
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
    let server = serve(&[]);
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf").unwrap();
        drop(stream);
    }
    probe(&server);
}

#[test]
fn a_running_request_is_answered_before_the_server_ends() {
    let mut server = serve(&[]);
    let idle = server.connect();
    let mut stream = server.connect();
    stream.write_all(b"GET /sleep?400 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    probe(&server);
    server.terminate();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("slept\n"), "{answer}");
    assert!(server.child.wait().unwrap().success());
    assert!(TcpStream::connect(&server.address).is_err());
    drop(idle);
}

#[test]
fn a_signal_ends_the_listening_at_once() {
    each_number_of_workers(|arguments| {
        let mut server = serve(arguments);
        let mut idle = server.connect();
        let mut busy = server.connect();
        busy.write_all(b"GET /sleep?3600000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        probe(&server);
        server.terminate();
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "it has noticed");
        assert_eq!(TcpStream::connect(&server.address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(busy);
        assert!(server.child.wait().unwrap().success());
    });
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let server = serve(&["--request-time", "0.2"]);
    let answer = answer_to(&server, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("took too long\n"), "{answer}");
}

#[test]
fn a_running_request_of_http2_is_answered_before_the_server_ends() {
    if !has_program("curl") {
        return;
    }
    let mut server = serve(&[]);
    let mut curl = curl(&server, &["--http2-prior-knowledge", "--verbose"], "/sleep?400");
    let mut curl = curl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(curl.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("> GET /sleep")), "it did not ask");
    probe(&server);
    server.terminate();
    assert_eq!(curl.wait_with_output().unwrap().stdout, b"slept\n");
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn a_client_of_http2_that_does_not_hear_of_the_end_does_not_hold_it_up() {
    let mut server = serve(&["--head-time", "0.2", "--request-time", "0.2"]);
    let mut client = server.connect();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let start = Instant::now();
    for stream in (1_u32..).step_by(2) {
        let request = [&[0, 0, 6, 1, 5][..], &stream.to_be_bytes(), &[0x82, 0x86, 0x84, 0x41, 1, b'x']].concat();
        // It asks more often than it is asked.
        let _ = client.write_all(&request);
        thread::sleep(Duration::from_millis(10));
        if stream == 11 {
            server.terminate();
        }
        if let Some(status) = server.child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the server does not end");
    }
}

#[test]
fn the_request_of_a_client_that_has_gone_keeps_nobody() {
    let mut server = serve(&PATIENT);
    let mut stream = server.connect();
    stream.write_all(b"GET /sleep?3600000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    probe(&server);
    drop(stream);
    if has_program("curl") {
        let gone = curl(&server, &["--http2-prior-knowledge", "--max-time", "0.3"], "/sleep?3600000").status().unwrap();
        assert!(!gone.success());
    }
    let start = Instant::now();
    server.terminate();
    assert!(server.child.wait().unwrap().success());
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_load_is_served_without_errors() {
    if !has_program("wrk") {
        return;
    }
    let server = serve(&[]);
    let url = format!("http://{}/", server.address);
    let output = Command::new("wrk").args(["-t1", "-c64", "-d2s", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("Requests/sec"), "{text}");
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    probe(&server);
}

#[test]
fn the_fetcher_says_what_became_of_each_url() {
    let server = serve(&[]);
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

/// Answers each request on `listener` with what `answer` makes of its number, and closes.
fn answer_each(listener: &TcpListener, n_requests: usize, answer: impl Fn(usize) -> String + Sync) {
    std::thread::scope(|scope| {
        for n in 0..n_requests {
            let (stream, _) = listener.accept().unwrap();
            let answer = &answer;
            scope.spawn(move || {
                read_head(&stream);
                (&stream).write_all(answer(n).as_bytes()).unwrap();
            });
        }
    });
}

fn read_head(stream: &TcpStream) {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.take_while(|line| !line.is_empty()).count() > 0);
}

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn the_fetcher_asks_for_so_many_at_once_and_no_more() {
    const N_JOBS: usize = 3;
    let (listener, url) = listen();
    let (n_running, n_most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all_are_here = Barrier::new(N_JOBS);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            answer_each(&listener, 3 * N_JOBS, |_| {
                n_most.fetch_max(n_running.fetch_add(1, SeqCst) + 1, SeqCst);
                all_are_here.wait();
                n_running.fetch_sub(1, SeqCst);
                GOOD.to_owned()
            });
        });
        let output = run_with_input(example("http_get").args(["--jobs", "3"]), &format!("{url}\n").repeat(3 * N_JOBS));
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap().matches("200       2").count(), 3 * N_JOBS);
    });
    assert_eq!(n_most.into_inner(), N_JOBS);
}

#[test]
fn the_fetcher_waits_longer_before_each_further_attempt() {
    let (listener, url) = listen();
    let start = Instant::now();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| answer_each(&listener, 3, |n| if n < 2 { BUSY } else { GOOD }.to_owned()));
        run_with_input(&mut example("http_get"), &url)
    });
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("200       2  {url}\n"));
    assert!(start.elapsed() >= Duration::from_millis(50 + 100));
}

#[test]
fn the_fetcher_gives_up_on_a_server_that_says_nothing() {
    let (_listener, url) = listen();
    let output = run_with_input(example("http_get").args(["--retries", "1", "--time", "100"]), &url);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("---       -  {url}: time limit is over\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_fetcher_shows_progress_on_a_terminal() {
    let server = serve(&[]);
    let (terminal, stderr) = pseudo_terminal();
    let url = format!("http://{}/\n", server.address);
    let mut command = example("http_get");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    child.stdin.take().unwrap().write_all(url.repeat(2).as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    // It holds the other end of the terminal still.
    drop(command);
    let mut shown = Vec::new();
    // A terminal that nobody writes to any more is an error at its end.
    let _ = File::from(terminal).read_to_end(&mut shown);
    assert_eq!(String::from_utf8(shown).unwrap(), "\r\x1b[K1 of 2\r\x1b[K2 of 2\r\n");
}

#[test]
fn the_fetcher_keeps_a_name_and_a_password_to_itself_and_needs_nobody_who_reads() {
    let (listener, _) = listen();
    let addr = listener.local_addr().unwrap();
    let fetcher = std::thread::scope(|scope| {
        let fetching = scope.spawn(move || {
            let mut command = example("http_get");
            let mut child =
                command.stdin(Stdio::piped()).stdout(nobody_reads()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(format!("http://ada:secret@{addr}/\n").as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let (stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        assert!(head.contains(&format!("host: {addr}")), "{head:?}");
        (&stream).write_all(GOOD.as_bytes()).unwrap();
        fetching.join().unwrap()
    });
    assert!(fetcher.status.success(), "{}", String::from_utf8_lossy(&fetcher.stderr));
}

#[test]
fn a_time_that_is_no_number_is_refused() {
    let output = example("http_server").args(["--head-time", "nan"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_signal_ends_the_fetcher_in_the_middle() {
    let (listener, url) = listen();
    let mut command = example("http_get");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(url.as_bytes()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    read_head(&stream);
    assert!(send(child.id(), libc::SIGINT));
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT));
    assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0, "the connection is still open");
}

#[test]
fn a_signal_ends_the_fetcher_while_it_reads_its_urls() {
    let mut child = example("http_get").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // More than a pipe holds, so it reads when this is written. The pipe stays open.
    child.stdin.as_mut().unwrap().write_all(&[b'\n'; 200_000]).unwrap();
    assert!(send(child.id(), libc::SIGINT));
    wait_until("the fetcher ends", || !is_running(child.id()));
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT));
}

#[test]
fn the_fetcher_tries_no_url_again_that_is_none() {
    let start = Instant::now();
    // The pauses of nine more attempts would be 25 s.
    let output = run_with_input(example("http_get").args(["--retries", "9"]), "nowhere\nhttps://localhost/\n");
    assert!(start.elapsed() < Duration::from_secs(20));
    let wanted = "---       -  nowhere: only http:// is fetched here\n\
                  ---       -  https://localhost/: only http:// is fetched here\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn reqwest_fetches_on_the_thread_of_tokio() {
    let server = serve(&PATIENT);
    let url = |path: &str| format!("http://{}{path}", server.address);
    let output = example("reqwest_get").args([url("/nothing"), url("/"), url("/sleep?5")]).output().unwrap();
    let wanted = format!(
        "404 Not Found: 22 bytes from {}\n200 OK: 6 bytes from {}\n200 OK: 6 bytes from {}\n",
        url("/nothing"),
        url("/"),
        url("/sleep?5"),
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    assert!(output.status.success());
}

#[test]
fn the_first_fetch_of_reqwest_that_fails_cancels_the_others_and_so_does_the_limit() {
    let server = serve(&PATIENT);
    let slow = format!("http://{}/sleep?3600000", server.address);
    let start = Instant::now();
    let output = example("reqwest_get").args([&slow, "http://127.0.0.1:1/"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("Connection refused"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let output = example("reqwest_get").args(["--time", "1", &slow]).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "reqwest_get: time limit is over\n");
    assert!(start.elapsed() < LONG);
}

/// A server of two workers beside the one that takes clients, and one without any: the tasks at home.
fn each_number_of_workers(test: impl Fn(&[&str])) {
    for workers in ["0", "1", "2"] {
        test(&["--workers", workers, PATIENT[0], PATIENT[1], PATIENT[2], PATIENT[3]]);
    }
}

/// The same, where each worker takes its own clients, too. Nobody knows then who was taken before whom.
fn each_number_of_listeners(test: impl Fn(&[&str])) {
    each_number_of_workers(|arguments| {
        test(arguments);
        test(&[arguments, &["--listeners"]].concat());
    });
}

#[test]
fn clients_are_served_on_workers() {
    each_number_of_listeners(|arguments| {
        let server = serve(arguments);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| probe(&server)));
            }
        });
        let answer = answer_to(&server, "POST /echo HTTP/1.0\r\ncontent-length: 4\r\n\r\ntext");
        assert!(answer.ends_with("text"), "{answer}");
    });
}

#[test]
fn one_signal_ends_all_workers_when_what_runs_there_is_answered() {
    each_number_of_workers(|arguments| {
        let mut server = serve(arguments);
        let idle = [server.connect(), server.connect(), server.connect()];
        let mut asking: Vec<_> = (0..4).map(|_| server.connect()).collect();
        for stream in &mut asking {
            stream.write_all(b"GET /sleep?400 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        }
        (0..4).for_each(|_| probe(&server));
        server.terminate();
        for mut stream in asking {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("slept\n"), "{answer}");
        }
        assert!(server.child.wait().unwrap().success());
        drop(idle);
    });
}

#[test]
fn one_signal_ends_the_listeners_of_all_workers() {
    each_number_of_listeners(|arguments| {
        let mut server = serve(arguments);
        let idle: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for mut stream in &idle {
            // It is taken when it is answered.
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
        }
        server.terminate();
        for mut stream in idle {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        assert!(server.child.wait().unwrap().success());
        // Another one has the address, whichever way it listens.
        for way in [&arguments[..2], &["--workers", "2", "--listeners"]] {
            let mut next = Server::start_at("http_server", &server.address, way);
            probe(&next);
            next.terminate();
            assert!(next.child.wait().unwrap().success());
        }
    });
}

#[test]
fn request_on_a_worker_of_a_client_that_has_gone_keeps_nobody() {
    each_number_of_workers(|arguments| {
        let mut server = serve(arguments);
        for _ in 0..4 {
            let mut stream = server.connect();
            stream.write_all(b"GET /sleep?3600000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            probe(&server);
        }
        let start = Instant::now();
        server.terminate();
        assert!(server.child.wait().unwrap().success());
        assert!(start.elapsed() < LONG);
    });
}
