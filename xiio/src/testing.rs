//! Tests of programs written on xiio: virtual time, seeded schedules, cancellation at every await.
//!
//! `#[xiio::test]` uses this module; [`Tester`] does the same by hand.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use xiio::testing::Tester;
//!
//! // Nine minutes of sleep, in no time.
//! Tester::new().virtual_time().run(|| async {
//!     let start = xiio::now();
//!     xiio::sleep(Duration::from_secs(540)).await;
//!     assert_eq!(xiio::now() - start, Duration::from_secs(540));
//! });
//! ```

mod everywhere;
mod left;
mod resources;

pub use everywhere::{cancel_everywhere, cancel_everywhere_and};
pub use resources::Resources;

use std::borrow::Cow;
use std::future::pending;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::process::{ExitCode, Termination};
use std::time::{Duration, Instant};

use crate::error::panic_text;
use crate::group::{GroupOptions, Guard, Leave, new_group, report_exit};
use crate::recording::Recorder;
use crate::report::is_err;
use crate::runtime::{Config, Leftover, Runtime, block_on};
use crate::task::limits::Limits;
use crate::{inspect, now, sleep, sleep_until};

/// Makes time virtual in the middle of a test, see [`Tester::virtual_time`].
///
/// The clock stops at the present instant. Nothing happens where it is virtual already.
///
/// # Panics
/// Outside of a test, and on a worker: workers go by the clock of the system.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use xiio::testing::{Tester, pause};
///
/// let start = Instant::now();
/// Tester::new().run(|| async {
///     xiio::sleep(Duration::from_millis(1)).await;
///     pause();
///     xiio::sleep(Duration::from_secs(3600)).await;
/// });
/// assert!(start.elapsed() < Duration::from_secs(60));
/// ```
pub fn pause() {
    Runtime::with(Runtime::pause);
}

/// Lets virtual time pass, also while a descriptor, a process or a thread is waited for.
///
/// The clock goes from one deadline to the next; tasks that one deadline has woken run before the next. The call
/// returns when `duration` has passed.
///
/// # Panics
/// Where time is not virtual, as on a worker.
///
/// # Cancellation
/// The time that has passed has passed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::testing::{Tester, advance};
///
/// Tester::new().virtual_time().run(|| async {
///     let (reader, _writer) = std::io::pipe().unwrap();
///     // Time would pass as it does outside, because of the descriptor.
///     let hour = Duration::from_secs(3600);
///     let late = xiio::timeout(hour, xiio::readable(&reader));
///     let (late, ()) = xiio::join!(late, advance(hour));
///     assert!(late.is_err());
/// });
/// ```
pub async fn advance(duration: Duration) {
    let _advancing = Runtime::with(Runtime::advancing);
    let is_virtual = Runtime::with(Runtime::has_virtual_time);
    assert!(is_virtual, "time is not virtual here; call `testing::pause` before, or give the test `virtual_time`");
    sleep(duration).await;
}

/// How long a test in which nothing can wake any task waits for a thread that the runtime does not know of.
const PATIENCE: Duration = Duration::from_secs(2);

/// A poll in a test that takes longer is reported.
const SLOW_POLL: Duration = Duration::from_secs(1);

/// A task in a test that is polled in vain more often within a second is reported: it does nothing worth ten microseconds in between.
const VAIN_POLLS: usize = 100_000;

/// A group in a test that holds more tasks is reported.
const MANY_TASKS: usize = 10_000;

/// Runs a test's body: what `#[xiio::test]` expands to.
///
/// A body in which nothing can wake any task fails with the tree of tasks after two seconds. A body that leaves a timer or
/// a watched descriptor behind fails as well. Where no other test runs beside it, so does one that leaves an open file or
/// a child process; see [`Resources`].
///
/// What the tasks do is recorded. A test that fails leaves the recording as a page, `xiio/NAME-PROGRAM.html` in the target directory of
/// Cargo, and prints the path. The page names the seed, or the await at which the test was cancelled. A test fails by a panic, or by an `Err`.
/// Of a value of another type, such as [`ExitCode::FAILURE`], only the harness knows what it says: it leaves no page.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::testing::Tester;
///
/// let value = Tester::new().name("a test").virtual_time().seeds(0..10).run(|| async {
///     let late = xiio::timeout(Duration::from_secs(60), std::future::pending::<()>()).await;
///     assert!(late.is_err());
/// });
/// ```
#[derive(Debug)]
#[must_use = "nothing runs before `run`"]
pub struct Tester {
    options: GroupOptions,
    config: Config,
    limit: Option<Limit>,
    seeds: Option<Range<u64>>,
    cancels_everywhere: bool,
}

/// When a run of a test has taken too long.
#[derive(Debug, Clone, Copy)]
enum Limit {
    At(Instant),
    /// Of each run, by its own clock.
    After(Duration),
}

impl Tester {
    /// A test on the system's clock, with tasks in their order.
    pub fn new() -> Self {
        let limits =
            Limits { slow_poll: Some(SLOW_POLL), vain_polls: VAIN_POLLS, many_tasks: MANY_TASKS, slow_cleanup: None };
        let config = Config { deadlock_after: Some(PATIENCE), limits, is_test: true, ..Config::default() };
        let options = GroupOptions::new().name("test");
        Self { options, config, limit: None, seeds: None, cancels_everywhere: false }
    }

    /// Names the root group in reports.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options = self.options.name(name);
        self
    }

    /// Drops what has not cleaned up `grace` after the limit of time.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options = self.options.grace(grace);
        self
    }

    /// Fails the test with the tree of its tasks when a run of it takes longer: each that is of another seed, or is cancelled at another await.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limit = timeout.into().map(Limit::After);
        self
    }

    /// Fails the test with the tree of its tasks at `deadline`.
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.limit = deadline.into().map(Limit::At);
        self
    }

    /// How long a test waits for threads that the runtime does not know of, where nothing else can wake a task: two seconds by
    /// default.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xiio::testing::Tester;
    ///
    /// Tester::new().patience(Duration::from_secs(30)).run(|| async {
    ///     let (sender, receiver) = futures::channel::oneshot::channel();
    ///     std::thread::spawn(move || sender.send(7).unwrap());
    ///     assert_eq!(receiver.await, Ok(7));
    /// });
    /// ```
    pub fn patience(mut self, patience: Duration) -> Self {
        self.config.deadlock_after = Some(patience);
        self
    }

    /// Reports each poll of a task that takes longer than `limit`, see [`Builder::slow_poll`](crate::Builder::slow_poll). The default
    /// is a second; `None` is no limit.
    ///
    /// # Examples
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    /// use xiio::testing::Tester;
    ///
    /// Tester::new().slow_poll(None).run(|| async { thread::sleep(Duration::from_millis(1100)) });
    /// ```
    pub fn slow_poll(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.limits.slow_poll = limit.into();
        self
    }

    /// Reports each cleanup that takes longer than `limit`, see [`Builder::slow_cleanup`](crate::Builder::slow_cleanup). `None` is no
    /// limit, and the default.
    pub fn slow_cleanup(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.limits.slow_cleanup = limit.into();
        self
    }

    /// Reports a task that is polled in vain more often within a second, see [`Builder::vain_polls`](crate::Builder::vain_polls): 100 000 times,
    /// if this is not called. `usize::MAX` is no limit.
    pub fn vain_polls(mut self, limit: usize) -> Self {
        self.config.limits.vain_polls = limit;
        self
    }

    /// Reports each group that holds more tasks, see [`Builder::many_tasks`](crate::Builder::many_tasks): 10 000, if this is not called.
    /// `usize::MAX` is no limit.
    pub fn many_tasks(mut self, limit: usize) -> Self {
        self.config.limits.many_tasks = limit;
        self
    }

    /// Lets the clock ([`xiio::now`](crate::now)) stand still while any task has something to do, and jump to the next deadline
    /// when all wait.
    ///
    /// While a descriptor, a process or a thread of the pool is waited for, time passes as it does outside; but see
    /// [`Tester::loopback`].
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use xiio::testing::Tester;
    ///
    /// let start = Instant::now();
    /// Tester::new().virtual_time().run(|| xiio::sleep(Duration::from_secs(3600)));
    /// assert!(start.elapsed() < Duration::from_secs(60));
    /// ```
    pub fn virtual_time(mut self) -> Self {
        self.config.has_virtual_time = true;
        self
    }

    /// Lets virtual time jump also while sockets of this machine are waited for: Unix sockets, and those bound to a loopback
    /// address, but no signals. So a server and its clients can be tested together, with the timers of both. Where time is neither
    /// [virtual](Tester::virtual_time) nor [paused](pause), it changes nothing.
    ///
    /// Both ends of all these sockets have to be in the test. Before each jump the clock waits for ten milliseconds whether anything
    /// comes. What another program sends after that, or the kernel delivers after that, comes when the clock has already jumped.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use xiio::net::TcpListener;
    /// use xiio::testing::Tester;
    ///
    /// let start = Instant::now();
    /// Tester::new().virtual_time().loopback().run(|| async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ///     let nobody = xiio::timeout(Duration::from_secs(3600), listener.accept()).await;
    ///     assert!(nobody.is_err());
    /// });
    /// assert!(start.elapsed() < Duration::from_secs(60));
    /// ```
    pub fn loopback(mut self) -> Self {
        self.config.is_loopback = true;
        self
    }

    /// Draws the order in which ready tasks are polled from `seed`. The same seed gives the same order.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self.seeds = None;
        self
    }

    /// Runs the body once for each seed; a failure names the seed that repeats it. Only with the last seed a value that is no `Err`, such as
    /// [`ExitCode::FAILURE`], fails without its name.
    ///
    /// # Examples
    /// ```
    /// use std::cell::RefCell;
    /// use std::collections::HashSet;
    /// use xiio::testing::Tester;
    ///
    /// let orders = RefCell::new(HashSet::new());
    /// Tester::new().seeds(0..100).run(|| async {
    ///     let order = RefCell::new(String::new());
    ///     xiio::task_group!(|tg| {
    ///         for name in ["a", "b"] {
    ///             let order = &order;
    ///             tg.spawn(async move { order.borrow_mut().push_str(name) });
    ///         }
    ///     });
    ///     orders.borrow_mut().insert(order.into_inner());
    /// });
    /// assert_eq!(orders.into_inner(), HashSet::from(["ab".to_owned(), "ba".to_owned()]));
    /// ```
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = Some(seeds);
        self
    }

    /// Runs the body once to its end, and once for each await it reaches, cancelled there. See [`cancel_everywhere`].
    pub fn cancel_everywhere(mut self) -> Self {
        self.cancels_everywhere = true;
        self
    }

    /// Runs the test; gives the value of the last run to the end.
    ///
    /// # Panics
    /// With the panic of the body, on a deadlock, over the time limit, and when something is left behind. With seeds also
    /// when any run but the last gives a failure for its value, and when there are no seeds.
    #[track_caller]
    pub fn run<T, F>(mut self, body: impl Fn() -> F) -> T
    where
        F: Future<Output = T>,
        T: Termination,
    {
        let Some(seeds) = self.seeds.take() else { return self.run_once(&body) };
        assert!(!seeds.is_empty(), "`seeds` is empty, so the test would never run; give a range such as `0..100`");
        for seed in seeds.start..seeds.end - 1 {
            self.config.seed = Some(seed);
            assert!(is_success(self.run_seed(&body)), "{}", self.seed_that_failed());
        }
        self.config.seed = Some(seeds.end - 1);
        let value = self.run_seed(&body);
        if is_err(&value) {
            eprint!("{}", self.seed_that_failed());
        }
        value
    }

    fn run_seed<T, F: Future<Output = T>>(&self, body: &impl Fn() -> F) -> T {
        catch_unwind(AssertUnwindSafe(|| self.run_once(body))).unwrap_or_else(|panic| {
            eprint!("{}", self.seed_that_failed());
            resume_unwind(panic)
        })
    }

    /// The line that says how a run is repeated; empty where there is no seed.
    fn seed_that_failed(&self) -> String {
        let line = |seed| format!("failed with seed {seed}; repeat it with `seed = {seed}`\n");
        self.config.seed.map(line).unwrap_or_default()
    }

    /// Leaves the page of a run that has failed, with what repeats it.
    fn leave<F>(&self, recorder: &Recorder, body: &F, fault: &str) {
        left::leave(recorder, body, &(self.seed_that_failed() + fault));
    }

    fn block_on<T>(&self, body: impl Future<Output = T>) -> (T, Leftover) {
        block_on(&self.config, limited(self.options.clone(), self.limit, body))
    }

    fn run_once<T, F: Future<Output = T>>(&self, body: &impl Fn() -> F) -> T {
        let before = Resources::now();
        let run = || {
            let (value, leftover) = self.block_on(body());
            assert_nothing_left(leftover);
            before.check_unchanged().unwrap_or_else(|what| panic!("the test left something behind: {what}"));
            value
        };
        let (ran, recorder) = left::recorded(|| catch_unwind(AssertUnwindSafe(run)));
        let fault = match &ran {
            Ok(value) => is_err(value).then_some("the test gave an `Err`"),
            Err(panic) => Some(panic_text(&**panic)),
        };
        if let Some(fault) = fault {
            self.leave(&recorder, body, fault);
        }
        let value = ran.unwrap_or_else(|panic| resume_unwind(panic));
        if self.cancels_everywhere {
            everywhere::cancel_at_each_await(self, body, &mut || ());
        }
        value
    }
}

impl Default for Tester {
    fn default() -> Self {
        Self::new()
    }
}

fn is_success(value: impl Termination) -> bool {
    value.report() == ExitCode::SUCCESS
}

fn assert_nothing_left(Leftover { n_timers, n_sources }: Leftover) {
    assert!(
        n_timers == 0 && n_sources == 0,
        "the test left behind {n_timers} timer(s) and {n_sources} watched descriptor(s); was a future leaked?"
    );
}

/// Runs `body` in the root group, and panics with the tree of tasks when the limit is over.
async fn limited<T>(options: GroupOptions, limit: Option<Limit>, body: impl Future<Output = T>) -> T {
    let group = ManuallyDrop::new(new_group(options));
    let guard = Guard::new(&group);
    if let Some(limit) = limit {
        group.spawn_named("the limit of the test", async move {
            let end = match limit {
                Limit::At(instant) => Some(instant),
                Limit::After(duration) => now().checked_add(duration),
            };
            let Some(end) = end else { return pending().await };
            let watching = Runtime::with(|runtime| runtime.watching(end));
            sleep_until(end).await;
            drop(watching);
            let tree = inspect::tree().await;
            panic!("the test is over its time limit\n{tree}");
        });
    }
    let body = pin!(Some(async {
        let value = body.await;
        group.cancel();
        Leave::Finish(value)
    }));
    guard.run(body, report_exit).await
}
