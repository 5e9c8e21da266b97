//! What to run, and how.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::panic::Location;
use std::path::Path;
use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use super::child::Child;
use super::running::{Running, StopPlan};
use super::stdio::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use crate::error::explain;
use crate::sys::process::leader::Leader;
use crate::sys::process::parent::DeathSignal;
use crate::sys::process::{PidFd, own_group};
use crate::sys::terminal::has_terminal;
use crate::sys::{Call, call, signal};

const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// A command to be run, as `std::process::Command`.
///
/// The methods have the names and meanings of `std`. `spawn` starts it; `status`, `output` and `scope` give a future.
/// Other methods set how a child [is stopped](Command::grace) when its task is cancelled. A command can be run any
/// number of times.
///
/// # Examples
/// ```
/// use xiio::process::Command;
///
/// # xiio::run(async {
/// let output = Command::new("sh").args(["-c", "echo $GREETING"]).env("GREETING", "hello").output().await?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout, b"hello\n");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    /// Whether stdin is a pipe of ours, if that was said here.
    stdin_is_piped: Option<bool>,
    has_stdout: bool,
    has_stderr: bool,
    /// The command of `std` may have streams that are not known here.
    may_have_streams: bool,
    own_group: Option<bool>,
    /// There from the first child on that leads a group where our own has no number.
    leader: Option<Leader>,
    stop_signal: i32,
    grace: Duration,
    dies_with_us: bool,
    /// There from the first child on that dies with us.
    death_signal: Option<DeathSignal>,
}

/// What streams are where the command does not say. `None` is inherited.
pub(super) struct Defaults {
    pub(super) stdin: Option<Stdio>,
    pub(super) stdout: Option<Stdio>,
    pub(super) stderr: Option<Stdio>,
}

impl Defaults {
    pub(super) fn inherit() -> Self {
        Self { stdin: None, stdout: None, stderr: None }
    }

    fn capture() -> Self {
        Self { stdin: Some(Stdio::null()), stdout: Some(Stdio::piped()), stderr: Some(Stdio::piped()) }
    }
}

impl Command {
    /// The program at `program`, or of that name in the `PATH`, without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { may_have_streams: false, ..std::process::Command::new(program).into() }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// Sets what the program sees as its own name.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg0(arg);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(name, value);
        self
    }

    /// Sets variables of the environment.
    pub fn envs(&mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> &mut Self {
        self.inner.envs(variables);
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(name);
        self
    }

    /// Takes all variables out of the environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(dir);
        self
    }

    /// Sets where stdin comes from. Inherited by default; nothing by default for [`Command::output`].
    pub fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Self {
        let from = from.into();
        self.stdin_is_piped = Some(from.is_piped());
        self.inner.stdin(from);
        self
    }

    /// Sets where stdout goes to. Inherited by default; captured by default for [`Command::output`].
    pub fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.has_stdout = true;
        self.inner.stdout(to.into());
        self
    }

    /// Sets where stderr goes to. Inherited by default; captured by default for [`Command::output`].
    pub fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.has_stderr = true;
        self.inner.stderr(to.into());
        self
    }

    /// Sets how long a child that was asked to stop may take until it is killed: 5 seconds by default.
    ///
    /// The time that this process is stopped counts, as by Ctrl-Z: a child on the terminal, which was stopped with it in its cleanup, may be killed
    /// at `fg`.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use xiio::{process::Command, timeout};
    ///
    /// # xiio::run(async {
    /// let start = Instant::now();
    /// let mut stubborn = Command::new("sh");
    /// stubborn.args(["-c", "trap '' TERM; sleep 60"]).grace(Duration::from_millis(50));
    /// assert!(timeout(Duration::from_millis(50), stubborn.status()).await.is_err());
    /// assert!(start.elapsed() < Duration::from_secs(10));
    /// # });
    /// ```
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.grace = grace;
        self
    }

    /// Sets what asks a child to stop: `SIGTERM` by default.
    ///
    /// With `0` the child is not asked: xiio only waits for it, as long as the grace lasts, and then
    /// kills it. With a number that is no signal the start fails with `InvalidInput`.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// use xiio::{process::Command, signal::SIGINT};
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("sleep").arg("60").stop_signal(SIGINT).spawn()?;
    /// assert_eq!(child.stop().await?.signal(), Some(SIGINT));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn stop_signal(&mut self, signal: i32) -> &mut Self {
        self.stop_signal = signal;
        self
    }

    /// Sets whether the child leads a process group of its own, which is signalled as a whole.
    ///
    /// By default it does, except where this process has a terminal: see [the module](super).
    pub fn own_group(&mut self, own_group: bool) -> &mut Self {
        self.own_group = Some(own_group);
        self
    }

    /// Sets whether the kernel sends the child its [stop signal](Command::stop_signal) when this process ends, also by `SIGKILL` or
    /// a crash; `SIGKILL` if that is 0. By default it does not.
    ///
    /// It is sent to the child alone, not to its descendants, and not to a program that runs as another user. Such a child is
    /// started by `fork`, which copies the tables of all memory of this process: the more memory, the longer it takes. On a
    /// terminal it cuts off a child that cleans up after Ctrl-C, if this process does not wait.
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// assert!(Command::new("true").dies_with_us(true).status().await?.success());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Source
    /// `PR_SET_PDEATHSIG` in `prctl(2)`, which means the end of the thread that has started the child. A child stays on
    /// that thread. FreeBSD has `PROC_PDEATHSIG_CTL` in `procctl(2)`; macOS has nothing, and there the start fails with `ENOSYS`.
    pub fn dies_with_us(&mut self, dies: bool) -> &mut Self {
        self.dies_with_us = dies;
        self
    }

    /// The command of `std` inside, for what has no method here (`uid`, `pre_exec`, `get_args`, …).
    ///
    /// Set streams and the process group with the methods of this type: xiio does not know what is set
    /// on the inner command.
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// let mut command = Command::new("ls");
    /// command.arg("/");
    /// assert_eq!(command.as_std_mut().get_args().count(), 1);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.inner
    }

    /// Starts the command.
    ///
    /// # Errors
    /// What kept it from running, as `std` gives it, so without the name of the program; [`run_process`](super::run_process()) names it.
    /// It was not found, is not executable, the working directory cannot be entered, there are no descriptors or processes left. Nothing is started where it is `Unsupported`, on a kernel without
    /// `pidfd_open`, or `InvalidInput`, for a [stop signal](Command::stop_signal) that there is not.
    ///
    /// # Cancellation
    /// See [`Child`].
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{Read, Write};
    /// use xiio::process::{Command, Stdio};
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    /// stdin.write_all(b"loud").await?;
    /// drop(stdin);
    /// let mut answer = String::new();
    /// stdout.read_to_string(&mut answer).await?;
    /// assert_eq!(answer, "LOUD");
    /// child.wait().await?;
    ///
    /// let error = Command::new("no-such-program").spawn().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.start(Defaults::inherit())
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    /// As [`Command::spawn`]. A program that fails is no error.
    ///
    /// # Cancellation
    /// The process is stopped with its group, see [the module](super). The call starts the process, so that the future needs
    /// nothing of the command. A future that is dropped or cancelled before its first poll kills it.
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// assert!(Command::new("true").status().await?.success());
    /// assert_eq!(Command::new("false").status().await?.code(), Some(1));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        let child = self.spawn();
        async { child?.wait().await }
    }

    /// Runs the command to its end and gives what it wrote.
    ///
    /// Streams that were not set are captured, and stdin is empty, as in `std`.
    ///
    /// # Errors
    /// As [`Command::spawn`]. A program that fails is no error.
    ///
    /// # Cancellation
    /// As [`Command::status`].
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// let output = Command::new("echo").arg("hello").output().await?;
    /// assert_eq!(output.stdout, b"hello\n");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + use<> {
        let child = self.start(Defaults::capture());
        async { child?.wait_with_output().await }
    }

    /// Starts the command for as long as `usage` takes, which gets the child: when `usage` has ended, the child
    /// has ended, too.
    ///
    /// A child that was not waited for by then is stopped with its group as after a cancellation. The value is that of `usage`.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    ///
    /// # Cancellation
    /// `usage` is cancelled, with its cleanup, and then the child is stopped with its group, whatever `usage` was waiting for.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader};
    /// use xiio::process::{Command, Stdio};
    ///
    /// # xiio::run(async {
    /// let first = Command::new("yes")
    ///     .stdout(Stdio::piped())
    ///     .scope(async |child| {
    ///         let mut lines = BufReader::new(child.stdout.take()?).lines();
    ///         lines.next().await?.ok()
    ///     })
    ///     .await?;
    /// assert_eq!(first.as_deref(), Some("y"));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn scope<T>(&mut self, usage: impl AsyncFnOnce(&mut Child) -> T) -> impl Future<Output = io::Result<T>> {
        let place = Location::caller();
        async move {
            let child = self.spawn()?;
            Ok(child.lend(usage, place).await)
        }
    }

    /// Starts the command, with the streams it does not speak of as `defaults` says.
    pub(super) fn start(&mut self, defaults: Defaults) -> io::Result<Child> {
        self.set_defaults(defaults);
        self.start_set().map_err(|error| explain(error, || self.describe_start()))
    }

    fn start_set(&mut self) -> io::Result<Child> {
        PidFd::check_supported()?;
        self.check_stop_signal()?;
        let has_group = match self.own_group {
            Some(own_group) => own_group,
            None => !has_terminal()?,
        };
        self.set_death_signal();
        let mut plan = StopPlan { signal: self.stop_signal, grace: self.grace, has_group, started: Instant::now() };
        let mut child = match self.start_in_group(has_group) {
            // That is what `setsid` says to the leader of a group, in a `pre_exec`. A session of its own makes it one again.
            Err(error) if has_group && error.raw_os_error() == Some(libc::EPERM) => {
                plan.has_group = false;
                self.start_in_group(false)
            }
            started => started,
        }?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let program = self.inner.get_program().to_string_lossy().into_owned();
        let running = Running::new(child, plan, program)?;
        // An error from here on drops the child, which kills it.
        let process = running.process();
        let stdin = pipes.0.map(|pipe| ChildStdin::new(pipe, process)).transpose()?;
        let stdout = pipes.1.map(|pipe| ChildStdout::new(pipe, process)).transpose()?;
        let stderr = pipes.2.map(|pipe| ChildStderr::new(pipe, process)).transpose()?;
        Ok(Child::new(running, stdin, stdout, stderr))
    }

    /// Whether it can be sent: who stops a child would hear of it too late.
    fn check_stop_signal(&self) -> io::Result<()> {
        let signal = self.stop_signal;
        if signal == 0 || signal::exists(signal) {
            return Ok(());
        }
        let text = format!("expected a signal to stop it with, or 0 for none, got {signal}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn set_death_signal(&mut self) {
        if self.dies_with_us && self.death_signal.is_none() {
            self.death_signal = Some(DeathSignal::of(&mut self.inner));
        }
        if let Some(death_signal) = &self.death_signal {
            death_signal.set(match self.stop_signal {
                _ if !self.dies_with_us => 0,
                // A child that is not asked is killed.
                0 => libc::SIGKILL,
                signal => signal,
            });
        }
    }

    fn start_in_group(&mut self, own: bool) -> io::Result<std::process::Child> {
        // Ours is zero where it is one of outside our namespace, and as a number to `setpgid` that is a group of the child's own.
        let has_number = own_group() != 0;
        if has_number {
            self.inner.process_group(if own { 0 } else { own_group() });
        } else if own && self.leader.is_none() {
            self.leader = Some(Leader::of(&mut self.inner));
        }
        if let Some(leader) = &self.leader {
            leader.set(own && !has_number);
        }
        call(Call::Make, || self.inner.spawn())
    }

    /// Whether input can be given.
    pub(super) fn check_takes_input(&self) -> io::Result<()> {
        if self.stdin_is_piped != Some(false) {
            return Ok(());
        }
        let program = self.inner.get_program().display();
        let text =
            format!("cannot give input to `{program}`: its stdin was set, to something else than `Stdio::piped()`");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// What was set for one run must not stay for the next.
    fn set_defaults(&mut self, defaults: Defaults) {
        let Defaults { stdin, stdout, stderr } = defaults;
        if self.may_have_streams {
            if stdin.is_none() && stdout.is_none() && stderr.is_none() {
                return;
            }
            self.may_have_streams = false;
        }
        if self.stdin_is_piped.is_none() {
            self.inner.stdin(stdin.unwrap_or(Stdio::inherit()));
        }
        if !self.has_stdout {
            self.inner.stdout(stdout.unwrap_or(Stdio::inherit()));
        }
        if !self.has_stderr {
            self.inner.stderr(stderr.unwrap_or(Stdio::inherit()));
        }
    }

    /// What cannot be done, for an error.
    pub(super) fn describe_start(&self) -> String {
        let program = self.inner.get_program().display();
        let place = self.inner.get_current_dir().map(|dir| format!(" in `{}`", dir.display())).unwrap_or_default();
        format!("cannot run `{program}`{place}")
    }
}

/// A command that was built with `std`, `pre_exec`, `uid` and all.
///
/// [`Command::spawn`], [`Command::status`] and [`Command::scope`] keep streams that were set there. Methods that capture or feed a stream do so
/// whatever was set; then nothing is kept. The process group is chosen here, see [`Command::own_group`].
///
/// # Examples
/// ```
/// use xiio::process::Command;
///
/// # xiio::run(async {
/// let mut built = std::process::Command::new("echo");
/// built.arg("hello");
/// assert_eq!(Command::from(built).output().await?.stdout, b"hello\n");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
impl From<std::process::Command> for Command {
    fn from(command: std::process::Command) -> Self {
        Self {
            inner: command,
            stdin_is_piped: None,
            has_stdout: false,
            has_stderr: false,
            may_have_streams: true,
            own_group: None,
            leader: None,
            stop_signal: libc::SIGTERM,
            grace: DEFAULT_GRACE,
            dies_with_us: false,
            death_signal: None,
        }
    }
}
