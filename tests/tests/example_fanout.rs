//! `examples/fanout.rs`: output kept apart, the limit, the summary, and Ctrl-C.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use xiio::signal::{SIGINT, SIGTERM};
use xiio_tests::example::{example, run_with_input};
use xiio_tests::os::{is_running, pseudo_terminal, send, wait_until};

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// How each command ended, as the summary has it.
fn summary(output: &Output) -> Vec<(String, String)> {
    let text = std::str::from_utf8(&output.stderr).unwrap();
    let columns = |line: &str| Some((line.get(..11)?.trim().to_owned(), line.split_once(" s  ")?.1.to_owned()));
    text.lines().filter_map(columns).collect()
}

#[test]
fn output_of_a_command_is_in_one_piece() {
    let input = "for n in 1 2 3; do echo a$n; sleep 0.05; done\n\nfor n in 1 2 3; do echo b$n; sleep 0.05; done";
    let output = run_with_input(example("fanout").args(["-j", "2"]), input);
    assert!(output.status.success());
    let text = stdout(&output);
    for block in ["done\na1\na2\na3\n", "done\nb1\nb2\nb3\n"] {
        assert!(text.contains(block), "{text}");
    }
}

#[test]
fn summary_is_in_the_order_given_and_a_failure_is_the_exit_code() {
    let output = run_with_input(example("fanout").args(["-j", "3"]), "sleep 0.2\nexit 3\nkill -9 $$\n");
    assert_eq!(output.status.code(), Some(1));
    let expected = [("ok", "sleep 0.2"), ("exit 3", "exit 3"), ("signal 9", "kill -9 $$")];
    assert_eq!(summary(&output), expected.map(|(how, line)| (how.to_owned(), line.to_owned())));
}

#[test]
fn no_more_than_the_limit_run_at_once() {
    let start = Instant::now();
    let output = run_with_input(example("fanout").args(["-j", "2"]), "sleep 0.3\n".repeat(4).as_str());
    assert!(output.status.success());
    assert!(start.elapsed() >= Duration::from_millis(600));
}

#[test]
fn large_output_and_errors_pass_through() {
    let output = run_with_input(&mut example("fanout"), "head -c 200000 /dev/zero; echo oops >&2\n");
    assert_eq!(output.stdout.iter().filter(|&&byte| byte == 0).count(), 200_000);
    assert!(output.stderr.starts_with(b"oops\n"));
}

#[test]
fn progress_is_one_line_on_a_terminal() {
    let (terminal, stderr) = pseudo_terminal();
    let mut command = example("fanout");
    command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    // Ours is closed, so that reading ends with the program.
    drop(command);
    let long = format!("true {}\n", "x".repeat(500));
    child.stdin.take().unwrap().write_all(long.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // The end of a terminal is an error.
    let _ = File::from(terminal).read_to_end(&mut shown);
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    let mut drawn = shown.split('\r').filter(|line| line.contains(" 0/1 ")).peekable();
    assert!(drawn.peek().is_some(), "{shown}");
    assert!(drawn.all(|line| line.chars().count() < 100), "{shown}");
}

#[test]
fn ctrl_c_stops_the_commands_with_their_children() {
    let file = std::env::temp_dir().join(format!("xiio-fanout-{}", std::process::id()));
    let mut command = example("fanout");
    command.args(["-j", "1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    write!(stdin, "sleep 3600 & echo $! > {0}.new; mv {0}.new {0}; wait\nsleep 3600\n", file.display()).unwrap();
    drop(stdin);
    wait_until("the command has started", || file.exists());
    let grandchild: u32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(is_running(grandchild));
    assert!(send(child.id(), SIGINT));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGINT));
    assert!(!is_running(grandchild));
    let ends: Vec<String> = summary(&output).into_iter().map(|(how, _)| how).collect();
    assert_eq!(ends, ["stopped", "not started"]);
}

#[test]
fn a_grace_below_zero_is_refused() {
    let output = run_with_input(example("fanout").arg("--grace=-1"), "echo one\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("'-1' for '--grace <GRACE>'"), "{stderr}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_line_that_is_too_long_is_not_run_and_one_of_any_bytes_is() {
    let mut command = example("fanout");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let long = "x".repeat(200_000);
    stdin
        .write_all([b"echo one\n: ", long.as_bytes(), b"\necho \xff\n: ", long.as_bytes()].concat().as_slice())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    for said in [&b"\none\n"[..], b"\n\xff\n"] {
        assert!(output.stdout.windows(said.len()).any(|part| part == said), "{output:?}");
    }
    let ends: Vec<String> = summary(&output).into_iter().map(|(how, _)| how).collect();
    assert_eq!(ends, ["ok", "not run", "ok", "not run"]);
}

#[test]
fn so_many_commands_are_read_ahead_and_no_more() {
    let mut command = example("fanout");
    command.args(["-j", "1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // They fit in the pipe.
    stdin.write_all(format!("echo begun\necho two; sleep 3600\n{}", "true\n".repeat(1000)).as_bytes()).unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "begun\n" {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it has ended");
    }
    assert!(send(child.id(), SIGINT));
    let output = child.wait_with_output().unwrap();
    let n_read = summary(&output).len();
    assert!(n_read <= 1 + 1 + 100, "{n_read} commands were read");
}

#[test]
fn a_signal_ends_it_while_nobody_reads_what_it_has_to_say() {
    let mut command = example("fanout");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than the pipe holds.
    child.stdin.take().unwrap().write_all(b"head -c 200000 /dev/zero\n").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).unwrap();
    assert!(send(child.id(), SIGTERM));
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
}

#[test]
fn what_cannot_run_the_commands_is_named() {
    let output = run_with_input(example("fanout").env("PATH", "/no/such/directory"), "echo one\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("fanout: `sh`: No such file"), "{stderr}");
}
