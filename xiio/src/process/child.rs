//! A child that runs, and the pipes to it.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::process::{ExitStatus, Output};
use std::rc::Rc;
use std::task::Poll;

use super::running::Running;
use super::stdio::{ChildStderr, ChildStdin, ChildStdout};
use crate::combine::__private::TryJoin;
use crate::combine::bracket_of;
use crate::io::{Read, Write};
use crate::unwind::{Node, is_unwinding};

/// A process that was started by [`Command::spawn`](super::Command::spawn).
///
/// If it is dropped while it runs, it is killed with its group, without a grace, and reaped later; see [the module](super). To
/// give it the grace whatever is awaited, use [`Command::scope`](super::Command::scope).
///
/// It stays on its thread.
///
/// # Examples
/// ```
/// use xiio::io::Write;
/// use xiio::process::{Command, Stdio};
///
/// # xiio::run(async {
/// let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// child.stdin.take().unwrap().write_all(b"meow").await?;
/// assert_eq!(child.wait_with_output().await?.stdout, b"meow");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "a child that is dropped is killed; await `wait`"]
pub struct Child {
    /// Our end of its stdin, if that was piped.
    pub stdin: Option<ChildStdin>,
    /// Our end of its stdout, if that was piped.
    pub stdout: Option<ChildStdout>,
    /// Our end of its stderr, if that was piped.
    pub stderr: Option<ChildStderr>,
    running: Running,
}

impl Child {
    pub(super) fn new(
        running: Running,
        stdin: Option<ChildStdin>,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
    ) -> Self {
        Self { stdin, stdout, stderr, running }
    }

    /// The number of the process, and of its group if it leads one.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.process().pid
    }

    pub(super) fn program(&self) -> &str {
        &self.running.process().program
    }

    /// Waits until the child has ended, and gives its status. Its stdin is closed first, as in
    /// `std`.
    ///
    /// A child that writes more than a pipe holds does not end before somebody reads: see [`Child::wait_with_output`].
    ///
    /// # Errors
    /// What the system reports, with its number; the child has been stopped then.
    ///
    /// # Cancellation
    /// The child is stopped: `SIGTERM`, the grace, `SIGKILL` (see [the module](super)), and whoever cancels waits for that: a `timeout`, or a
    /// `race!` that something else has won. To wait without stopping the child, use [`Child::wait_exited`].
    ///
    /// What the child writes meanwhile stays in pipes that nobody reads, as by [`Child::stop`].
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("true").spawn()?;
    /// assert!(child.wait().await?.success());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        // Whoever drops it half-way has the child still.
        let usage = async |child: &mut &mut Self| child.running.wait().await;
        bracket_of(Node::new("process"), self, usage, Self::halt).await
    }

    /// Only waits until the child has ended: [`Child::wait`] or [`Child::try_wait`] then gives its status at once.
    ///
    /// Unlike [`Child::wait`] it leaves the child's standard input open. Drop that before if the child reads to its end.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    ///
    /// # Cancellation
    /// The child runs on.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xiio::{interval, process::Command, race};
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("sleep").arg("0.05").spawn()?;
    /// let mut ticks = interval(Duration::from_millis(10));
    /// let status = loop {
    ///     race!(
    ///         exited = child.wait_exited() => {
    ///             exited?;
    ///             break child.wait().await?;
    ///         },
    ///         _ = ticks.tick() => println!("still waiting"),
    ///     );
    /// };
    /// assert!(status.success());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn wait_exited(&self) -> io::Result<()> {
        self.running.ended().await
    }

    /// The status, if the child has ended. Does not wait.
    ///
    /// # Errors
    /// What `waitpid(2)` reports; `ECHILD` if other code has waited for it, and [`ProcessError`](super::ProcessError) says why.
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// assert!(child.try_wait()?.is_none());
    /// child.stop().await?;
    /// assert!(child.try_wait()?.is_some());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.running.reap()
    }

    /// Waits until the child has ended, and gives what it wrote into the pipes that were not taken. Stdin is closed first.
    ///
    /// Both pipes are read at the same time. They end when everybody who writes to them has ended, the child's own
    /// children included.
    ///
    /// # Errors
    /// What the system reports; the child has been stopped then.
    ///
    /// # Cancellation
    /// As [`Child::wait`].
    ///
    /// # Examples
    /// ```
    /// use xiio::process::{Command, Stdio};
    ///
    /// # xiio::run(async {
    /// let mut both = Command::new("sh");
    /// both.args(["-c", "echo out; echo err >&2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    /// let child = both.spawn()?;
    /// let output = child.wait_with_output().await?;
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[track_caller]
    pub fn wait_with_output(self) -> impl Future<Output = io::Result<Output>> {
        self.communicate(&[], Location::caller())
    }

    /// Feeds the child and takes what it writes, all at the same time.
    pub(super) async fn communicate(self, input: &[u8], place: &'static Location<'static>) -> io::Result<Output> {
        let exchange = async |child: &mut Self| {
            let Self { stdin, stdout, stderr, running } = child;
            // The child is not reaped before its pipes are at their end: until then its group can be signalled.
            let ((), stdout, stderr, ()) =
                (feed(stdin.take(), input), drain(stdout), drain(stderr), running.ended()).try_join(place).await?;
            let status = running.wait().await?;
            Ok(Output { status, stdout, stderr })
        };
        bracket_of(Node::of_cleanup("process", place), self, exchange, Self::end).await
    }

    /// Lends the child to `usage`, and stops it then.
    pub(super) fn lend<T>(
        self,
        usage: impl AsyncFnOnce(&mut Self) -> T,
        place: &'static Location<'static>,
    ) -> impl Future<Output = T> {
        let process = Rc::clone(self.running.process());
        let usage = async move |child: &mut Self| {
            let mut usage = pin!(usage(child));
            poll_fn(|cx| {
                // A stop in there ends before the release begins.
                if is_unwinding() {
                    process.give_up_pipes();
                }
                usage.as_mut().poll(cx)
            })
            .await
        };
        bracket_of(Node::of_cleanup("process", place), self, usage, Self::end)
    }

    /// Stops the child, whose pipes nobody has any more.
    async fn end(mut self) {
        self.stdin = None;
        self.running.process().give_up_pipes();
        self.halt().await;
    }

    /// Stops the child. What it has to say about that must not keep it or end it where that has no reader any more: the pipes are read as long
    /// as the stop takes. They may stay open for longer, as others have them too.
    async fn halt(&mut self) {
        let Self { stdout, stderr, running, .. } = self;
        let process = Rc::clone(running.process());
        let (mut stop, mut stdout, mut stderr) = (pin!(running.stop()), pin!(discard(stdout)), pin!(discard(stderr)));
        poll_fn(|cx| {
            // First, as it has to go on whatever the child writes.
            let stopped = stop.as_mut().poll(cx);
            if stopped.is_pending() && process.are_pipes_given_up() {
                let (Poll::Pending, Poll::Pending) = (stdout.as_mut().poll(cx), stderr.as_mut().poll(cx));
            }
            stopped
        })
        .await;
    }

    /// Sends a signal to the child's group, or to the child alone if it has no group of its own. Does nothing if the child
    /// was waited for.
    ///
    /// # Errors
    /// What `kill(2)` reports: `EINVAL` for a signal that does not exist, `EPERM`.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// use xiio::{process::Command, signal::SIGINT};
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// child.signal(SIGINT)?;
    /// assert_eq!(child.wait().await?.signal(), Some(SIGINT));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.running.signal(signal)
    }

    /// Sends `SIGKILL`, see [`Child::signal`]. Does not wait; [`Child::wait`] does.
    ///
    /// # Errors
    /// As [`Child::signal`].
    ///
    /// # Examples
    /// ```
    /// use xiio::process::Command;
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// child.kill()?;
    /// assert!(!child.wait().await?.success());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Stops the child and its group, as a cancellation would, and gives how it ended.
    ///
    /// Pipes that nobody reads meanwhile can be read afterwards. A child that writes more into one than it holds, while it cleans up, waits for that,
    /// and is killed after the grace; but not in a cancelled [`Command::scope`](super::Command::scope), where what it writes is lost.
    ///
    /// # Errors
    /// What the system reports, with its number. `EPERM` for a child that may not be signalled: it lives on, a second after the grace.
    ///
    /// # Cancellation
    /// The stop goes on, and whoever cancels waits for it.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::process::ExitStatusExt;
    /// use xiio::{process::Command, signal::SIGTERM};
    ///
    /// # xiio::run(async {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// assert_eq!(child.stop().await?.signal(), Some(SIGTERM));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        bracket_of(Node::new("process"), &mut *self, async |_| (), Self::halt).await;
        if self.running.reap()?.is_none() {
            // It was given up.
            self.running.kill()?;
        }
        self.running.wait().await
    }
}

/// Writes all of `input` and closes the pipe. A child that does not want all of it may say so by closing its end.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match stdin.write_all(input).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Reads to the end and closes the pipe. It stays open where that is cut off: a child that writes then would end by that.
async fn drain(pipe: &mut Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(open) = pipe {
        open.read_to_end(&mut bytes).await?;
    }
    *pipe = None;
    Ok(bytes)
}

/// Reads what nobody wants; never ends.
async fn discard(pipe: &mut Option<impl Read>) -> Infallible {
    if let Some(open) = pipe {
        let mut buf = vec![0; 8192];
        while open.read(&mut buf).await.is_ok_and(|n_bytes| n_bytes > 0) {}
    }
    pending().await
}
