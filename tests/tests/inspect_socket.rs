//! Who asks a program for its tree at its socket, as `xiio-inspect` does.

use std::fs::{self, Permissions};
use std::future::{pending, poll_fn};
use std::io::{BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{env, io, iter, process, thread};

use xiio::{Builder, sleep, task_group};
use xiio_tests::os::{install_counter, send_to_thread, with_usual_signals};
use xiio_tests::{LONG, millis};

/// A program that is a test of this file, and ignored as such. It goes with this.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    runtime_dir: PathBuf,
}

impl Program {
    fn start(name: &str) -> Self {
        let runtime_dir = env::temp_dir().join(format!("xiio-socket-{}-{name}", process::id()));
        fs::create_dir_all(&runtime_dir).unwrap();
        fs::set_permissions(&runtime_dir, Permissions::from_mode(0o700)).unwrap();
        let mut command = with_usual_signals(Command::new(env::current_exe().unwrap()));
        command.args([name, "--exact", "--ignored", "--nocapture"]).env("XDG_RUNTIME_DIR", &runtime_dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, runtime_dir }
    }

    /// Waits until it has said so.
    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it has ended");
        }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.runtime_dir.join("xiio").join(format!("{}.0", self.child.id()))).unwrap()
    }

    fn ask(&self) -> String {
        let mut stream = self.connect();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}

#[test]
fn of_a_blocked_loop_many_hear_at_once_and_see_it_as_it_is_afterwards() {
    let mut program = Program::start("blocks");
    program.wait_for("blocked");
    let is_busy = |answer: &str| answer.contains(r#""busy":{"#) && answer.contains(r#""name":"impolite""#);
    assert!(is_busy(&program.ask()));
    let started = Instant::now();
    thread::scope(|scope| {
        let asking: Vec<_> = (0..100).map(|_| scope.spawn(|| program.ask())).collect();
        asking.into_iter().for_each(|asking| assert!(is_busy(&asking.join().unwrap())));
    });
    // At half a second each it is 50.
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    drop(program.input.take());
    program.wait_for("goes on");
    let answer = program.ask();
    assert!(answer.contains(r#""name":"later""#), "{answer}");
}

#[test]
#[ignore = "a program for the test above"]
fn blocks() {
    Builder::new().inspect().run(async {
        task_group!(|tg| {
            tg.spawn_named("impolite", async {
                println!("blocked");
                io::stdin().read_to_end(&mut Vec::new()).unwrap();
            });
            sleep(Duration::from_millis(10)).await;
            tg.spawn_named("later", async {
                println!("goes on");
                pending::<()>().await;
            });
        });
    });
}

/// Not the task around it, whose worker lends meanwhile.
#[test]
fn of_a_worker_and_its_own_worker_the_one_is_named_that_keeps_the_loop() {
    let mut program = Program::start("blocks_a_worker_of_a_worker");
    program.wait_for("blocked");
    let answer = program.ask();
    let is_named = answer.contains(&format!(r#""worker":true,"file":"{}","line":{LINE_OF_INNER}"#, file!()));
    assert!(is_named, "{answer}");
}

const LINE_OF_INNER: u32 = line!() + 9;

#[test]
#[ignore = "a program for the test above"]
fn blocks_a_worker_of_a_worker() {
    Builder::new().inspect().run(async {
        task_group!(workers = 1, |outer| {
            outer.workers().spawn(async || {
                task_group!(workers = 1, |inner| {
                    inner.workers().spawn(async || {
                        println!("blocked");
                        io::stdin().read_to_end(&mut Vec::new()).unwrap();
                    });
                });
            });
        });
    });
}

#[test]
fn for_who_has_gone_nothing_is_drawn() {
    let mut program = Program::start("says_when_it_is_polled");
    program.wait_for("polled");
    assert!(program.ask().contains(r#""name":"talkative""#));
    (0..100).for_each(|_| drop(program.connect()));
    assert!(program.ask().contains(r#""name":"talkative""#));
    program.child.kill().unwrap();
    let n_polls = program.output.by_ref().lines().filter(|line| line.as_ref().unwrap().contains("polled")).count();
    // Each drawing is one.
    assert!(n_polls < 50, "{n_polls}");
}

#[test]
#[ignore = "a program for the test above"]
fn says_when_it_is_polled() {
    Builder::new().inspect().run(async {
        task_group!(|tg| {
            tg.spawn_named("talkative", async {
                poll_fn(|_| {
                    println!("polled");
                    Poll::<()>::Pending
                })
                .await;
            });
        });
    });
}

#[test]
fn who_does_not_read_is_given_up_in_time_while_signals_come() {
    let mut program = Program::start("has_much_to_say");
    program.wait_for("begun");
    let pid = program.child.id();
    let silent = program.connect();
    silent.shutdown(Shutdown::Write).unwrap();
    let start = Instant::now();
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| program.ask());
        // More than the time that he is given. Without them he is given up at the latest when they cease.
        while !asking.is_finished() && start.elapsed() < Duration::from_secs(10) {
            send_to_thread(pid, "xiio-inspect", libc::SIGUSR1);
            thread::sleep(millis(50));
        }
        asking.join().unwrap()
    });
    assert!(asked.contains("the last of many"));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
#[ignore = "a program for the test above"]
fn has_much_to_say() {
    install_counter(libc::SIGUSR1);
    Builder::new().inspect().run(async {
        task_group!(|tg| {
            for name in iter::repeat_n("one of many", 8000).chain(["the last of many"]) {
                tg.spawn_named(name, sleep(LONG));
            }
            println!("begun");
        });
    });
}
