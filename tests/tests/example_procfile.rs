//! `examples/procfile.rs`, on Procfiles with a real server and its client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use xiio::signal::SIGTERM;
use xiio_tests::example::example;
use xiio_tests::os::{group_of, is_running, send, wait_until};

/// A Procfile that goes with the test.
struct Procfile(PathBuf);

impl Procfile {
    fn new(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xiio-procfile-{test}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn command(&self) -> Command {
        let mut command = example("procfile");
        command.arg(&self.0).args(["--backoff", "0.05", "--grace", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Program {
        let mut child = self.command().spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Program { child, output, lines: Vec::new() }
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }
}

impl Drop for Procfile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The example, running.
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Program {
    /// Reads on to a line that begins so, and gives the rest of it.
    fn read_to(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            let n_read = self.output.read_line(&mut line).unwrap();
            if n_read == 0 {
                let errors = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
                panic!("no `{beginning}` in {:#?}; errors: {errors}", self.lines);
            }
            self.lines.push(line.trim_end().to_owned());
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.trim_end().to_owned();
            }
        }
    }

    /// Tells it to stop, and gives what it says from then on.
    fn stop(mut self) -> Vec<String> {
        assert!(send(self.child.id(), SIGTERM));
        let rest = self.output.lines().map(Result::unwrap).collect();
        assert_eq!(self.child.wait().unwrap().signal(), Some(SIGTERM));
        rest
    }
}

#[test]
fn server_and_client_talk_and_end_in_reverse_order() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = format!(
        "import time, urllib.request
for attempt in range(600):
    try:
        answer = urllib.request.urlopen(\"http://127.0.0.1:{port}/\").status
        break
    except OSError:
        time.sleep(0.1)
print(\"answer\", answer, flush=True)
time.sleep(3600)"
    );
    let script = Procfile::new("client.py", &client);
    let web = format!("web: cd /proc/self/task && exec python3 -m http.server --bind 127.0.0.1 {port}");
    let text = format!("# a server and its client\n{web}\n\nclient:   exec python3 {}\n", script.0.display());
    let procfile = Procfile::new("web", &text);
    let mut program = procfile.start();
    program.read_to("client | answer 200");
    let rest = program.stop();
    let stopped: Vec<&String> = rest.iter().filter(|line| line.contains("| stopped: ")).collect();
    assert_eq!(stopped, ["client | stopped: signal: 15 (SIGTERM)", "web    | stopped: signal: 15 (SIGTERM)"]);
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "the server still has its port");
}

#[test]
fn service_that_ends_is_started_again_after_growing_pauses() {
    let procfile = Procfile::new("again", "a: echo hello; exit 3\n");
    let mut program = procfile.start();
    let pauses = [(); 3].map(|()| program.read_to("a | ended: exit status: 3; again in "));
    assert_eq!(pauses, ["50ms", "100ms", "200ms"]);
    assert!(program.lines.iter().any(|line| line == "a | hello"));
    program.stop();
}

#[test]
fn services_end_one_after_the_other_and_say_goodbye() {
    let service = |name| format!("{name}: trap 'sleep 0.1; echo bye; exit 0' TERM; sleep 3600 & echo $!; wait\n");
    let procfile = Procfile::new("bye", &["one", "two"].map(service).concat());
    let mut program = procfile.start();
    // The services write side by side, so any of their lines may come first.
    let mut pids = Vec::new();
    while pids.len() < 2 {
        let line = program.read_to("");
        pids.extend(line.rsplit(' ').next().and_then(|word| word.parse::<u32>().ok()));
    }
    let rest = program.stop();
    assert_eq!(rest, ["two | bye", "two | stopped: exit status: 0", "one | bye", "one | stopped: exit status: 0"]);
    assert!(!pids.into_iter().any(is_running));
}

#[test]
fn service_that_ends_while_another_one_stops_is_not_started_again() {
    let pid = std::env::temp_dir().join(format!("xiio-procfile-pid-{}", std::process::id()));
    let at = pid.display();
    let web = format!("web: echo $$ >{at}; exec sleep 60");
    let stop = format!("kill $(cat {at}); sleep 1; exit");
    let client = format!("client: trap '{stop}' TERM; while sleep 0.05; do [ -s {at} ] && echo ready; done");
    let procfile = Procfile::new("not-again", &format!("{web}\n{client}\n"));
    let mut program = procfile.start();
    program.read_to("client | ready");
    let rest = program.stop();
    fs::remove_file(&pid).unwrap();
    assert!(rest.contains(&"web    | stopped: signal: 15 (SIGTERM)".to_owned()), "{rest:#?}");
    assert!(!rest.iter().any(|line| line.contains("again") || line.contains("started")), "{rest:#?}");
}

#[test]
fn what_a_service_leaves_behind_ends_with_it() {
    // It holds the pipe.
    let procfile = Procfile::new("behind", "a: sleep 3600 & echo $!; exit 3\n");
    let mut program = procfile.start();
    program.read_to("a | started");
    let left_behind: u32 = program.read_to("a | ").parse().unwrap();
    assert_eq!(program.read_to("a | ended: exit status: "), "3; again in 50ms");
    assert!(!is_running(left_behind));
    program.stop();
}

#[test]
fn what_has_left_its_group_is_stopped_as_a_descendant() {
    let procfile = Procfile::new("daemon", "a: setsid sleep 3600 & echo $!; sleep 3600\n");
    let mut program = procfile.start();
    program.read_to("a | started");
    let daemon: u32 = program.read_to("a | ").parse().unwrap();
    wait_until("it has a group of its own", || group_of(daemon) == Some(daemon));
    assert_eq!(program.stop(), ["a | stopped: signal: 15 (SIGTERM)"]);
    wait_until("it has ended", || !is_running(daemon));
}

#[test]
fn long_line_is_passed_on_in_pieces() {
    let procfile = Procfile::new("long", "a: yes | tr -d '\\n' | head -c 200000 && echo && exit 3\n");
    let mut program = procfile.start();
    assert_eq!(program.read_to("a | ended: exit status: "), "3; again in 50ms");
    let n_bytes: usize =
        program.lines.iter().filter_map(|line| line.strip_prefix("a | y")).map(|line| line.len() + 1).sum();
    assert_eq!(n_bytes, 200_000);
    program.stop();
}

#[test]
fn mistakes_are_told_with_their_line() {
    let complaint = |text| {
        let output = Procfile::new("mistake", text).run();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(complaint("# nothing\n").ends_with(": there are no services\n"));
    assert!(complaint("a: true\nsomething\n").ends_with(": line 2: expected `name: command`, got `something`\n"));
    assert!(complaint("a: true\na: false\n").ends_with(": line 2: `a` is there already\n"));
    let missing = example("procfile").arg("/no/such/Procfile").output().unwrap();
    assert!(missing.stderr.starts_with(b"procfile: /no/such/Procfile: No such file"));
}

#[test]
fn a_signal_ends_it_while_nobody_reads_what_it_has_to_say() {
    let procfile = Procfile::new("unread", "a: exec yes\n");
    let mut command = example("procfile");
    let mut child = command.arg(&procfile.0).args(["--grace", "0.3"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "a | y\n" {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it has ended");
    }
    assert!(send(child.id(), SIGTERM));
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM));
}

#[test]
fn what_cannot_run_a_service_is_named() {
    let procfile = Procfile::new("no-shell", "a: true\n");
    let mut child = procfile.command().env("PATH", "/no/such/directory").spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut program = Program { child, output, lines: Vec::new() };
    assert!(program.read_to("a | ended: ").starts_with("`sh`: No such file"));
    program.stop();
}
