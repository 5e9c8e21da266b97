//! What a thousand children leave behind, alone in its process: descriptors and children belong to all of it.

use std::time::Duration;

use xiio::process::{Command, Stdio, run_process};
use xiio::timeout;
use xiio_tests::os::{children, n_fds, wait_until};

#[test]
fn thousand_runs_leave_no_descriptor_and_no_zombie() {
    xiio::run(async { run_process("true").await.unwrap() });
    let n_fds_before = n_fds();
    xiio::run(async {
        for n in 0..250 {
            assert!(run_process("true").input("unread").capture_output(true).await.unwrap().status.success());
            assert!(run_process("no-such-program").input("unread").capture_output(true).await.is_err());
            assert!(run_process("true").check(n % 2 == 0).await.is_ok());
            let mut sleeper = Command::new("sleep");
            let sleeper = sleeper.arg("3600").stdout(Stdio::piped());
            assert!(timeout(Duration::from_millis(1), sleeper.status()).await.is_err());
            drop(sleeper.spawn().unwrap());
        }
    });
    assert_eq!(n_fds(), n_fds_before);
    wait_until("dropped children are reaped", || children().is_empty());
}
