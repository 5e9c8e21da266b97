//! A program whose children the kernel reaps by itself. A file of its own, as this is set for the whole process.

use xiio::process::Command;
use xiio::signal::SIGCHLD;
use xiio_tests::os::set_handler;

#[test]
fn error_says_why_there_is_nothing_to_wait_for() {
    set_handler(SIGCHLD, libc::SIG_IGN);
    // The first may be gone before it can be watched, the second is not.
    for script in ["exit", "sleep 0.1"] {
        let error = xiio::run(Command::new("sh").args(["-c", script]).status()).unwrap_err().to_string();
        assert!(error.contains("`sh`"), "{error}");
        assert!(error.ends_with("; the kernel reaps children by itself while SIGCHLD is ignored"), "{error}");
    }
}
