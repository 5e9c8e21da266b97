//! Children on a terminal: each program runs on a pseudo-terminal of its own, at which the test types.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use xiio::process::{Command, Stdio, run_process};
use xiio::signal::SIGINT;
use xiio::{inspect, timeout};
use xiio_tests::example::has_program;
use xiio_tests::os::{
    OnTerminal, group_of, is_running, processes_with, rerun, rerun_in_namespace, start_session, state_of, wait_until,
};

const MOMENT: Duration = Duration::from_millis(50);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn on_terminal(program: &str) -> OnTerminal {
    OnTerminal::start(&mut rerun(program))
}

fn sleeping_child(terminal: &mut OnTerminal) -> u32 {
    terminal.read_until("child: ").parse().unwrap()
}

/// Types Ctrl-C. The child of the program is not left alone for its grace.
fn assert_is_interrupted_at_once(terminal: &mut OnTerminal) {
    let start = Instant::now();
    terminal.type_in("\x03");
    assert_eq!(terminal.child.wait().unwrap().signal(), Some(SIGINT));
    assert!(start.elapsed() < Duration::from_secs(60), "that was the grace");
}

// Who has the terminal

#[test]
fn child_with_piped_stdin_reads_the_keyboard() {
    let mut terminal = on_terminal("program_with_a_pager");
    assert_eq!(terminal.read_until("any key"), "");
    terminal.type_in("k\n");
    assert_eq!(terminal.read_until("pressed"), "k");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn child_reads_the_keyboard_also_where_our_group_has_no_number() {
    // It is one of outside the namespace.
    let Some(mut command) = rerun_in_namespace("program_with_a_pager") else { return };
    let mut terminal = OnTerminal::start(&mut command);
    terminal.read_until("any key");
    terminal.type_in("k\n");
    assert_eq!(terminal.read_until("pressed"), "k");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
#[ignore = "a program for the tests above"]
fn program_with_a_pager() {
    let pager = "cat >/dev/null; echo any key; read key </dev/tty; echo pressed $key";
    xiio::run(run_process(shell(pager)).input("text\n").check(true)).unwrap();
}

#[test]
fn child_shares_the_group_of_a_program_on_a_terminal_and_leads_one_elsewhere() {
    let mut terminal = on_terminal("program_with_a_child");
    let child = sleeping_child(&mut terminal);
    assert_eq!(group_of(child), Some(terminal.child.id()));
    terminal.type_in("\x03");
    // It has no terminal, whatever the tests have.
    let mut command = rerun("program_with_a_child");
    start_session(&mut command);
    let (mut program, output) = xiio_tests::os::start_until(&mut command, "running");
    let child = xiio_tests::os::children_of(program.id())[0];
    assert_eq!(group_of(child), Some(child));
    program.kill().unwrap();
    xiio_tests::os::send(child, libc::SIGKILL);
    drop(output);
    program.wait().unwrap();
}

#[test]
#[ignore = "a program for the tests below and above"]
fn program_with_a_child() {
    xiio::run(async {
        let mut command = Command::new("sleep");
        let mut child = command.arg("3600").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        println!("child: {}\nrunning", child.id());
        child.wait().await.unwrap();
    });
}

/// A program of this file that finds no device, not even that of its terminal, with other streams if these are pipes. `None` where there may be
/// no such place.
fn rerun_without_devices(program: &str, has_pipes: bool) -> Option<std::process::Command> {
    let without_devices = |start: &str| {
        let mut command = std::process::Command::new("unshare");
        let script = format!("mount -t tmpfs none /dev && {start}");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        command
    };
    if !without_devices("true").stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: `{program}`, as there may be no namespace of mounts here");
        return None;
    }
    let start = r#""$0" --exact "$1" --ignored --nocapture"#;
    let mut command = without_devices(&if has_pipes { format!("true | {start} 2>&1 | cat") } else { start.to_owned() });
    command.arg(std::env::current_exe().unwrap()).arg(program);
    Some(command)
}

#[test]
fn terminal_whose_device_is_missing_is_one_all_the_same() {
    for has_pipes in [false, true] {
        let Some(mut command) = rerun_without_devices("program_whose_child_is_in_its_group", has_pipes) else { return };
        let mut terminal = OnTerminal::start(&mut command);
        let said = terminal.read_to_end();
        assert!(said.contains("1 passed"), "{said}");
    }
    let Some(mut elsewhere) = rerun_without_devices("program_whose_child_leads_a_group", true) else { return };
    start_session(&mut elsewhere);
    let said = elsewhere.output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).contains("1 passed"));
}

fn group_of_a_child() -> Option<u32> {
    xiio::run(async {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let group = group_of(child.id());
        child.stop().await.unwrap();
        group
    })
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_child_is_in_its_group() {
    assert_eq!(group_of_a_child(), group_of(std::process::id()));
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_child_leads_a_group() {
    assert_ne!(group_of_a_child(), group_of(std::process::id()));
}

// What the keyboard sends

#[test]
fn keys_that_end_a_program_end_its_children() {
    for (key, signal) in [("\x03", SIGINT), ("\x1c", libc::SIGQUIT)] {
        let mut terminal = on_terminal("program_with_a_child");
        let child = sleeping_child(&mut terminal);
        terminal.type_in(key);
        assert_eq!(terminal.child.wait().unwrap().signal(), Some(signal));
        wait_until("the child ends", || !is_running(child));
    }
}

#[test]
fn who_has_left_our_group_did_not_hear_the_key_and_is_not_waited_for() {
    if !has_program("timeout") {
        return;
    }
    let mut terminal = on_terminal("program_with_a_child_that_leaves");
    terminal.read_until("it is there");
    let start = Instant::now();
    terminal.type_in("\x03");
    assert_eq!(terminal.child.wait().unwrap().signal(), Some(SIGINT));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_a_child_that_leaves() {
    // `timeout` makes itself a group.
    let script = r#"trap "sleep 0.5; exit" INT; timeout 60 sh -c "echo it is there; exec sleep 50" & wait"#;
    let mut command = shell(script);
    command.grace(Duration::from_secs(20));
    let _ = xiio::Builder::new().cancel_on(&[SIGINT]).run(run_process(command));
}

#[test]
fn terminal_that_is_closed_ends_a_program_and_its_children() {
    let mut terminal = on_terminal("program_with_a_child");
    let child = sleeping_child(&mut terminal);
    terminal.keyboard = None;
    assert_eq!(terminal.child.wait().unwrap().signal(), Some(libc::SIGHUP));
    wait_until("the child ends", || !is_running(child));
}

#[test]
fn program_that_is_stopped_and_continued_is_so_with_its_children() {
    let program = std::env::current_exe().unwrap();
    let mut shell = std::process::Command::new("sh");
    // A shell with job control: without one the kernel stops nobody.
    let script = r#""$0" --exact program_with_a_child --ignored --nocapture; echo the shell again; read line; fg"#;
    let mut terminal = OnTerminal::start(shell.args(["-m", "-c", script]).arg(program));
    let child = sleeping_child(&mut terminal);
    terminal.type_in("\x1a");
    terminal.read_until("the shell again");
    wait_until("the child is stopped", || state_of(child) == Some('T'));
    terminal.type_in("\n");
    wait_until("the child goes on", || state_of(child) == Some('S'));
    terminal.type_in("\x03");
    wait_until("the child ends", || !is_running(child));
}

#[test]
fn child_that_has_heard_of_it_from_the_terminal_cleans_up_in_peace() {
    let mut terminal = on_terminal("program_that_is_interrupted_with_its_child");
    terminal.read_until("child is ready");
    terminal.type_in("\x03");
    let said = terminal.read_to_end();
    assert_eq!(terminal.child.wait().unwrap().signal(), Some(SIGINT), "{said}");
    assert!(said.contains("child has cleaned up\r\n"), "{said}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_interrupted_with_its_child() {
    xiio::Builder::new().cancel_on(&[SIGINT]).run(async {
        let script =
            "trap 'sleep 0.3; echo child has cleaned up; exit' INT; echo child is ready; while :; do sleep 0.01; done";
        shell(script).status().await.unwrap();
    });
}

#[test]
fn child_that_ignores_the_keyboard_is_asked_at_once() {
    let mut terminal = on_terminal("program_with_a_child_that_ignores_the_keyboard");
    terminal.read_until("child is ready");
    assert_is_interrupted_at_once(&mut terminal);
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_a_child_that_ignores_the_keyboard() {
    xiio::Builder::new().cancel_on(&[SIGINT]).run(async {
        let mut command = shell("trap '' INT; echo child is ready; exec sleep 3600");
        command.grace(Duration::from_secs(3600)).status().await.unwrap();
    });
}

#[test]
fn child_that_is_stopped_when_the_key_comes_is_asked_at_once() {
    let mut terminal = on_terminal("program_with_a_child_that_is_stopped");
    let child = sleeping_child(&mut terminal);
    wait_until("the child is stopped", || state_of(child) == Some('T'));
    assert_is_interrupted_at_once(&mut terminal);
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_a_child_that_is_stopped() {
    xiio::Builder::new().cancel_on(&[SIGINT]).run(async {
        let mut command = shell("trap 'exit 0' INT; echo child: $$; kill -STOP $$; while :; do sleep 0.01; done");
        command.grace(Duration::from_secs(70)).status().await.unwrap();
    });
}

// A cancellation

#[test]
fn pipeline_that_is_cancelled_leaves_nobody() {
    for program in ["program_that_cancels_a_pipeline", "program_that_drops_a_pipeline"] {
        let mut terminal = on_terminal(program);
        let argument = terminal.read_until("argument: ");
        terminal.read_until("cancelled");
        wait_until("nobody is left", || processes_with(&argument).is_empty());
        assert!(terminal.child.wait().unwrap().success());
    }
}

/// A shell and its pipeline: three that run under this number.
fn pipeline() -> (Command, String) {
    let argument = format!("3600.{}", std::process::id());
    println!("argument: {argument}");
    // One of them is hard of hearing, and one is in a group of its own.
    let script = format!(
        "trap '' HUP; (trap '' TERM; sleep {argument}) | timeout 3600 sleep {argument} | sleep {argument}; echo more"
    );
    let mut command = shell(&script);
    command.grace(MOMENT);
    (command, argument)
}

async fn all_run(argument: &str) {
    while processes_with(argument).iter().filter(|&&pid| is_running(pid)).count() < 4 {
        xiio::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_cancels_a_pipeline() {
    xiio::run(async {
        let (mut command, argument) = pipeline();
        xiio::race!(
            _ = command.status() => unreachable!(),
            () = all_run(&argument) => {},
        );
        assert!(processes_with(&argument).is_empty());
        println!("cancelled");
    });
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_drops_a_pipeline() {
    xiio::run(async {
        let (mut command, argument) = pipeline();
        let child = command.spawn().unwrap();
        all_run(&argument).await;
        drop(child);
        println!("cancelled");
    });
}

// A child that is stopped

#[test]
fn child_that_the_terminal_has_stopped_is_spoken_of() {
    let mut terminal = on_terminal("program_whose_child_reads_from_the_background");
    let report = terminal.read_until("is stopped by ");
    assert!(report.starts_with("SIGTTIN: it reads the terminal from the background"), "{report}");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_child_reads_from_the_background() {
    xiio::run(async {
        let told = xiio::Promise::new();
        let tell = told.clone();
        let _listening = inspect::listen(move |report| {
            println!("{report}");
            let _ = tell.set(report.kind());
        });
        let mut command = shell("read line </dev/tty");
        xiio::race!(
            _ = command.own_group(true).status() => unreachable!(),
            kind = told.wait() => assert_eq!(kind, inspect::ReportKind::ChildStopped),
        );
    });
}

#[test]
fn child_in_a_session_of_its_own_is_stopped_with_its_group() {
    xiio::run(async {
        let argument = format!("3601.{}", std::process::id());
        let mut command = shell(&format!("sleep {argument} & echo started; wait"));
        start_session(command.as_std_mut());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(group_of(child.id()), Some(child.id()));
        xiio::io::Read::read(child.stdout.as_mut().unwrap(), &mut [0; 16]).await.unwrap();
        assert!(timeout(MOMENT, child.wait()).await.is_err());
        assert!(processes_with(&argument).is_empty());
    });
}
