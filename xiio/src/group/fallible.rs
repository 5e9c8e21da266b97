//! The group whose tasks may fail, and what it fails with.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::Location;
use std::rc::Rc;

use super::options::GroupOptions;
use super::remote::Remote;
use super::state::{Cause, Group};
use super::task::Task;
use super::workers::{SentErrors, TryWorkers};
use crate::error::{Elapsed, Panic};
use crate::report::drop_safely;
use crate::sync::{MutexGuard, lock};

/// Errors that tasks have left, in the order of the group's failures.
pub(super) type Errors<E> = Rc<RefCell<VecDeque<E>>>;

/// The tasks of a `try_task_group!` block: each returns a `Result`, and the first `Err` cancels the rest.
///
/// See [`TaskGroup`](crate::TaskGroup) for what tasks may borrow.
///
/// # Examples
/// Passed on to a function that spawns into it:
/// ```
/// use xiio::{TryTaskGroup, try_task_group};
///
/// fn parse<'env>(tg: &TryTaskGroup<'env, std::num::ParseIntError>, text: &'env str) {
///     tg.spawn(async { text.parse::<u32>() });
/// }
///
/// async fn are_numbers(texts: &[&str]) -> Result<(), std::num::ParseIntError> {
///     try_task_group!(|tg| {
///         texts.iter().for_each(|text| parse(tg, text));
///     })
/// }
/// assert!(xiio::run(are_numbers(&["1", "2"])).is_ok());
/// assert!(xiio::run(are_numbers(&["1", "two"])).is_err());
/// ```
#[doc(alias("JoinSet", "nursery"))]
pub struct TryTaskGroup<'env, E> {
    group: Group<'env>,
    /// Made when the first task is spawned, taken when the group is closed.
    errors: Cell<Option<Errors<E>>>,
    /// Of the tasks on workers.
    sent_errors: SentErrors<E>,
}

/// What `try_task_group!` puts into the surrounding function.
#[must_use]
#[inline(always)]
pub fn new_try_group<'env, E>(options: GroupOptions) -> TryTaskGroup<'env, E> {
    TryTaskGroup { group: Group::new(options), errors: Cell::new(None), sent_errors: SentErrors::default() }
}

impl<'env, E: 'env> TryTaskGroup<'env, E> {
    /// Adds a task, as [`TaskGroup::spawn`](crate::TaskGroup::spawn) does. An `Err` from it is the group's.
    ///
    /// # Examples
    /// ```
    /// use xiio::try_task_group;
    ///
    /// async fn sum() -> Result<i32, std::num::ParseIntError> {
    ///     try_task_group!(|tg| {
    ///         let one = tg.spawn(async { "1".parse::<i32>() });
    ///         let two = tg.spawn(async { "two".parse::<i32>() });
    ///         one.await + two.await
    ///     })
    /// }
    /// assert!(xiio::run(sum()).is_err());
    /// ```
    /// Nothing says what the value of a task would be that only ever ends with an error: let it be an `async fn`.
    /// ```
    /// use std::{io, net::SocketAddr};
    /// use xiio::{net::UdpSocket, try_task_group};
    ///
    /// async fn echo(socket: &UdpSocket) -> io::Result<()> {
    ///     let mut buf = [0; 1500];
    ///     loop {
    ///         let (n, from) = socket.recv_from(&mut buf).await?;
    ///         socket.send_to(&buf[..n], from).await?;
    ///     }
    /// }
    ///
    /// async fn serve(addresses: &[SocketAddr]) -> io::Result<()> {
    ///     let mut sockets = Vec::new();
    ///     for address in addresses {
    ///         sockets.push(UdpSocket::bind(address).await?);
    ///     }
    ///     try_task_group!(|tg| sockets.iter().for_each(|socket| { tg.spawn(echo(socket)); }))
    /// }
    /// # let nobody = SocketAddr::from(([192, 0, 2, 1], 9));
    /// # assert!(xiio::run(serve(&[nobody])).is_err());
    /// ```
    #[track_caller]
    #[inline]
    pub fn spawn<F, T>(&self, future: F) -> Task<T>
    where
        F: IntoFuture<Output = Result<T, E>> + 'env,
    {
        self.spawn_at(future.into_future(), Location::caller())
    }

    /// [`TryTaskGroup::spawn`] for a task that has a name, see [`TaskGroup::spawn_named`](crate::TaskGroup::spawn_named).
    ///
    /// # Examples
    /// ```
    /// use xiio::try_task_group;
    ///
    /// async fn parse(texts: &[&str]) -> Result<(), std::num::ParseIntError> {
    ///     try_task_group!(|tg| {
    ///         for text in texts {
    ///             tg.spawn_named(format!("parse {text}"), async { text.parse::<i32>() });
    ///         }
    ///     })
    /// }
    /// assert!(xiio::run(parse(&["1", "2"])).is_ok());
    /// ```
    #[track_caller]
    pub fn spawn_named<F, T>(&self, name: impl Into<Cow<'static, str>>, future: F) -> Task<T>
    where
        F: IntoFuture<Output = Result<T, E>> + 'env,
    {
        self.spawn(future).named(name.into())
    }

    /// [`TryTaskGroup::spawn`] in the name of somebody further up.
    #[inline]
    pub(crate) fn spawn_at<F, T>(&self, future: F, location: &'static Location<'static>) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + 'env,
    {
        let errors = self.errors();
        let finish = move |result: Result<T, E>| result.map_err(|error| errors.borrow_mut().push_back(error)).ok();
        self.group.spawn(future, finish, location)
    }

    /// Cancels the tasks that are there now, see [`TaskGroup::cancel`](crate::TaskGroup::cancel).
    ///
    /// # Examples
    /// ```
    /// use std::io;
    /// use xiio::try_task_group;
    ///
    /// let answer: io::Result<i32> = xiio::run(async {
    ///     try_task_group!(error = io::Error, |tg| {
    ///         tg.spawn(async { std::future::pending::<io::Result<()>>().await });
    ///         let answer = tg.spawn(async { Ok(7) }).await;
    ///         // The other one has no end of its own.
    ///         tg.cancel();
    ///         answer
    ///     })
    /// });
    /// assert_eq!(answer.unwrap(), 7);
    /// ```
    #[doc(alias("CancellationToken", "abort_all"))]
    #[track_caller]
    pub fn cancel(&self) {
        self.group.cancel(Some(Location::caller()));
    }

    /// Registers a cleanup, see [`TaskGroup::defer`](crate::TaskGroup::defer).
    ///
    /// # Examples
    /// ```
    /// use std::cell::Cell;
    /// use xiio::try_task_group;
    ///
    /// let is_closed = Cell::new(false);
    /// let failed: Result<(), &str> = xiio::run(async {
    ///     try_task_group!(error = &str, |tg| {
    ///         tg.defer(async { is_closed.set(true) });
    ///         tg.spawn(async { Err::<(), _>("failed") });
    ///     })
    /// });
    /// assert!(failed.is_err() && is_closed.get());
    /// ```
    #[track_caller]
    pub fn defer(&self, cleanup: impl IntoFuture<Output = ()> + 'env) {
        self.group.defer(cleanup.into_future(), Location::caller());
    }

    /// A handle that spawns into this group from anywhere, see [`Remote`].
    ///
    /// # Examples
    /// ```
    /// use xiio::{Promise, try_task_group};
    ///
    /// async fn first(texts: &'static [&'static str]) -> Result<u32, std::num::ParseIntError> {
    ///     let parsed = Promise::new();
    ///     try_task_group!(|tg| {
    ///         let (remote, setter) = (tg.remote(), parsed.clone());
    ///         std::thread::spawn(move || {
    ///             // The error of a job is not the group's.
    ///             remote.spawn(move || async move { setter.set(texts[0].parse()).unwrap() })
    ///         });
    ///         parsed.wait().await?
    ///     })
    /// }
    /// assert_eq!(xiio::run(first(&["7"])), Ok(7));
    /// ```
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.group.remote()
    }
}

impl<'env, E: Send + 'env> TryTaskGroup<'env, E> {
    /// What spawns on the workers of this group, see [`TaskGroup::workers`](crate::TaskGroup::workers).
    ///
    /// # Panics
    /// Without the option `workers`.
    ///
    /// # Examples
    /// ```
    /// use xiio::try_task_group;
    ///
    /// let failed = xiio::run(async {
    ///     try_task_group!(workers = 2, error = &str, |tg| {
    ///         tg.workers().spawn(async || Err::<(), _>("an error on a worker"));
    ///     })
    /// });
    /// assert_eq!(failed, Err("an error on a worker"));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn workers(&'env self) -> TryWorkers<'env, E> {
        self.group.assert_workers("try_task_group!");
        TryWorkers::new(self.group.anchor(), &self.sent_errors)
    }
}

impl<'env, E> TryTaskGroup<'env, E> {
    /// Ties the error type to that of the function around; never called.
    #[doc(hidden)]
    pub fn __hint_error(&self) -> E {
        unreachable!("only its type is used")
    }

    pub(super) fn group(&self) -> &Group<'env> {
        &self.group
    }

    pub(super) fn errors(&self) -> Errors<E> {
        let before = self.errors.take();
        // Nobody drops the group after its end.
        let is_kept = before.is_some() || !self.group.is_closed();
        let errors = before.unwrap_or_default();
        self.errors.set(is_kept.then(|| Rc::clone(&errors)));
        errors
    }

    /// [`Group::close`], and drops the errors that nobody has taken.
    pub(super) fn close(&self) {
        self.group.close();
        if let Some(errors) = self.errors.take() {
            errors.take().into_iter().for_each(drop_safely);
        }
        let sent = mem::take(&mut *self.sent_errors());
        sent.into_iter().for_each(drop_safely);
    }

    fn sent_errors(&self) -> MutexGuard<'_, VecDeque<E>> {
        lock(&self.sent_errors)
    }

    /// What the group failed with, in order. Panics and an elapsed limit are in it as they came.
    pub(super) fn take_failures(&self, from_elapsed: fn(Elapsed) -> Option<E>) -> Vec<Failure<E>> {
        let failures = self.group.take_failures();
        failures.filter_map(|cause| self.failure(cause, from_elapsed)).collect()
    }

    /// What the group failed with, if it does not keep all.
    pub(super) fn take_failure(&self, from_elapsed: fn(Elapsed) -> Option<E>) -> Option<Failure<E>> {
        self.group.take_failure().and_then(|cause| self.failure(cause, from_elapsed))
    }

    fn failure(&self, cause: Cause, from_elapsed: fn(Elapsed) -> Option<E>) -> Option<Failure<E>> {
        match cause {
            Cause::Error => self.errors().borrow_mut().pop_front().map(Failure::Error),
            Cause::SentError => self.sent_errors().pop_front().map(Failure::Error),
            Cause::Panic(payload) => Some(Failure::Panic(Panic::new(payload))),
            Cause::Elapsed => from_elapsed(Elapsed).map(Failure::Error),
            Cause::BodyExit | Cause::ParentCancelled => None,
        }
    }

    /// Calls it by the name of the combinator that it is underneath.
    pub(crate) fn stand_for(&self, what: &'static str) {
        self.group.stand_for(what);
    }

    /// Takes an error for the value of a winner, which is no failure that could be lost.
    pub(crate) fn expect_winner(&self) {
        self.group.expect_winner();
    }
}

impl<E> fmt::Debug for TryTaskGroup<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryTaskGroup").finish_non_exhaustive()
    }
}

/// One failure of a group with the option `all_errors`. It is an [`Error`] where `E` is one.
///
/// # Examples
/// ```
/// use xiio::{Failure, GroupError, try_task_group};
///
/// async fn both() -> Result<(), GroupError<String>> {
///     try_task_group!(all_errors, error = String, |tg| {
///         tg.spawn(async { Err::<(), _>("an error".to_owned()) });
///         tg.spawn(async { if true { panic!("a panic") } else { Ok(()) } });
///     })
/// }
/// let failures = xiio::run(both()).unwrap_err().into_failures();
/// let texts = failures.map(|failure| match failure {
///     Failure::Error(error) => error,
///     Failure::Panic(panic) => panic.to_string(),
/// });
/// assert_eq!(texts.collect::<Vec<_>>(), ["an error", "panicked: a panic"]);
/// ```
pub enum Failure<E> {
    /// A task or the body returned this error.
    Error(E),
    /// A task, the body or a cleanup panicked. [`Panic::resume`] goes on with it, [`Panic::into_payload`] gives the payload.
    Panic(Panic),
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(panic) => panic.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for Failure<E> {
    /// What is behind the error: the error itself is in the text already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Error(error) => error.source(),
            Self::Panic(_) => None,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => f.debug_tuple("Error").field(error).finish(),
            Self::Panic(panic) => panic.fmt(f),
        }
    }
}

/// All failures of a group with the option `all_errors`, in the order in which they happened. There is at least one.
///
/// It is an [`Error`] where `E` is one, and goes with `?` into `Box<dyn Error + Send + Sync>` and its like where `E` is `Send` and `Sync`.
/// `Box<dyn Error>` and `anyhow::Error` implement no `Error` themselves, so with `error = anyhow::Error` it is none either. There look at
/// [`GroupError::iter`], or let the tasks give a type of their own.
///
/// # Examples
/// ```
/// use xiio::{GroupError, try_task_group};
///
/// async fn both() -> Result<(), GroupError<&'static str>> {
///     try_task_group!(all_errors, error = &'static str, |tg| {
///         tg.spawn(async { Err::<(), _>("first") });
///         tg.spawn(async { Err::<(), _>("second") });
///     })
/// }
/// let error = xiio::run(both()).unwrap_err();
/// assert_eq!(error.to_string(), "first (and 1 more failure)");
/// ```
#[derive(Debug)]
pub struct GroupError<E> {
    first: Failure<E>,
    others: Vec<Failure<E>>,
}

impl<E> GroupError<E> {
    /// `None` without a failure.
    pub(super) fn new(failures: Vec<Failure<E>>) -> Option<Self> {
        let mut failures = failures.into_iter();
        let first = failures.next()?;
        Some(Self { first, others: failures.collect() })
    }

    /// The failure that cancelled the group.
    #[must_use]
    pub fn first(&self) -> &Failure<E> {
        &self.first
    }

    /// Those that came while the rest was cancelled, in order.
    #[must_use]
    pub fn others(&self) -> &[Failure<E>] {
        &self.others
    }

    /// All failures, the first one first.
    ///
    /// # Examples
    /// ```
    /// use xiio::{GroupError, try_task_group};
    ///
    /// async fn both() -> Result<(), GroupError<&'static str>> {
    ///     try_task_group!(all_errors, error = &'static str, |tg| {
    ///         tg.spawn(async { Err::<(), _>("first") });
    ///         tg.spawn(async { Err::<(), _>("second") });
    ///     })
    /// }
    /// let error = xiio::run(both()).unwrap_err();
    /// let texts: Vec<_> = error.iter().map(ToString::to_string).collect();
    /// assert_eq!(texts, ["first", "second"]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = &Failure<E>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// All failures by value, the first one first.
    pub fn into_failures(self) -> impl Iterator<Item = Failure<E>> {
        std::iter::once(self.first).chain(self.others)
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        match self.others.len() {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more failure)"),
            n_others => write!(f, " (and {n_others} more failures)"),
        }
    }
}

impl<E: Error + 'static> Error for GroupError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first.source()
    }
}
