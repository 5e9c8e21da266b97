//! What the tests share: a trace of events, flags and wakers that count, reports, and a `run` that does not hang.
//!
//! The tests themselves are in `tests/`, one file a situation.
#![allow(missing_docs, reason = "the names of helpers say what they do")]

pub mod allocated;
pub mod example;
pub mod os;
pub mod poll;
pub mod random;

// The pages show features as well.
#[cfg(all(doctest, feature = "futures", feature = "tokio"))]
mod docs;

/// An assertion that fails shows what was written, in an edition whose `assert!` does not format a literal that stands alone, too.
///
/// ```edition2018
/// async fn check(text: Option<&str>) -> Option<()> {
///     xiio::task_group!(|tg| {
///         tg.spawn(async {});
///         assert!(text? == format!("{}", 1));
///     });
///     Some(())
/// }
/// let panic = xiio::run(xiio::catch_panic(check(Some("2")))).unwrap_err();
/// assert_eq!(panic.to_string(), "panicked: assertion failed: text? == format!(\"{}\", 1)");
/// ```
#[cfg(doctest)]
mod edition_2018 {}

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use xiio::Promise;
use xiio::inspect::{Listening, Report, ReportKind, listen};
use xiio::testing::Tester;

/// More than any of the tests takes on a machine that is busy with something else.
const HANG: Duration = Duration::from_secs(60);

/// A time that never comes while a test runs.
pub const LONG: Duration = Duration::from_secs(3600);

/// [`xiio::run`], but a hang ends the whole process with the name of the test, instead of standing still.
pub fn run<F: Future>(future: F) -> F::Output {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    ending_hangs(&format!("`{test}`"), || xiio::run(future))
}

/// Does `work`, and ends the whole process where that hangs. `name` says what it is.
pub fn ending_hangs<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let name = name.to_owned();
    let (running, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let output = work();
    drop(running);
    output
}

/// [`run`] with virtual time: what sleeps longer wakes later, however busy the machine is, and no poll is too slow.
pub fn run_virtually(future: impl Future<Output = ()>) {
    let future = Cell::new(Some(future));
    let once = || future.take().expect("a test without seeds runs once");
    Tester::new().virtual_time().slow_poll(None).run(once);
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asserts that `work` took at least `least`, and not so long that something else than `least` was waited for.
pub fn takes<T>(least: Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    let taken = start.elapsed();
    assert!(taken >= least, "took {taken:?}, expected at least {least:?}");
    assert!(taken < least + Duration::from_secs(10), "took {taken:?}, expected about {least:?}");
    value
}

/// What happened, in order.
#[derive(Default)]
pub struct Trace {
    events: RefCell<Vec<String>>,
}

impl Trace {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn note(&self, event: impl Into<String>) {
        self.events.borrow_mut().push(event.into());
    }

    #[track_caller]
    pub fn assert(&self, expected: &[&str]) {
        assert_eq!(*self.events.borrow(), expected);
    }

    pub fn is_empty(&self) -> bool {
        self.events.borrow().is_empty()
    }

    pub fn take(&self) -> Vec<String> {
        self.events.take()
    }

    /// Notes `event` when the result is dropped.
    pub fn on_drop(&self, event: impl Into<String>) -> NoteOnDrop<'_> {
        NoteOnDrop { trace: self, event: event.into() }
    }
}

/// See [`Trace::on_drop`].
pub struct NoteOnDrop<'a> {
    trace: &'a Trace,
    event: String,
}

impl Drop for NoteOnDrop<'_> {
    fn drop(&mut self) {
        self.trace.note(std::mem::take(&mut self.event));
    }
}

/// Counts the drops of what it gives out; the value itself panics when it is dropped a second time.
#[derive(Clone, Default)]
pub struct DropCount {
    n_drops: Rc<Cell<usize>>,
    n_made: Rc<Cell<usize>>,
}

impl DropCount {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn flag(&self) -> DropFlag {
        self.n_made.set(self.n_made.get() + 1);
        DropFlag { n_drops: Rc::clone(&self.n_drops), is_dropped: false }
    }

    pub fn get(&self) -> usize {
        self.n_drops.get()
    }

    pub fn n_alive(&self) -> usize {
        self.n_made.get() - self.n_drops.get()
    }
}

/// See [`DropCount`].
pub struct DropFlag {
    n_drops: Rc<Cell<usize>>,
    is_dropped: bool,
}

impl DropFlag {
    /// Uses the flag, so that an `async move` block captures all of it.
    pub fn touch(&self) {}
}

impl Drop for DropFlag {
    fn drop(&mut self) {
        assert!(!std::mem::replace(&mut self.is_dropped, true), "dropped twice");
        self.n_drops.set(self.n_drops.get() + 1);
    }
}

/// Panics when it is dropped.
pub struct DropBomb(pub &'static str);

impl Drop for DropBomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// Panics when it is polled, and again when it is dropped.
pub struct PollBomb;

impl Future for PollBomb {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic!("in the poll")
    }
}

impl Drop for PollBomb {
    fn drop(&mut self) {
        panic!("in the destructor");
    }
}

/// Counts the wakes of its waker, and how many clones of it are around.
#[derive(Default)]
pub struct WakeCount {
    n_wakes: AtomicUsize,
}

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.n_wakes.fetch_add(1, Ordering::SeqCst);
    }
}

impl WakeCount {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    pub fn n_wakes(&self) -> usize {
        self.n_wakes.load(Ordering::SeqCst)
    }

    /// Wakers that somebody keeps.
    pub fn n_clones(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }
}

/// A waker that panics.
pub struct WakeBomb;

impl Wake for WakeBomb {
    fn wake(self: Arc<Self>) {
        panic!("waker panics");
    }
}

/// Polls once and says whether that was enough.
pub async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Ready from the `n`th poll on, and wakes nobody: only a poll for another reason finds out.
pub fn ready_at_poll(n: usize) -> impl Future<Output = ()> {
    let mut n_polls = 0;
    poll_fn(move |_| {
        n_polls += 1;
        if n_polls >= n { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Gives way `n` times.
pub async fn rounds(n: usize) {
    for _ in 0..n {
        xiio::yield_now().await;
    }
}

/// The reports of this thread, from its creation on.
pub struct Reports {
    reports: Rc<RefCell<Vec<Report>>>,
    _listening: Listening,
}

impl Reports {
    pub fn new() -> Self {
        let reports: Rc<RefCell<Vec<Report>>> = Rc::default();
        let sink = Rc::clone(&reports);
        Self { reports, _listening: listen(move |report| sink.borrow_mut().push(report.clone())) }
    }

    pub fn kinds(&self) -> Vec<ReportKind> {
        self.reports.borrow().iter().map(Report::kind).collect()
    }

    pub fn texts(&self) -> Vec<String> {
        self.reports.borrow().iter().map(ToString::to_string).collect()
    }

    /// Asserts that there is one report, of this kind, with these words.
    #[track_caller]
    pub fn assert_one(&self, kind: ReportKind, words: &[&str]) {
        assert_eq!(self.kinds(), [kind], "{:?}", self.texts());
        let text = &self.texts()[0];
        for word in words {
            assert!(text.contains(word), "no `{word}` in `{text}`");
        }
    }

    #[track_caller]
    pub fn assert_none(&self) {
        assert!(self.texts().is_empty(), "{:?}", self.texts());
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}

/// The text of the panic that `code` ends with.
#[track_caller]
pub fn panic_text<T>(code: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(code)) else { panic!("no panic") };
    match payload.downcast::<&'static str>() {
        Ok(text) => (*text).to_owned(),
        Err(payload) => *payload.downcast::<String>().expect("a text"),
    }
}

/// Asserts that `code` panics with a text that has all of these words in it.
#[track_caller]
pub fn assert_panics<T>(words: &[&str], code: impl FnOnce() -> T) {
    let text = panic_text(code);
    for word in words {
        assert!(text.contains(word), "no `{word}` in `{text}`");
    }
}

/// Cancels a future in three ways, and asserts each time that nothing of it runs on and no waker of it is left:
/// before its first poll, half-way by its task, and half-way by a drop.
///
/// The futures that `make` gives must be pending at their first poll.
#[track_caller]
pub fn assert_cancels_cleanly<F: Future>(make: impl Fn() -> F) {
    let reports = Reports::new();
    run(async {
        cancel_before_first_poll(make()).await;
        cancel_half_way(make()).await;
        drop_half_way(make()).await;
    });
    reports.assert_none();
}

/// Cancels `work` once `begun` is set, waits for its end, and gives the value if there is one all the same.
pub async fn cancel_when<T>(begun: &Promise<()>, work: impl Future<Output = T>) -> Option<T> {
    xiio::task_group!(|tg| {
        let task = tg.spawn(work);
        begun.wait().await;
        task.cancel().await
    })
}

/// Cancels a task around `future` that was never polled.
pub async fn cancel_before_first_poll<F: Future>(future: F) {
    let ran = Cell::new(false);
    xiio::task_group!(|tg| {
        let task = tg.spawn(async {
            ran.set(true);
            future.await;
        });
        assert!(task.cancel().await.is_none());
    });
    assert!(!ran.get(), "it ran after its cancellation");
}

/// Cancels a task that waits for `future`.
pub async fn cancel_half_way<F: Future>(future: F) {
    let (began, ended) = (Cell::new(false), Cell::new(false));
    xiio::task_group!(|tg| {
        let task = tg.spawn(async {
            began.set(true);
            future.await;
            ended.set(true);
        });
        rounds(3).await;
        assert!(began.get() && !task.is_finished());
        assert!(task.cancel().await.is_none());
    });
    assert!(!ended.get(), "it ran on after its cancellation");
}

/// Polls `future` once and drops it; afterwards nobody keeps its waker.
pub async fn drop_half_way<F: Future>(future: F) {
    let wakes = WakeCount::new();
    let mut future = Box::pin(future);
    let waker = wakes.waker();
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(future);
    drop(waker);
    assert_eq!(wakes.n_clones(), 0, "a waker is left behind");
}
