//! A command in one call.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::io::{self, ErrorKind};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::process::Output;

use super::command::{Command, Defaults};
use super::error::ProcessError;
use super::stdio::Stdio;
use crate::drawing::{Kind, Node};
use crate::unwind;

/// Runs a command to its end: `run_process(command).await`.
///
/// The command is a [`Command`] (or `&mut` of one, as its methods give), the name of a program, or an array, a slice or a `Vec` of
/// a program and its arguments. There is no shell in between. Streams are inherited by default.
///
/// The value has the status, and what was written if [`capture_output`](RunProcess::capture_output) was asked for.
///
/// # Errors
/// The reason why the program could not run, with its name. With [`check`](RunProcess::check) also a
/// program that failed. `InvalidInput` for an array, a slice or a `Vec` without a program.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// The process is stopped with its group, see [the module](super).
///
/// # Examples
/// ```
/// use xiio::process::{Command, ProcessError, run_process};
///
/// # xiio::run(async {
/// let greeting = run_process(["echo", "hello"]).capture_output(true).await?;
/// assert_eq!(greeting.stdout, b"hello\n");
///
/// let missing = run_process(Command::new("ls").arg("/no/such/directory")).capture_output(true).check(true).await;
/// assert!(missing.unwrap_err().to_string().starts_with("`ls` ended with exit status: 2: "));
/// # Ok::<(), ProcessError>(()) }).unwrap();
/// ```
///
/// # Source
/// `xiio.run_process` in the Python original; `subprocess.run`.
#[track_caller]
pub fn run_process<'a>(command: impl Into<RunProcess<'a>>) -> RunProcess<'a> {
    RunProcess { place: Location::caller(), ..command.into() }
}

/// A command about to be run, see [`run_process`].
#[must_use = "nothing is run unless this is awaited"]
pub struct RunProcess<'a> {
    command: Held<'a>,
    input: Option<Box<dyn AsRef<[u8]> + 'a>>,
    captures: bool,
    checks: bool,
    /// Where it was made, for reports.
    place: &'static Location<'static>,
}

enum Held<'a> {
    Owned(Box<Command>),
    Borrowed(&'a mut Command),
    /// There is no word, so no program.
    Nothing,
}

impl<'a> RunProcess<'a> {
    fn new(command: Held<'a>) -> Self {
        Self { command, input: None, captures: false, checks: false, place: Location::caller() }
    }

    /// Writes these bytes to the stdin of the command, while its output is read, and closes it then.
    ///
    /// It is no error if the command does not read all of it. A command whose stdin was set to anything but a pipe is
    /// `InvalidInput`.
    pub fn input(mut self, input: impl AsRef<[u8]> + 'a) -> Self {
        self.input = Some(Box::new(input));
        self
    }

    /// Whether stdout and stderr are captured, where the command does not say otherwise. The memory is the limit.
    pub fn capture_output(mut self, captures: bool) -> Self {
        self.captures = captures;
        self
    }

    /// Whether an end without success is an error.
    pub fn check(mut self, checks: bool) -> Self {
        self.checks = checks;
        self
    }

    async fn run(mut self) -> Result<Output, ProcessError> {
        let command: &mut Command = match &mut self.command {
            Held::Owned(command) => command,
            Held::Borrowed(command) => command,
            Held::Nothing => {
                let text = "expected the name of a program and its arguments, got no words";
                return Err(io::Error::new(ErrorKind::InvalidInput, text).into());
            }
        };
        let mut streams = Defaults::inherit();
        if self.input.is_some() {
            command.check_takes_input()?;
            streams.stdin = Some(Stdio::piped());
        }
        if self.captures {
            (streams.stdout, streams.stderr) = (Some(Stdio::piped()), Some(Stdio::piped()));
        }
        let child =
            command.start(streams).map_err(|error| ProcessError::of_system(error, || command.describe_start()))?;
        let program = child.program().to_owned();
        let input = self.input.as_deref().map_or(&[][..], AsRef::as_ref);
        let pid = child.id();
        let node = || Node::new(Kind::Process, "run_process").named(Some(program.clone().into())).waits_for(pid);
        let mut exchange = pin!(child.communicate(input, self.place));
        let waited = poll_fn(|cx| {
            let _around = unwind::draw_around(node);
            exchange.as_mut().poll(cx)
        })
        .await;
        let output =
            waited.map_err(|error| ProcessError::of_system(error, || format!("cannot wait for `{program}`")))?;
        if self.checks && !output.status.success() {
            return Err(ProcessError::failed(program, output));
        }
        Ok(output)
    }
}

impl<'a> IntoFuture for RunProcess<'a> {
    type Output = Result<Output, ProcessError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl From<Command> for RunProcess<'_> {
    fn from(command: Command) -> Self {
        Self::new(Held::Owned(Box::new(command)))
    }
}

impl<'a> From<&'a mut Command> for RunProcess<'a> {
    fn from(command: &'a mut Command) -> Self {
        Self::new(Held::Borrowed(command))
    }
}

/// The types that name a program. One impl for `AsRef<OsStr>` would overlap that of arrays, for all that the compiler knows.
macro_rules! from_name {
    ($($name:ty),+) => {
        $(impl From<$name> for RunProcess<'_> {
            fn from(program: $name) -> Self {
                Command::new(program).into()
            }
        })+
    };
}

from_name!(&str, &String, String, &OsStr, &OsString, OsString, &Path, &PathBuf, PathBuf);

impl<S: AsRef<OsStr>, const N: usize> From<[S; N]> for RunProcess<'_> {
    fn from(words: [S; N]) -> Self {
        words[..].into()
    }
}

impl<S: AsRef<OsStr>, const N: usize> From<&[S; N]> for RunProcess<'_> {
    fn from(words: &[S; N]) -> Self {
        words[..].into()
    }
}

impl<S: AsRef<OsStr>> From<Vec<S>> for RunProcess<'_> {
    fn from(words: Vec<S>) -> Self {
        words[..].into()
    }
}

impl<S: AsRef<OsStr>> From<&Vec<S>> for RunProcess<'_> {
    fn from(words: &Vec<S>) -> Self {
        words[..].into()
    }
}

impl<S: AsRef<OsStr>> From<&[S]> for RunProcess<'_> {
    fn from(words: &[S]) -> Self {
        let [program, arguments @ ..] = words else { return RunProcess::new(Held::Nothing) };
        let mut command = Command::new(program);
        command.args(arguments);
        command.into()
    }
}

impl fmt::Debug for RunProcess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command: Option<&Command> = match &self.command {
            Held::Owned(command) => Some(command),
            Held::Borrowed(command) => Some(command),
            Held::Nothing => None,
        };
        f.debug_struct("RunProcess").field("command", &command).finish_non_exhaustive()
    }
}
