//! What a program tells of itself, and what is wrong with that.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::iter::successors;
use std::panic::{Location, resume_unwind};
use std::pin::pin;
use std::ptr::from_ref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use xiio::inspect::{Report, ReportKind, tree};
use xiio::{Elapsed, Promise, in_thread, now, sleep, yield_now};
use xiio_tests::poll::leak;
use xiio_tests::random::{Draw, draw_tree};

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Mode {
    /// The groups have their workers.
    Threads,
    /// The same, and half of what foreign code gives up it forgets.
    Forgetting,
    /// The same, and tasks on workers block for each other and for home. Who holds up a group that is cancelled lets its code go on.
    Blocking,
    /// In a tree on a thread of its own.
    OwnThread,
    Virtual,
    Seeded,
    Embedded,
}

/// What the parts of a program share. It is leaked, since it is with what is forgotten.
pub(crate) struct Stage {
    pub(crate) mode: Mode,
    begun: OnceLock<Instant>,
    pub(crate) n_awaits: AtomicU64,
    /// Whether foreign code, or a grace, may drop a part.
    pub(crate) is_dropping: AtomicBool,
    pub(crate) is_graceful: AtomicBool,
    /// Errors that were dropped by whoever had them.
    n_unheard: AtomicU64,
    /// How often each panic was caught or reported.
    panics: Mutex<HashMap<String, u32>>,
    reports: Mutex<Vec<(ReportKind, String)>>,
    /// Which code ran when, where there are no threads.
    pub(crate) trace: Mutex<Vec<(u64, Duration)>>,
    /// What is wrong. A panic might be taken for one of the program's.
    wrong: Mutex<Vec<String>>,
}

impl Stage {
    pub(crate) fn new(mode: Mode) -> &'static Self {
        leak(Self {
            mode,
            begun: OnceLock::new(),
            n_awaits: AtomicU64::new(0),
            is_dropping: AtomicBool::new(false),
            is_graceful: AtomicBool::new(false),
            n_unheard: AtomicU64::new(0),
            panics: Mutex::default(),
            reports: Mutex::default(),
            trace: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    pub(crate) fn has_threads(&self) -> bool {
        matches!(self.mode, Mode::Threads | Mode::Forgetting | Mode::Blocking | Mode::OwnThread)
    }

    /// Whether a program does the same again.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.mode, Mode::Virtual | Mode::Seeded)
    }

    pub(crate) fn moments(&self, n: u64) -> Duration {
        Duration::from_micros(n * if self.has_threads() { 60 } else { 1000 })
    }

    #[track_caller]
    pub(crate) fn check(&self, is_right: bool, what: &str) {
        if !is_right {
            self.wrong.lock().unwrap().push(format!("{what} ({})", Location::caller()));
        }
    }

    fn panic(&self) -> ! {
        let mut panics = self.panics.lock().unwrap();
        let text = format!("panic {}.", panics.len());
        panics.insert(text.clone(), 0);
        drop(panics);
        // Nothing is printed.
        resume_unwind(Box::new(text))
    }

    pub(crate) fn hear_panic(&self, text: &str) {
        let mut panics = self.panics.lock().unwrap();
        match panics.iter_mut().find(|(panic, _)| text.ends_with(*panic)) {
            Some((_, n_heard)) => *n_heard += 1,
            None => self.check(false, &format!("a panic that is none of the program's: {text}")),
        }
    }

    pub(crate) fn hear_report(&self, report: &Report) {
        let (kind, text) = (report.kind(), report.to_string());
        match kind {
            ReportKind::LaterFailure if text.contains("panicked") => self.hear_panic(text.trim_end()),
            _ => self.reports.lock().unwrap().push((kind, text)),
        }
    }

    /// Each panic and each error that was dropped has been told of once, and nothing else but what was cut off.
    pub(crate) fn check_end(&self) {
        // What is forgotten tells nobody.
        let is_forgetting = self.mode == Mode::Forgetting;
        for (panic, n_heard) in &*self.panics.lock().unwrap() {
            self.check(
                *n_heard == 1 || *n_heard == 0 && is_forgetting,
                &format!("{panic} is heard of {n_heard} times"),
            );
        }
        let (mut n_told, n_unheard) = (0, self.n_unheard.load(SeqCst));
        let (is_dropping, is_graceful) = (self.is_dropping.load(SeqCst), self.is_graceful.load(SeqCst));
        for (kind, text) in &*self.reports.lock().unwrap() {
            let is_right = match kind {
                ReportKind::CleanupSkipped => is_dropping,
                ReportKind::GraceOver => is_graceful,
                ReportKind::Unreachable => is_forgetting,
                // In the rest of a poll, while its group is being dropped.
                ReportKind::Refused => self.has_threads() && (is_dropping || is_graceful),
                // A busy machine holds up whom it likes.
                ReportKind::HeldUp => self.has_threads(),
                ReportKind::LaterFailure | ReportKind::ErrorUnheard => {
                    n_told += 1;
                    true
                }
                _ => false,
            };
            self.check(is_right, text);
        }
        self.check(
            n_told == n_unheard || n_told < n_unheard && is_forgetting,
            &format!("{n_told} errors told of, {n_unheard} unheard"),
        );
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// An error of a program, which knows whether somebody has taken it; `None` is one of a limit of time.
pub(crate) struct Error(Option<&'static Stage>);

pub(crate) type Out = Result<(), Error>;

impl Error {
    pub(crate) fn hear(mut self) {
        self.0.take();
    }

    pub(crate) fn of(mut self, stage: &'static Stage) -> Self {
        self.0.take();
        Self(Some(stage))
    }
}

impl Drop for Error {
    fn drop(&mut self) {
        if let Some(stage) = self.0 {
            stage.n_unheard.fetch_add(1, SeqCst);
        }
    }
}

impl From<Elapsed> for Error {
    fn from(_: Elapsed) -> Self {
        Self(None)
    }
}

/// A part of a program that ends as a whole: a block, or a task that is cancelled.
#[derive(Clone, Default)]
pub(crate) struct Part(Option<Arc<Whole>>);

#[derive(Default)]
struct Whole {
    has_ended: AtomicBool,
    /// Of a task on a worker, which may come to its next await.
    crew: Option<Arc<Crew>>,
    /// The polls that began when it had ended.
    n_late: AtomicU32,
    /// The pieces of code that are there.
    n_frames: AtomicU32,
    around: Part,
}

impl Part {
    fn within(&self, crew: Option<Arc<Crew>>) -> Self {
        Self(Some(Arc::new(Whole { crew, around: self.clone(), ..Whole::default() })))
    }

    fn around(&self) -> Self {
        self.0.as_ref().map(|whole| whole.around.clone()).unwrap_or_default()
    }

    fn wholes(&self) -> impl Iterator<Item = &Whole> {
        successors(self.0.as_deref(), |whole| whole.around.0.as_deref())
    }

    pub(crate) fn end(&self) {
        self.wholes().take(1).for_each(|whole| whole.has_ended.store(true, SeqCst));
    }

    fn has_ended(&self) -> bool {
        self.wholes().any(|whole| whole.has_ended.load(SeqCst))
    }

    fn runs_on(&self, stage: &Stage) -> bool {
        self.wholes().any(|whole| whole.runs_on(stage))
    }

    pub(crate) fn note_poll(&self) {
        let ended = self.wholes().take(1).filter(|whole| whole.has_ended.load(SeqCst));
        ended.for_each(|whole| _ = whole.n_late.fetch_add(1, SeqCst));
    }
}

impl Whole {
    /// A worker that is in a poll goes to its next await. One more poll may have begun while home was about to say so.
    fn runs_on(&self, stage: &Stage) -> bool {
        if self.crew.is_some() && stage.mode == Mode::Blocking {
            return false;
        }
        let n_late = self.n_late.load(SeqCst);
        let is_late = || n_late > 1 || n_late == 1 && self.crew.as_ref().is_some_and(|crew| crew.is_late(self));
        self.has_ended.load(SeqCst) && (self.crew.is_none() || is_late())
    }
}

/// The workers of a group, and its tasks that may be cancelled by hand.
#[derive(Default)]
pub(crate) struct Crew {
    n_workers: usize,
    tasks: Mutex<Vec<Weak<Whole>>>,
    is_cancelled: AtomicBool,
    /// The tasks that were in a poll which began when all were cancelled.
    late: Mutex<HashSet<usize>>,
}

impl Crew {
    pub(crate) fn new(n_workers: usize) -> Arc<Self> {
        Arc::new(Self { n_workers, ..Self::default() })
    }

    /// The group was cancelled by hand, with the tasks that are there.
    pub(crate) fn cancel(&self) {
        let tasks = self.tasks.lock().unwrap();
        tasks.iter().filter_map(Weak::upgrade).for_each(|task| Part(Some(task)).end());
        self.is_cancelled.store(true, SeqCst);
    }

    /// Each worker may be late with one task.
    fn is_late(&self, task: &Whole) -> bool {
        let mut late = self.late.lock().unwrap();
        self.is_cancelled.load(SeqCst) && late.insert(from_ref(task).addr()) && late.len() > self.n_workers
    }
}

/// Where some block until all are there, or are not to come any more.
#[derive(Default)]
struct Table {
    n_awaited: Mutex<usize>,
    is_complete: Condvar,
    /// Where those are polled who have begun.
    threads: Mutex<Vec<ThreadId>>,
}

pub(crate) struct Seat(Arc<Table>);

impl Seat {
    pub(crate) fn two() -> Vec<Self> {
        let table = Arc::new(Table { n_awaited: Mutex::new(2), ..Table::default() });
        vec![Self(Arc::clone(&table)), Self(table)]
    }

    fn n_awaited(&self) -> usize {
        *self.0.n_awaited.lock().unwrap()
    }

    /// Waits until the other one has begun, and blocks for it if that is on another thread.
    pub(crate) async fn meet_elsewhere(self, stage: &Stage) {
        let own = thread::current().id();
        self.0.threads.lock().unwrap().push(own);
        while self.0.threads.lock().unwrap().len() < 2 && self.n_awaited() == 2 {
            yield_now().await;
        }
        if self.0.threads.lock().unwrap().iter().any(|thread| *thread != own) {
            self.meet(stage);
        }
    }

    /// Blocks for the other one.
    pub(crate) fn meet(self, stage: &Stage) {
        let table = Arc::clone(&self.0);
        drop(self);
        let limit = Duration::from_secs(20);
        let n_awaited = table.n_awaited.lock().unwrap();
        let (n_awaited, _) = table.is_complete.wait_timeout_while(n_awaited, limit, |n| *n > 0).unwrap();
        stage.check(*n_awaited == 0, "who is blocked for does not come");
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.n_awaited.lock().unwrap() -= 1;
        self.0.is_complete.notify_all();
    }
}

/// What the tasks of a block borrow.
pub(crate) struct Data {
    text: String,
    numbers: Mutex<Vec<u64>>,
    pub(crate) n_polls: AtomicU64,
    /// Whether home is in the poll of the group.
    is_lent: AtomicBool,
}

impl Data {
    pub(crate) fn new(is_lent: bool) -> Self {
        let (n_polls, is_lent) = (AtomicU64::new(0), AtomicBool::new(is_lent));
        Self { text: "borrowed".to_owned(), numbers: Mutex::default(), n_polls, is_lent }
    }

    /// Runs the group whose tasks borrow it.
    pub(crate) async fn lend<T>(&self, group: impl Future<Output = T>) -> T {
        let mut group = pin!(group);
        poll_fn(|cx| {
            self.is_lent.store(true, SeqCst);
            let polled = group.as_mut().poll(cx);
            self.is_lent.store(false, SeqCst);
            polled
        })
        .await
    }

    fn touch(&self, n: u64) {
        assert_eq!(self.text, "borrowed");
        let mut numbers = self.numbers.lock().unwrap();
        numbers.truncate(20);
        numbers.push(n);
    }
}

/// Where a piece of code stands.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    pub(crate) stage: &'static Stage,
    /// What must not have ended while it runs.
    pub(crate) block: Part,
    /// What must not have been cancelled by hand, unless it is cleanup.
    pub(crate) task: Part,
    /// The brackets around it, each with the number of those inside that are not released.
    pub(crate) brackets: Vec<Arc<AtomicU32>>,
    pub(crate) data: Option<&'a Data>,
    /// A foreign combinator around it, or a grace, may drop it half-way.
    pub(crate) may_be_dropped: bool,
    pub(crate) may_fail: bool,
    pub(crate) may_panic: bool,
}

impl<'a> Place<'a> {
    pub(crate) fn new(stage: &'static Stage, data: &'a Data, draw: &Draw) -> Self {
        let (block, task, brackets) = (Part::default().within(None), Part::default(), Vec::new());
        let (may_fail, may_panic) = (draw.one_in(2), draw.one_in(3));
        Self { stage, block, task, brackets, data: Some(data), may_be_dropped: false, may_fail, may_panic }
    }

    /// Called wherever a program's own code runs.
    pub(crate) fn step(&self, draw: &Draw) {
        let n = draw.seed();
        self.stage.check(!self.block.has_ended(), "code runs when its block has ended");
        self.stage.check(!self.task.runs_on(self.stage), "code runs that was cancelled");
        if let Some(data) = self.data {
            // What is cut off is drawn before, which is one more poll for it.
            let is_right = data.is_lent.load(SeqCst) || self.may_be_dropped;
            self.stage.check(is_right, "code runs while home is elsewhere");
            data.touch(n);
        }
        if self.stage.is_repeatable() {
            let at = now() - *self.stage.begun.get_or_init(now);
            self.stage.trace.lock().unwrap().push((n, at));
        }
        if draw.one_in(60) {
            draw_tree();
        }
    }

    pub(crate) async fn rest(&self, draw: &Draw) {
        self.stage.n_awaits.fetch_add(1, SeqCst);
        match draw.below(8) {
            0..3 => yield_now().await,
            3 => {
                let promise = Promise::new();
                let set = async {
                    sleep(self.stage.moments(1)).await;
                    promise.set(()).expect("it is set once");
                };
                futures::join!(promise.wait(), set);
            }
            4 if draw.one_in(4) => self.stage.check(!tree().await.to_string().is_empty(), "no tree"),
            5 if self.stage.has_threads() => {
                let pause = self.stage.moments(draw.below(3));
                in_thread(move || thread::sleep(pause)).await;
            }
            _ => sleep(self.stage.moments(draw.below(4))).await,
        }
        self.step(draw);
    }

    /// How a piece of code ends that has come to its end.
    pub(crate) fn fate(&self, draw: &Draw) -> Out {
        if self.may_panic && draw.one_in(30) {
            self.stage.panic();
        }
        let fails = self.may_fail && draw.one_in(15);
        if fails { Err(Error(Some(self.stage))) } else { Ok(()) }
    }

    pub(crate) fn cleanup(&self) -> Self {
        Self { task: Part::default(), ..self.clone() }
    }

    /// A panic would drop what else a foreign combinator has.
    pub(crate) fn calm(&self) -> Self {
        Self { may_panic: false, ..self.clone() }
    }

    /// Inside of a block, or of what ends like one.
    pub(crate) fn within(&self) -> Self {
        Self { block: self.block.within(None), ..self.clone() }
    }

    /// Where nobody waits for it, or counts it.
    pub(crate) fn forgotten(&self) -> Self {
        Self { block: Part::default().within(None), brackets: Vec::new(), ..self.clone() }
    }

    /// On a thread of its own, which learns of a cancellation later.
    pub(crate) fn elsewhere(&self) -> Place<'static> {
        let Self { stage, block, brackets, .. } = self.clone();
        Place { stage, block, task: Part::default(), brackets, data: None, ..*self }
    }

    /// A task that may be cancelled by hand.
    pub(crate) fn task_at_home(&self, crew: &Crew) -> Self {
        let task = self.task.within(None);
        crew.tasks.lock().unwrap().extend(task.0.as_ref().map(Arc::downgrade));
        Self { task, ..self.clone() }
    }

    /// The same on a worker, where it learns of the cancellation of what is around later.
    pub(crate) fn task(&self, crew: &Arc<Crew>) -> Self {
        if !self.stage.has_threads() || crew.n_workers == 0 {
            return self.task_at_home(crew);
        }
        let place = Self { task: Part::default().within(Some(Arc::clone(crew))), ..self.clone() };
        crew.tasks.lock().unwrap().extend(place.task.0.as_ref().map(Arc::downgrade));
        place
    }

    /// A task on a worker that is not cancelled with those that are there.
    pub(crate) fn other_task(&self, n_workers: usize) -> Self {
        self.task(&Crew::new(n_workers))
    }

    /// Another one of the same group.
    pub(crate) fn sibling(&self, n_workers: usize) -> Self {
        Self { task: self.task.around(), ..self.clone() }.other_task(n_workers)
    }
}

/// A piece of code that is there.
pub(crate) struct Frame(Part);

impl Frame {
    pub(crate) fn new(place: &Place<'_>) -> Self {
        place.block.wholes().for_each(|whole| _ = whole.n_frames.fetch_add(1, SeqCst));
        Self(place.block.clone())
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.0.wholes().for_each(|whole| _ = whole.n_frames.fetch_sub(1, SeqCst));
    }
}

/// A block. With its end, whatever that is, all code of it is gone.
pub(crate) struct Block<'a>(pub(crate) &'a Place<'a>);

impl Drop for Block<'_> {
    fn drop(&mut self) {
        let is_empty = self.0.block.wholes().take(1).all(|whole| whole.n_frames.load(SeqCst) == 0);
        self.0.stage.check(is_empty, "code is there when its block has ended");
        self.0.block.end();
    }
}

/// A bracket that is open, or lost with whatever dropped it.
pub(crate) struct Open<'a> {
    place: Place<'a>,
    _frame: Frame,
    is_released: Cell<bool>,
}

impl<'a> Open<'a> {
    pub(crate) fn new(place: &Place<'a>) -> Self {
        place.brackets.iter().for_each(|around| _ = around.fetch_add(1, SeqCst));
        Self { place: place.clone(), _frame: Frame::new(place), is_released: Cell::new(false) }
    }

    pub(crate) fn release(&self) {
        self.place.stage.check(!self.is_released.replace(true), "a bracket is released twice");
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.place.brackets.iter().for_each(|around| _ = around.fetch_sub(1, SeqCst));
        // Its cleanup may have panicked.
        let is_right = self.is_released.get() || self.place.may_be_dropped || thread::panicking();
        self.place.stage.check(is_right, "a bracket is not released");
    }
}
