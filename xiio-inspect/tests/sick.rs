//! Programs that are not well, and whether the tool names who is to blame.

use std::fs::Permissions;
use std::future::{pending, poll_fn};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

/// A sick program, and a directory for its socket. Both go with this.
struct Patient {
    child: Child,
    runtime_dir: PathBuf,
}

impl Patient {
    fn new(example: &str) -> Self {
        Self::start(example, |program| program.env("XIIO_INSPECT", "1"))
    }

    fn start(example: &str, prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        static N_MADE: AtomicU32 = AtomicU32::new(0);
        let number = N_MADE.fetch_add(1, Ordering::Relaxed);
        let runtime_dir = env::temp_dir().join(format!("xiio-sick-{}-{number}", process::id()));
        fs::create_dir_all(&runtime_dir).unwrap();
        fs::set_permissions(&runtime_dir, Permissions::from_mode(0o700)).unwrap();
        // The examples are beside the tests, one level up.
        let this = env::current_exe().unwrap();
        let program = this.parent().unwrap().parent().unwrap().join("examples").join(example);
        let mut program = Command::new(program);
        let child = prepare(program.env("XDG_RUNTIME_DIR", &runtime_dir)).spawn();
        let child = child.expect("`cargo test` builds the examples");
        Self { child, runtime_dir }
    }

    /// A program that is a test of this file, and ignored as such.
    fn of_test(name: &str) -> Self {
        let this = env::current_exe().unwrap();
        // The path is whole, so it is not looked for among the examples.
        Self::start(this.to_str().unwrap(), |program| {
            program.args([name, "--exact", "--ignored", "--nocapture"]).env("XIIO_INSPECT", "1")
        })
    }

    fn ask(&self, words: &[&str]) -> Output {
        let pid = self.child.id().to_string();
        let words = words.iter().map(|word| if *word == "PID" { &*pid } else { *word });
        let tool = env!("CARGO_BIN_EXE_xiio-inspect");
        Command::new(tool).args(words).env("XDG_RUNTIME_DIR", &self.runtime_dir).output().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.runtime_dir.join("xiio").join(format!("{}.0", self.child.id()))
    }

    /// Asks until the answer has all of `parts`: a program that has just begun says something else at first.
    fn assert_says(&self, words: &[&str], parts: &[&str]) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.ask(words);
            let text = String::from_utf8(output.stdout).unwrap();
            if parts.iter().all(|part| text.contains(part)) {
                return;
            }
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(Instant::now() < end, "expected {parts:?}, got\n{text}{error}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}

#[test]
fn of_a_program_that_hangs_it_names_who_waits_for_each_other() {
    let patient = Patient::new("hangs");
    patient.assert_says(
        &["why", "PID"],
        &["No timer, descriptor, process, signal or thread", "task `cook`", "task `waiter`"],
    );
    patient
        .assert_says(&["tree", "PID"], &["group `kitchen`", "task `cook`, spawned at xiio-inspect/examples/hangs.rs:"]);
    patient.assert_says(&["tree", "PID", "--json"], &[r#""name":"cook""#]);
    patient.assert_says(&["tree", "PID", "--dot"], &["digraph", "task `waiter`"]);
    patient.assert_says(&["list"], &[" hangs, running for"]);
}

#[test]
fn of_a_blocked_loop_it_names_the_task_that_blocks_it() {
    let patient = Patient::new("blocks_the_loop");
    patient.assert_says(
        &["why", "PID"],
        &["loop is blocked", "task `impolite`, spawned at xiio-inspect/examples/blocks_the_loop.rs:"],
    );
    patient.assert_says(&["tree", "PID"], &["loop is blocked", "`impolite`"]);
}

#[test]
fn of_a_program_that_does_not_stop_it_names_whose_cleanup_lasts() {
    let patient = Patient::new("will_not_stop");
    let says = &[
        "Cancelled and not stopped yet: task `clingy` (cleaning up for ",
        ", spawned at xiio-inspect/examples/will_not_stop.rs:",
        "waiting for: pipe to be readable",
    ];
    patient.assert_says(&["why", "PID"], says);
}

#[test]
fn what_a_program_has_done_last_is_written_down_also_when_it_blocks() {
    let patient = Patient::new("blocks_the_loop");
    patient.assert_says(&["why", "PID"], &["loop is blocked"]);
    let file = patient.runtime_dir.join("recording.json");
    patient.assert_says(&["record", "PID", file.to_str().unwrap()], &["recording.json"]);
    let trace: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let life = events.iter().find(|event| event["args"]["name"] == "impolite").unwrap();
    let polls = events.iter().filter(|event| event["cat"] == "poll" && event["tid"] == life["tid"]);
    let longest = polls.map(|event| event["dur"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(longest > 500_000.0, "the poll that goes on has taken {longest} microseconds");
}

#[test]
fn who_watches_sees_the_busiest_and_the_stuck() {
    let marked = |example: &str, mark: &str| {
        let patient = Patient::new(example);
        patient.assert_says(&["list"], &[example]);
        let mut watch = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
        watch.args(["watch", "--every", "0.1", &patient.child.id().to_string()]);
        watch.env("XDG_RUNTIME_DIR", &patient.runtime_dir).stdout(Stdio::piped());
        let mut watch = watch.spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let is_marked = lines.any(|line| line.unwrap().contains(mark));
        watch.kill().unwrap();
        watch.wait().unwrap();
        assert!(is_marked, "it goes on until it says `{mark}`");
    };
    marked("will_not_stop", "  STUCK task `clingy` (cleaning up for ");
    marked("slow_request", " polls a second: task, spawned at xiio-inspect/examples/slow_request.rs:");
}

#[test]
fn who_watches_in_another_form_gets_that_form_alone_and_hears_of_the_end() {
    let mut patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
    watch.args(["watch", "--json", "--every", "0.1", &patient.child.id().to_string()]);
    watch.env("XDG_RUNTIME_DIR", &patient.runtime_dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    for line in BufReader::new(watch.stdout.take().unwrap()).lines().take(3) {
        let answer: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(answer["program"], "hangs");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();

    let mut watch = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
    watch.args(["watch", "--every", "0.1", &patient.child.id().to_string()]);
    watch.env("XDG_RUNTIME_DIR", &patient.runtime_dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("hangs")));
    patient.child.kill().unwrap();
    patient.child.wait().unwrap();
    lines.for_each(drop);
    let said = String::from_utf8(watch.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("has ended, or gives no answer any more"), "{said}");
}

#[test]
fn each_run_of_a_program_is_written_down_though_nobody_reads_their_names() {
    let patient = Patient::of_test("has_two_runs");
    let sockets = || fs::read_dir(patient.runtime_dir.join("xiio")).into_iter().flatten().count();
    let end = Instant::now() + Duration::from_secs(60);
    while sockets() < 2 {
        assert!(Instant::now() < end, "it has two runs");
        thread::sleep(Duration::from_millis(20));
    }
    let (file, pid) = (patient.runtime_dir.join("run"), patient.child.id().to_string());
    let mut record = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
    record.args(["record", &pid]).arg(&file).env("XDG_RUNTIME_DIR", &patient.runtime_dir).stdout(Stdio::piped());
    let mut record = record.spawn().unwrap();
    drop(record.stdout.take());
    assert!(record.wait().unwrap().success());
    assert!(file.exists() && file.with_extension("1").exists());
}

#[test]
#[ignore = "a program for the test above"]
fn has_two_runs() {
    let other = thread::spawn(|| xiio::run(xiio::sleep(Duration::from_secs(60))));
    xiio::run(xiio::sleep(Duration::from_secs(60)));
    other.join().unwrap();
}

#[test]
fn of_a_program_that_leaks_tasks_it_names_their_place_and_their_group() {
    // The attribute has asked for the socket.
    let patient = Patient::start("leaks_tasks", |program| program.env_remove("XIIO_INSPECT"));
    let place = "spawned at xiio-inspect/examples/leaks_tasks.rs:12, waiting for: a promise";
    patient.assert_says(&["why", "PID"], &["The most of one place: ", " tasks of group `sessions`, ", place]);
    patient.assert_says(&["tree", "PID"], &[" tasks spawned at xiio-inspect/examples/leaks_tasks.rs:12"]);
}

#[test]
fn of_a_server_with_a_slow_request_it_names_the_request_and_what_that_waits_for() {
    let patient = Patient::new("slow_request");
    let place = "Much older than others of its place: task, spawned at xiio-inspect/examples/slow_request.rs:";
    patient.assert_says(&["why", "PID"], &[place, "REQUEST = 13", "waiting for: sleep", "one in the middle is"]);
    patient.assert_says(&["tree", "PID"], &["REQUEST = 13", "task `warehouse`", " old, ", " polls of "]);
}

#[test]
fn of_a_program_that_awaits_foreign_code_alone_it_says_so() {
    let patient = Patient::of_test("awaits_foreign_code");
    patient.assert_says(&["why", "PID"], &["It waits for: something that xiio does not know."]);
}

#[test]
#[ignore = "a program for the test above"]
fn awaits_foreign_code() {
    xiio::run(pending::<()>());
}

#[test]
fn of_a_program_whose_time_is_limited_it_says_that_time_will_end_the_wait() {
    let patient = Patient::of_test("awaits_its_limit");
    patient.assert_says(
        &["why", "PID"],
        &[
            "It waits for: something that xiio does not know.",
            "Time, a descriptor, a process, a signal or a thread may",
        ],
    );
}

#[test]
#[ignore = "a program for the test above"]
fn awaits_its_limit() {
    xiio::run(async {
        xiio::task_group!(timeout = Duration::from_secs(3600), |tg| {
            tg.spawn(pending::<()>());
        })
    })
    .unwrap();
}

#[test]
fn of_a_program_that_sleeps_for_longer_than_there_are_numbers_for_it_reads_the_tree() {
    let patient = Patient::of_test("sleeps_for_ages");
    patient.assert_says(&["tree", "PID"], &["sleep, 18446744073709551.615s more"]);
    patient.assert_says(&["why", "PID"], &["It waits for: sleep."]);
}

#[test]
#[ignore = "a program for the test above"]
fn sleeps_for_ages() {
    xiio::run(xiio::sleep(Duration::MAX / 4));
}

#[test]
fn of_a_run_that_has_ended_meanwhile_an_answer_comes_at_once() {
    let patient = Patient::of_test("has_short_runs");
    let end = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        let sockets = fs::read_dir(patient.runtime_dir.join("xiio")).into_iter().flatten().flatten();
        if let Some(stream) = sockets.into_iter().find_map(|socket| UnixStream::connect(socket.path()).ok()) {
            break stream;
        }
        assert!(Instant::now() < end, "it has runs");
        thread::sleep(Duration::from_millis(20));
    };
    let asked = Instant::now();
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(4), "not when there has been time enough to draw");
    assert!(answer.is_empty() || answer.contains("\"tree\""), "{answer}");
}

#[test]
#[ignore = "a program for the test above"]
fn has_short_runs() {
    for _ in 0..500 {
        // What is asked for meanwhile is taken from the thread of the socket, and never drawn.
        xiio::run(async {
            let nap = xiio::sleep(Duration::from_millis(1));
            thread::sleep(Duration::from_millis(300));
            nap.await;
        });
    }
}

#[test]
fn of_a_worker_that_holds_up_its_group_it_names_the_task() {
    let patient = Patient::of_test("has_a_worker_that_blocks");
    patient.assert_says(
        &["why", "PID"],
        &["The loop waits for a worker: the task spawned at xiio-inspect/tests/sick.rs:"],
    );
    let asked = Instant::now();
    patient.assert_says(&["tree", "PID"], &["waits for a worker"]);
    assert!(asked.elapsed() < Duration::from_secs(4), "it takes half a second, not the time to draw");
}

#[test]
#[ignore = "a program for the test above"]
fn has_a_worker_that_blocks() {
    xiio::run(async {
        xiio::task_group!(|outer| {
            outer.spawn_named("innocent", async {
                xiio::task_group!(workers = 1, |tg| {
                    tg.workers().spawn(async || thread::sleep(Duration::from_secs(60)));
                });
            });
        });
    });
}

#[test]
fn of_a_blocked_loop_that_the_program_itself_records_it_names_the_task() {
    let patient = Patient::of_test("records_itself_and_blocks");
    patient.assert_says(&["why", "PID"], &["The loop is blocked: the task `impolite`, spawned at "]);
}

#[test]
#[ignore = "a program for the test above"]
fn records_itself_and_blocks() {
    xiio::run(async {
        let _recording = xiio::inspect::record(10);
        xiio::task_group!(|tg| {
            tg.spawn_named("impolite", async { thread::sleep(Duration::from_secs(60)) });
        });
    });
}

#[test]
fn a_tree_that_takes_long_to_draw_is_no_loop_that_is_blocked() {
    let patient = Patient::of_test("is_slowly_drawn");
    patient.assert_says(&["list"], &["sick"]);
    let started = Instant::now();
    loop {
        let said = String::from_utf8(patient.ask(&["tree", "PID"]).stdout).unwrap();
        // It may not have come to its first wait.
        if !said.contains("is blocked") {
            assert!(said.contains("tasks spawned at "), "{said}");
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{said}");
    }
}

#[test]
#[ignore = "a program for the test above"]
fn is_slowly_drawn() {
    xiio::run(async {
        xiio::task_group!(|tg| {
            for number in 0..60 {
                let slow = poll_fn(|_| {
                    thread::sleep(Duration::from_millis(20));
                    Poll::<()>::Pending
                });
                tg.spawn_named(format!("slow {number}"), slow);
            }
        });
    });
}

/// A run of this process that answers each time with the next of these, and has ended then. Its directory goes with the test.
fn pretend_run(directory: &Path, number: usize, answers: Vec<String>) {
    let path = directory.join("xiio").join(format!("{}.{number}", process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let mut answers = answers.into_iter().peekable();
        for mut client in listener.incoming().flatten() {
            client.read_to_end(&mut Vec::new()).unwrap();
            let Some(answer) = answers.next() else { return };
            if answers.peek().is_none() {
                fs::remove_file(&path).unwrap();
            }
            client.write_all(answer.as_bytes()).unwrap();
        }
    });
}

fn directory_of_runs(name: &str) -> PathBuf {
    let directory = env::temp_dir().join(format!("xiio-{name}-{}", process::id()));
    fs::create_dir_all(directory.join("xiio")).unwrap();
    fs::set_permissions(directory.join("xiio"), Permissions::from_mode(0o700)).unwrap();
    directory
}

#[test]
fn who_watches_without_a_pause_is_refused() {
    for every in ["0", "1e-9", "-1", "NaN"] {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
        watch.args(["watch", &format!("--every={every}"), &process::id().to_string()]);
        let output = watch.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("xiio-inspect: --every "), "{said}");
    }
}

#[test]
fn who_watches_compares_each_run_with_itself() {
    let directory = directory_of_runs("watched");
    let answer = |program: &str, microseconds: u32| {
        let life = format!(r#""number":1,"milliseconds_old":9,"polls":1,"microseconds_busy":{microseconds}"#);
        let tree = format!(r#"[{{"kind":"task","state":"running","what":"task",{life}}}]"#);
        format!(r#"{{"version":1,"pid":1,"program":"{program}","milliseconds_old":5,"tree":{tree}}}"#) + "\n"
    };
    pretend_run(&directory, 0, vec![answer("short", 0)]);
    pretend_run(&directory, 1, ["one", "two", "three"].map(|look| answer(look, 30_000_000)).into());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
    watch.args(["watch", "--every", "0.01", &process::id().to_string()]);
    let output = watch.env("XDG_RUNTIME_DIR", &directory).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(" three, ") && !said.contains("BUSY"), "{said}");
    assert!(!said.contains('\x1b'), "it is no terminal: {said}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn all_are_asked_at_the_same_time() {
    let directory = directory_of_runs("asked");
    let names = ["1.0", "1.1", "2.0"];
    let all_are_asked = Arc::new(Barrier::new(names.len()));
    for name in names {
        let listener = UnixListener::bind(directory.join("xiio").join(name)).unwrap();
        let all_are_asked = Arc::clone(&all_are_asked);
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            all_are_asked.wait();
            let answer = format!(r#"{{"version":1,"pid":1,"program":"{name}","milliseconds_old":5,"tree":[]}}"#) + "\n";
            client.write_all(answer.as_bytes()).unwrap();
        });
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_xiio-inspect")).arg("list").env("XDG_RUNTIME_DIR", &directory).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(said, "1 1.0, running for 5ms\n1 1.1, running for 5ms\n1 2.0, running for 5ms\n");
    fs::remove_dir_all(directory).unwrap();
}

/// A recording with two events, each in a line.
fn recording_of(run: usize) -> String {
    let event = r#"{"ph":"M","tid":0,"name":"process_name"}"#;
    format!("{{\"traceEvents\":[\n{event},\n{event}\n],\"otherData\":{{\"xiio_recording\":1,\"run\":{run}}}}}\n")
}

/// Has what the runs of this process have done written to `file`. Gives the output, and what was written where.
fn record_to(file: &Path, directory: &Path) -> (Output, Vec<(String, String)>) {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
    tool.args(["record", &process::id().to_string()]).arg(file);
    let output = tool.env("XDG_RUNTIME_DIR", directory).output().unwrap();
    let paths = String::from_utf8(output.stdout.clone()).unwrap();
    let written = paths.lines().map(|path| (path.to_owned(), fs::read_to_string(path).unwrap())).collect();
    (output, written)
}

#[test]
fn runs_are_in_their_order_and_each_has_a_file_of_its_own() {
    let directory = directory_of_runs("ordered");
    for number in [10, 9, 0] {
        pretend_run(&directory, number, vec![recording_of(number); 2]);
    }
    let file = directory.join("run");
    let path = file.to_str().unwrap();
    let expected =
        [("", 0), (".9", 9), (".10", 10)].map(|(ending, number)| (format!("{path}{ending}"), recording_of(number)));
    assert_eq!(record_to(&file, &directory).1, expected);
    fs::remove_file(directory.join("xiio").join(format!("{}.0", process::id()))).unwrap();
    assert_eq!(record_to(&file, &directory).1, expected[1..]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_recording_that_is_cut_off_behind_a_line_is_not_written() {
    let directory = directory_of_runs("cut-off");
    let whole = recording_of(0);
    for (end, _) in whole.match_indices('\n').take(3) {
        pretend_run(&directory, 0, vec![whole[..=end].to_owned()]);
        let (output, written) = record_to(&directory.join("run"), &directory);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && written.is_empty() && error.contains("was it cut off?"), "{error}");
    }
    pretend_run(&directory, 0, vec![whole[..whole.len() / 2].to_owned() + "\n"]);
    pretend_run(&directory, 1, vec![recording_of(1)]);
    let (output, written) = record_to(&directory.join("run"), &directory);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.contains(".0: ") && error.contains("was it cut off?"), "{error}");
    assert_eq!(written, [(directory.join("run").to_str().unwrap().to_owned(), recording_of(1))]);
    fs::remove_dir_all(directory).unwrap();
}

/// What nobody looks at takes no memory, whatever it is.
#[test]
fn an_answer_and_a_recording_take_about_as_much_memory_as_they_are_long() {
    let directory = directory_of_runs("long");
    let more = r#"{"a":0},"#.repeat(2_000_000) + "0";
    let about = r#""otherData":{"xiio_recording":1}"#;
    let recording =
        format!(r#"{{"traceEvents":[{{"ph":"M","tid":0,"name":"","more":[{more}]}}],{about},"x":[{more}]}}"#);
    fs::write(directory.join("long.json"), recording + "\n").unwrap();
    let answer = format!(r#"{{"version":1,"pid":1,"program":"long","milliseconds_old":5,"tree":[],"x":[{more}]}}"#);
    pretend_run(&directory, 0, vec![answer + "\n"]);
    for words in [["view", "long.json"], ["tree", &process::id().to_string()]] {
        let mut tool = Command::new("sh");
        // In KiB.
        tool.args(["-c", "ulimit -v 1048576 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_xiio-inspect")]).args(words);
        let output = tool.current_dir(&directory).env("XDG_RUNTIME_DIR", &directory).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_one_run_of_a_program_does_not_answer_hides_no_other() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let other = patient.runtime_dir.join("xiio").join(format!("{}.7", patient.child.id()));
    let listener = UnixListener::bind(other).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let output = patient.ask(&["tree", "PID"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(".7: "), "{error}");
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("task `cook`"));
}

#[test]
fn what_is_written_to_standard_output_is_nothing_else() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let file = patient.runtime_dir.join("recording");
    for is_file in [false, true] {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
        tool.args(["record", &patient.child.id().to_string(), "/dev/stdout"]);
        tool.env("XDG_RUNTIME_DIR", &patient.runtime_dir);
        let text = if is_file {
            assert!(tool.stdout(fs::File::create(&file).unwrap()).status().unwrap().success());
            fs::read_to_string(&file).unwrap()
        } else {
            String::from_utf8(tool.output().unwrap().stdout).unwrap()
        };
        let trace: serde_json::Value = serde_json::from_str(&text).expect("it is JSON to its end");
        assert_eq!(trace["otherData"]["xiio_recording"], 1);
    }
}

#[test]
fn nothing_of_a_recording_is_obeyed_by_a_terminal() {
    let directory = directory_of_runs("obeyed");
    let hostile = recording_of(0).replace("process_name", "\u{9b}31m\u{202e}").replace("},\n", "},\r\t");
    pretend_run(&directory, 0, vec![hostile.clone()]);
    fs::write(directory.join("hostile.json"), hostile).unwrap();
    for words in [["record", &process::id().to_string(), "/dev/stdout"], ["view", "hostile.json", "-o/dev/stdout"]] {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
        let output = tool.args(words).current_dir(&directory).env("XDG_RUNTIME_DIR", &directory).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("\\u009b31m\\u202e"), "{words:?}: {said}");
        let is_obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!said.contains(is_obeyed), "{words:?}: {said:?}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn each_recording_has_a_page_of_its_own_name() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let path = |name: &str| patient.runtime_dir.join(name).to_str().unwrap().to_owned();
    let trace = patient.ask(&["record", "PID", &path("a.json")]);
    assert!(trace.status.success(), "{trace:?}");
    for (name, page) in
        [("a.json", "a.html"), ("a.json.1", "a.json.1.html"), ("b.html", "b.html.html"), ("c", "c.html")]
    {
        if name != "a.json" {
            fs::copy(path("a.json"), path(name)).unwrap();
        }
        let output = patient.ask(&["view", &path(name)]);
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), path(page));
        assert!(fs::read_to_string(path(name)).unwrap().starts_with("{\"traceEvents\""), "the recording is as it was");
    }
}

#[test]
fn a_socket_is_for_its_user_alone_and_goes_with_the_next_program() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let (directory, socket) = (patient.runtime_dir.join("xiio"), patient.socket());
    let mode = |path: &PathBuf| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&socket)), (0o700, 0o600));
    // What a program leaves that was killed, the next one removes, whoever has its number now. One that lives has its number elsewhere.
    let (stale, alive) = (directory.join(format!("{}.0", process::id())), directory.join("4194304.0"));
    drop(UnixListener::bind(&stale).unwrap());
    let _alive = UnixListener::bind(&alive).unwrap();
    let tool = Command::new(env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/hangs"))
        .env("XIIO_INSPECT", "1")
        .env("XDG_RUNTIME_DIR", &patient.runtime_dir)
        .spawn();
    let _other = Patient { child: tool.unwrap(), runtime_dir: patient.runtime_dir.clone() };
    let end = Instant::now() + Duration::from_secs(60);
    while stale.exists() {
        assert!(Instant::now() < end, "it is still there");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(alive.exists());
}

#[test]
fn two_programs_with_one_number_have_a_socket_each() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    // A number is known before its program begins. The socket of the other one is there by then, as from another container.
    let program = env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/hangs");
    let mut shell = Command::new("sh");
    shell.args(["-c", "read _ && exec \"$0\""]).arg(program).stdin(Stdio::piped());
    shell.env("XIIO_INSPECT", "1").env("XDG_RUNTIME_DIR", &patient.runtime_dir);
    let mut patient = Patient { child: shell.spawn().unwrap(), runtime_dir: patient.runtime_dir.clone() };
    let path = |number: u32| patient.runtime_dir.join("xiio").join(format!("{}.{number}", patient.child.id()));
    let (first, second) = (path(0), path(1));
    let _other = UnixListener::bind(&first).unwrap();
    let inode = fs::metadata(&first).unwrap().ino();
    patient.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !second.exists() {
        assert!(Instant::now() < end, "the program has no socket of its own");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::metadata(&first).unwrap().ino(), inode);
}

#[test]
fn a_thousand_who_ask_at_once_are_all_answered() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let socket = patient.socket();
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let socket = socket.clone();
            let ask = move || {
                let mut stream = UnixStream::connect(socket).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            };
            thread::Builder::new().stack_size(64 << 10).spawn(ask).unwrap()
        })
        .collect();
    for asking in asking {
        let answer = asking.join().unwrap();
        assert!(answer.contains(r#""name":"waiter""#) && answer.ends_with("}\n"), "{answer}");
    }
    patient.assert_says(&["why", "PID"], &["task `cook`"]);
}

/// The answer does not fit into the buffer of a socket, which the program waits with.
#[test]
fn a_long_answer_is_read_to_its_end() {
    let patient = Patient::of_test("has_long_names");
    patient.assert_says(&["tree", "PID", "--json"], &["name 0 ", "name 99 "]);
}

#[test]
#[ignore = "a program for the test above"]
fn has_long_names() {
    xiio::run(async {
        xiio::task_group!(|tg| {
            for number in 0..100 {
                tg.spawn_named(format!("name {number} {}", "x".repeat(20_000)), pending::<()>());
            }
        });
    });
}

#[test]
fn who_asks_and_does_not_read_or_goes_away_keeps_nobody_for_long() {
    let patient = Patient::new("hangs");
    patient.assert_says(&["list"], &["hangs"]);
    let silent: Vec<_> = (0..3).map(|_| UnixStream::connect(patient.socket()).unwrap()).collect();
    (0..100).for_each(|_| drop(UnixStream::connect(patient.socket()).unwrap()));
    patient.assert_says(&["why", "PID"], &["task `cook`"]);
    drop(silent);
}

#[test]
fn a_program_that_ends_while_it_is_asked_is_an_error_and_no_crash() {
    for _ in 0..5 {
        let mut patient = Patient::new("leaks_tasks");
        patient.assert_says(&["list"], &["leaks_tasks"]);
        thread::scope(|scope| {
            let pid = patient.child.id().to_string();
            let directory = patient.runtime_dir.clone();
            let asking = scope.spawn(move || {
                let ask = || {
                    let mut tool = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
                    tool.args(["tree", &pid]).env("XDG_RUNTIME_DIR", &directory).output().unwrap()
                };
                std::iter::repeat_with(ask).find(|output| !output.status.success()).unwrap()
            });
            thread::sleep(Duration::from_millis(7));
            patient.child.kill().unwrap();
            patient.child.wait().unwrap();
            let failed = asking.join().unwrap();
            let error = String::from_utf8(failed.stderr).unwrap();
            assert_eq!(failed.status.code(), Some(1), "{error}");
            assert!(error.starts_with("xiio-inspect: ") && error.lines().count() == 1, "{error}");
        });
    }
}

#[test]
fn a_directory_that_others_can_change_or_that_is_a_link_is_refused_by_both() {
    let open = |directory: &Path| {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    };
    let link = |directory: &Path| symlink(env::temp_dir(), directory).unwrap();
    for prepare in [&open as &dyn Fn(&Path), &link] {
        let mut patient = Patient::start("hangs", |program| {
            let directory = program.get_envs().find(|(name, _)| *name == "XDG_RUNTIME_DIR").unwrap().1.unwrap();
            prepare(&Path::new(directory).join("xiio"));
            program.env("XIIO_INSPECT", "1").stderr(Stdio::piped())
        });
        let mut line = String::new();
        BufReader::new(patient.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("xiio: this program cannot be inspected: ") && line.contains("mode 0700"), "{line}");
        for words in [&["tree", "PID"] as &[&str], &["list"]] {
            let output = patient.ask(words);
            assert!(!output.status.success() && patient.child.try_wait().unwrap().is_none());
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(error.contains("mode 0700"), "it says why: {error}");
        }
    }
}

#[test]
fn a_place_where_others_could_put_another_directory_is_not_used() {
    // Whoever may write there could put a link in the place of the directory, after it was looked at.
    let open = |directory: &Path| fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    for is_temporary_open in [false, true] {
        let mut patient = Patient::start("hangs", |program| {
            let directory = program.get_envs().find(|(name, _)| *name == "XDG_RUNTIME_DIR").unwrap().1.unwrap();
            let (runtime, temporary) = (PathBuf::from(directory), Path::new(directory).join("temporary"));
            fs::create_dir(&temporary).unwrap();
            fs::set_permissions(&temporary, Permissions::from_mode(0o700)).unwrap();
            open(&runtime);
            if is_temporary_open {
                open(&temporary);
            }
            program.env("TMPDIR", temporary).env("XIIO_INSPECT", "1").stderr(Stdio::piped())
        });
        let temporary = patient.runtime_dir.join("temporary");
        if is_temporary_open {
            let mut line = String::new();
            BufReader::new(patient.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
            assert!(line.contains("others can replace what is in it"), "{line}");
            assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
        } else {
            let end = Instant::now() + Duration::from_secs(60);
            let ask = || {
                let mut tool = Command::new(env!("CARGO_BIN_EXE_xiio-inspect"));
                let tool = tool.args(["tree", &patient.child.id().to_string()]);
                tool.env("XDG_RUNTIME_DIR", &patient.runtime_dir).env("TMPDIR", &temporary).output().unwrap()
            };
            while !ask().status.success() {
                assert!(Instant::now() < end, "{:?}", ask());
            }
        }
        assert!(!patient.runtime_dir.join("xiio").exists());
    }
}

#[test]
fn a_process_without_a_socket_is_an_error_that_says_what_to_do() {
    let patient = Patient::new("hangs");
    let output = patient.ask(&["why", "1"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("started with XIIO_INSPECT=1"));
}
