//! A kernel that does not know `pidfd_open`, or does not allow it, alone in its process: what was found out once is kept.

use std::thread;

use xiio::process::Command;
use xiio_tests::os::{children, refuse_system_call};

#[test]
fn nothing_is_started_and_the_error_says_why() {
    // The second is the answer of a sandbox.
    for errno in [libc::ENOSYS, libc::EPERM] {
        thread::spawn(move || refused_with(errno)).join().unwrap();
    }
}

fn refused_with(errno: i32) {
    refuse_system_call(libc::SYS_pidfd_open, errno);
    let error = xiio::run(Command::new("sleep").arg("3600").status()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run `sleep`: this kernel cannot watch processes: `pidfd_open` is missing (it came with Linux 5.3) or forbidden"
    );
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(children(), []);
}
