//! A namespace of processes whose `/proc` is still that of another one, as `unshare --pid --fork` leaves it: the numbers there are not those of
//! our children.

use xiio::process::{Child, Command, Stdio};
use xiio_tests::LONG;
use xiio_tests::os::{
    choose_next_number, group_of, parent_of, processes_with, rerun_in_namespace, start_session, wait_until,
};

/// Runs a program of this file there, where the system has such namespaces.
fn assert_passes_in_namespace(program: &str) {
    let Some(mut command) = rerun_in_namespace(program) else { return };
    assert!(command.status().unwrap().success());
}

#[test]
fn a_child_whose_number_is_that_of_a_parent_elsewhere_has_no_children() {
    assert_passes_in_namespace("program_that_stops_and_drops_a_child");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_stops_and_drops_a_child() {
    let us_elsewhere = us_elsewhere();
    let parent_elsewhere = parent_of(us_elsewhere).unwrap();
    if let Err(error) = choose_next_number(parent_elsewhere) {
        return eprintln!("not tested: no process can be started under a given number here: {error}");
    }
    xiio::run(async {
        for fate in ["is stopped", "is dropped"] {
            let mut child = start_under(parent_elsewhere);
            let mut sibling = start_under(us_elsewhere);
            if fate == "is stopped" {
                child.stop().await.unwrap();
            }
            drop(child);
            // Had it been signalled before, it would not end well.
            drop(sibling.stdin.take());
            assert!(sibling.wait().await.unwrap().success(), "the child {fate}");
        }
    });
}

fn us_elsewhere() -> u32 {
    std::fs::read_link("/proc/self").unwrap().to_str().unwrap().parse().unwrap()
}

fn start_under(pid: u32) -> Child {
    choose_next_number(pid).unwrap();
    let child = Command::new("cat").stdin(Stdio::piped()).grace(LONG).spawn().unwrap();
    assert_eq!(child.id(), pid);
    child
}

#[test]
fn who_is_left_of_a_group_is_killed_where_nothing_tells_who_they_are() {
    assert_passes_in_namespace("program_that_stops_a_child_with_a_stubborn_one");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_stops_a_child_with_a_stubborn_one() {
    let seconds = format!("3600.{:09}", us_elsewhere());
    let script = format!("trap '' TERM; sleep {seconds} & trap - TERM; echo; wait");
    xiio::run(async {
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdout(Stdio::piped()).own_group(true).grace(LONG);
        let mut child = command.spawn().unwrap();
        let mut byte = [0];
        xiio::io::Read::read(child.stdout.as_mut().unwrap(), &mut byte).await.unwrap();
        child.stop().await.unwrap();
    });
    wait_until("it is killed", || processes_with(&seconds).is_empty());
}

#[test]
fn a_command_starts_children_in_either_group_where_our_own_has_no_number() {
    assert_passes_in_namespace("program_with_children_in_either_group");
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_children_in_either_group() {
    let ours = group_of(us_elsewhere());
    let mut command = Command::new("cut");
    command.args(["--delimiter= ", "--fields=5", "/proc/self/stat"]);
    let mut stays = |own_group| {
        let output = xiio::run(command.own_group(own_group).output()).unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().ok() == ours
    };
    assert_eq!([false, true, false, true].map(&mut stays), [true, false, true, false]);

    // The leader of a group cannot begin a session, and that of a session no group.
    for is_set_first in [false, true] {
        let mut command = Command::new("true");
        if is_set_first {
            start_session(command.as_std_mut());
        }
        command.own_group(true);
        assert!(xiio::run(command.status()).unwrap().success());
        if !is_set_first {
            start_session(command.as_std_mut());
        }
        assert!(xiio::run(command.status()).unwrap().success());
    }
}
