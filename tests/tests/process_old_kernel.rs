//! A kernel that does not know `pidfd_open`, alone in its process: what was found out once is kept.

use xiio::process::Command;
use xiio_tests::os::{children, forget_system_call};

#[test]
fn nothing_is_started_and_the_error_says_why() {
    forget_system_call(libc::SYS_pidfd_open);
    let error = xiio::run(Command::new("sleep").arg("3600").status()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "cannot run `sleep`: this kernel cannot watch processes: `pidfd_open` is missing (it came with Linux 5.3) or forbidden"
    );
    assert_eq!(children(), []);
}
