//! A stop for which there are too few descriptors, alone in its process: the limit is that of a process.

use std::cell::RefCell;
use std::process::Stdio as StdStdio;
use std::rc::Rc;
use std::time::Duration;

use xiio::inspect::{self, ReportKind};
use xiio::io::{BufRead, BufReader, Read, Write};
use xiio::process::{Child, ChildStdout, Command, Stdio};
use xiio::signal::SIGKILL;
use xiio::task_group;
use xiio_tests::os::{limit_fds, processes_with, rerun, send, take_all_fds, wait_until};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn descendants_that_outnumber_the_descriptors_are_asked_and_waited_for() {
    assert!(rerun("program_with_many_descendants").stdout(StdStdio::inherit()).status().unwrap().success());
}

#[test]
fn descendants_that_cannot_be_found_are_spoken_of() {
    assert!(rerun("program_that_finds_no_descendants").stdout(StdStdio::inherit()).status().unwrap().success());
}

#[test]
fn group_whose_end_cannot_be_seen_has_its_grace() {
    assert!(rerun("program_that_sees_no_group").stdout(StdStdio::inherit()).status().unwrap().success());
}

fn argument() -> String {
    format!("3607.{}", std::process::id())
}

fn start(script: &str, own_group: bool) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).own_group(own_group).grace(LONG).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

async fn read_line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).await.unwrap();
    line
}

/// What is reported on this thread.
fn reports() -> (inspect::Listening, Rc<RefCell<Vec<ReportKind>>>) {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    (inspect::listen(move |report| sink.borrow_mut().push(report.kind())), reports)
}

#[test]
#[ignore = "a program for a test above"]
fn program_with_many_descendants() {
    const N: usize = 50;
    limit_fds(40);
    let (_listening, reports) = reports();
    let argument = argument();
    let script = format!(
        "for i in $(seq {N}); do (trap 'echo bye; exit' TERM; sleep {argument} & echo up; wait) & done; \
         trap exit TERM; wait"
    );
    let said = xiio::run(async {
        let (mut child, mut output) = start(&script, false);
        for _ in 0..N {
            assert_eq!(read_line(&mut output).await, "up\n");
        }
        child.stop().await.unwrap();
        let mut said = String::new();
        output.read_to_string(&mut said).await.unwrap();
        said
    });
    assert_eq!(said, "bye\n".repeat(N));
    assert!(processes_with(&argument).is_empty());
    assert!(reports.borrow().is_empty(), "{reports:?}");
}

#[test]
#[ignore = "a program for a test above"]
fn program_that_finds_no_descendants() {
    limit_fds(40);
    let (_listening, reports) = reports();
    let argument = argument();
    xiio::run(async {
        let (mut child, mut output) = start(&format!("sleep {argument} & echo up; wait"), false);
        assert_eq!(read_line(&mut output).await, "up\n");
        let taken = take_all_fds();
        child.stop().await.unwrap();
        drop(taken);
    });
    assert_eq!(*reports.borrow(), [ReportKind::ChildLeft]);
    for left in processes_with(&argument) {
        send(left, SIGKILL);
    }
    wait_until("it is killed", || processes_with(&argument).is_empty());
}

#[test]
#[ignore = "a program for a test above"]
fn program_that_sees_no_group() {
    limit_fds(40);
    // The leader ends at once, and the other takes its time.
    let member = "trap 'echo asked; read go <&3; echo $go; exit' TERM; echo up; while :; do sleep 0.01; done";
    let script = format!("exec 3<&0; trap exit TERM; ({member}) & wait");
    let said = xiio::run(async {
        let (mut child, mut output) = start(&script, true);
        let mut stdin = child.stdin.take().unwrap();
        assert_eq!(read_line(&mut output).await, "up\n");
        let taken = take_all_fds();
        task_group!(|tg| {
            let stop = tg.spawn(child.stop());
            let asked = read_line(&mut output).await;
            drop(taken);
            let _ = stdin.write_all(b"bye\n").await;
            let said = read_line(&mut output).await;
            stop.await.unwrap();
            asked + &said
        })
    });
    assert_eq!(said, "asked\nbye\n");
}
