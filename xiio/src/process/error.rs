//! Why a command did not do what it was to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::{ExitStatus, Output};

use crate::drawing::Harmless;
use crate::sys::fork::Process;
use crate::sys::signal::is_ignored;

/// A command could not be run, or was run with [`check`](super::RunProcess::check) and has failed.
///
/// Its text names the program. It converts into [`io::Error`], so `?` works in functions that return `io::Result`: the error of
/// the system is bare then, with its number and without the name.
///
/// # Examples
/// ```
/// use xiio::process::run_process;
///
/// # xiio::run(async {
/// let error = run_process(["sh", "-c", "echo why >&2; exit 3"]).capture_output(true).check(true).await.unwrap_err();
/// assert_eq!(error.status().and_then(|status| status.code()), Some(3));
/// assert_eq!(error.output().unwrap().stderr, b"why\n");
/// assert!(run_process("no-such-program").await.unwrap_err().status().is_none());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct ProcessError {
    kind: Kind,
}

/// How much an error shows of the last line of a program, in bytes.
const MAX_SHOWN: usize = 1024;

#[derive(Debug)]
enum Kind {
    Io {
        /// What cannot be done, where the error does not say.
        context: Option<String>,
        error: io::Error,
    },
    Failed {
        program: String,
        output: Output,
    },
}

impl ProcessError {
    pub(super) fn failed(program: String, output: Output) -> Self {
        Self { kind: Kind::Failed { program, output } }
    }

    /// An error of the system, and what could not be done.
    pub(super) fn of_system(error: io::Error, context: impl FnOnce() -> String) -> Self {
        let context = error.raw_os_error().map(|_| context());
        Self { kind: Kind::Io { context, error } }
    }

    /// The error that kept the command from running or from being waited for; `None` if it has failed.
    ///
    /// It is as `std` gives it: `raw_os_error()` tells `EMFILE`, after which one tries again, from `ENOENT`.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.kind {
            Kind::Io { error, .. } => Some(error),
            Kind::Failed { .. } => None,
        }
    }

    /// How the command ended; `None` if it could not be run.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.output().map(|output| output.status)
    }

    /// What the command wrote before it failed, as far as it was captured; `None` if it could not be run.
    #[must_use]
    pub fn output(&self) -> Option<&Output> {
        match &self.kind {
            Kind::Failed { output, .. } => Some(output),
            Kind::Io { .. } => None,
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Io { context, error } => {
                if let Some(context) = context {
                    write!(f, "{}: ", Harmless(context))?;
                }
                write!(f, "{error}")?;
                if is_of_missing(error) {
                    write!(f, "; {}", reason_of_missing())?;
                }
                Ok(())
            }
            Kind::Failed { program, output } => {
                write!(f, "`{}` ended with {}", Harmless(program), output.status)?;
                let lines = output.stderr.rsplit(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
                lines.into_iter().find(|line| !line.is_empty()).map_or(Ok(()), |last| write_end(f, last))
            }
        }
    }
}

/// The end of a line, which says more than its beginning.
fn write_end(f: &mut fmt::Formatter<'_>, line: &[u8]) -> fmt::Result {
    let end = &line[line.len().saturating_sub(MAX_SHOWN)..];
    let text = String::from_utf8_lossy(end);
    match end.len() < line.len() {
        // The first may be the rest of a character.
        true => write!(f, ": …{}", Harmless(text.trim_start_matches(char::REPLACEMENT_CHARACTER))),
        false => write!(f, ": {}", Harmless(&text)),
    }
}

impl Error for ProcessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            Kind::Io { error, .. } => error.source(),
            Kind::Failed { .. } => None,
        }
    }
}

/// Whether a child of ours is not there any more.
fn is_of_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ECHILD))
}

fn reason_of_missing() -> &'static str {
    if is_ignored(libc::SIGCHLD) {
        "the kernel reaps children by itself while SIGCHLD is ignored"
    } else if Process::this() != Process::after(0) {
        "other code of this process has waited for it, SIGCHLD was ignored when it ended, \
         or it is a child of the process that this one was forked off"
    } else {
        "other code of this process has waited for it, or SIGCHLD was ignored when it ended"
    }
}

impl From<io::Error> for ProcessError {
    fn from(error: io::Error) -> Self {
        Self { kind: Kind::Io { context: None, error } }
    }
}

impl From<ProcessError> for io::Error {
    fn from(error: ProcessError) -> Self {
        match error.kind {
            Kind::Io { error, .. } => error,
            Kind::Failed { .. } => Self::other(error),
        }
    }
}
