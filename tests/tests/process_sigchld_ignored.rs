//! A program whose children the kernel reaps by itself. A file of its own, as this is set for the whole process.

use std::io;

use xiio::io::{BufReader, Read};
use xiio::process::{Command, Stdio, run_process};
use xiio::signal::{SIGCHLD, SIGTERM};
use xiio_tests::os::{is_running, send, set_handler};

#[test]
fn nobody_is_signalled_under_the_number_of_a_child_that_is_gone() {
    set_handler(SIGCHLD, libc::SIG_IGN);
    let survivor = xiio::run(async {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 >&- & echo $!; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It ends now, and not before it is watched.
        drop(child.stdin.take());
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_to_string(&mut said).await.unwrap();
        child.wait_exited().await.unwrap();
        child.wait().await.unwrap_err();
        // The survivor has the number of the group still, but that is luck: it may be anybody's.
        assert!(child.signal(SIGTERM).unwrap_err().to_string().contains("No such process"));
        child.stop().await.unwrap_err();
        drop(child);
        said.trim().parse().unwrap()
    });
    assert!(is_running(survivor));
    send(survivor, SIGTERM);
}

#[test]
fn error_says_why_there_is_nothing_to_wait_for() {
    set_handler(SIGCHLD, libc::SIG_IGN);
    // The first may be gone before it can be watched, the second is not.
    for script in ["exit", "sleep 0.1"] {
        let failed = xiio::run(async { run_process(["sh", "-c", script]).await }).unwrap_err();
        let error = failed.to_string();
        assert!(matches!(io::Error::from(failed).raw_os_error(), Some(libc::ECHILD | libc::ESRCH)));
        assert!(error.contains("`sh`"), "{error}");
        assert!(error.ends_with("; the kernel reaps children by itself while SIGCHLD is ignored"), "{error}");
    }
}
