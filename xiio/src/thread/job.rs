//! One job, handed over between the task that waits for it and the worker that runs it.
//!
//! What a job is made of (the function, its result, wakers) is user code: it is run and dropped only while the stage is
//! not locked.

use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::task::{Context, Poll, Waker};

use crate::drawing::FileLine;
use crate::error::Payload;
use crate::foreign::Surroundings;
use crate::local::{self, SentLocals};
use crate::promise::Promise;
use crate::report::{Held, ReportKind, drop_safely, late_err, report, report_panic, waking};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock};
use crate::sys::fork::Process;

type Outcome<T> = Result<T, Failure>;

/// Why there is no value.
pub(super) enum Failure {
    Panicked(Payload),
    /// The function never ran.
    NoThread(io::Error),
}

/// A function to be run on a thread, then what came of it.
pub(super) struct Job<F, T> {
    state: Mutex<State<F, T>>,
    /// What is current while it runs.
    locals: Option<SentLocals>,
    surroundings: Surroundings,
    is_cancelled: AtomicBool,
    /// Set when the function has asked, and was told that it is cancelled: an `Err` is its answer then, and no news.
    was_told: AtomicBool,
    err_type: ErrType<T>,
    /// Set with it once the job runs, for a function that waits for that.
    stop: Option<Promise<()>>,
    /// Set before it is left behind: its thread does not count for its pool any more.
    is_left: AtomicBool,
    /// Where its thread is. One that is forked off has the job, and no thread for it.
    process: Process,
    origin: Origin,
}

/// The type of a value that is an `Err`.
pub(crate) type ErrType<T> = fn(&T) -> Option<&'static str>;

/// What a job is, and where its future was made.
pub(super) struct Origin {
    pub(super) text: &'static str,
    pub(super) location: &'static Location<'static>,
}

impl Origin {
    /// Says what becomes of a panic that nobody waits for any more.
    fn report_unheard(&self, payload: Payload) {
        report_panic(&format!("{self}, panicked, and nobody waits for it any more"), payload);
    }

    fn report_unheard_err(&self, type_name: &str) {
        let what = format!("{self}, ended with an `Err` ({type_name}), and nobody waits for it any more");
        report(ReportKind::ErrorUnheard, format!("{what}; handle the error in the job, or `abandon_on_cancel` it"));
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, made at {}", self.text, FileLine(self.location))
    }
}

struct State<F, T> {
    stage: Stage<F, T>,
    /// Who waits for the result; there only before it is.
    waiter: Option<Waker>,
}

enum Stage<F, T> {
    Queued(F),
    Running,
    Finished(Outcome<T>),
    /// Nobody wants it any more, or it has been handed over.
    Gone,
}

/// What a worker does with a job. None of it panics: a worker that ended by it would take its place in the pool with it.
pub(super) trait Work: Send + Sync {
    /// Runs the job and keeps the result. `true` if it was left behind meanwhile.
    fn work(&self) -> bool;
    /// Wakes whoever waits for the result.
    fn publish(&self);
    /// Ends a job that gets no thread, with what the system has reported.
    fn refuse(&self, error: io::Error);
    /// Whether the code that waits for it has been cancelled.
    fn is_cancelled(&self) -> bool;
    /// [`Work::is_cancelled`], for the function that runs.
    fn tell_whether_cancelled(&self) -> bool;
}

impl<F, T> Job<F, T> {
    /// A job that this process hands in, which is `process`.
    pub(super) fn new(
        origin: Origin,
        function: F,
        stop: Option<Promise<()>>,
        err_type: ErrType<T>,
        process: Process,
    ) -> Self {
        let state = Mutex::new(State { stage: Stage::Queued(function), waiter: None });
        let (is_cancelled, was_told) = (AtomicBool::new(false), AtomicBool::new(false));
        let is_left = AtomicBool::new(false);
        let (locals, surroundings) = (local::sent(), Surroundings::here());
        Self { state, locals, surroundings, is_cancelled, was_told, err_type, stop, is_left, process, origin }
    }

    fn lock(&self) -> MutexGuard<'_, State<F, T>> {
        lock(&self.state)
    }

    /// The outcome, once; if it is not there yet, wakes the task when it is.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome<T>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Stage::Finished(_) = state.stage {
            let Stage::Finished(outcome) = mem::replace(&mut state.stage, Stage::Gone) else { unreachable!() };
            drop(state);
            return Poll::Ready(outcome);
        }
        // Whoever hands it in polls it first, and has no need to ask.
        if state.waiter.is_some() && !self.is_of_this_process() {
            let error = io::Error::other("this process was forked off that of the job");
            return Poll::Ready(Err(Failure::NoThread(error)));
        }
        let before = state.waiter.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    fn is_of_this_process(&self) -> bool {
        self.process.is_this()
    }

    /// Asks the job to stop. `true` if it has not begun, and never will: there is nothing to wait for.
    pub(super) fn cancel(&self) -> bool {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        let Stage::Queued(_) = state.stage else {
            drop(state);
            self.stop();
            return false;
        };
        let function = mem::replace(&mut state.stage, Stage::Gone);
        let waiter = state.waiter.take();
        drop(state);
        drop(waiter.map(Held::new));
        drop(Held::new(function));
        true
    }

    fn stop(&self) {
        if let Some(stop) = &self.stop {
            let _ = stop.set(());
        }
    }

    /// The type of a value that is an `Err`, and news to whoever has cancelled the job.
    fn type_of_err(&self, value: &T) -> Option<&'static str> {
        let is_news = !self.was_told.load(Ordering::Relaxed) && !self.is_left.load(Ordering::Relaxed);
        (self.err_type)(value).filter(|_| is_news)
    }

    /// The value has come after the cancellation of who has waited for it.
    pub(super) fn report_late(&self, value: &T) {
        if let Some(type_name) = self.type_of_err(value) {
            report(ReportKind::ErrorUnheard, late_err(&format!("{},", self.origin), type_name));
        }
    }

    /// Reports what nobody waits for any more, if it is a failure. Gives what is left to drop.
    fn report_unheard(&self, outcome: Outcome<T>) -> Option<T> {
        match outcome {
            Ok(value) => {
                if let Some(type_name) = self.type_of_err(&value) {
                    self.origin.report_unheard_err(type_name);
                }
                return Some(value);
            }
            Err(Failure::Panicked(payload)) => self.origin.report_unheard(payload),
            Err(Failure::NoThread(_)) => {}
        }
        None
    }

    /// Whether no thread has taken it yet.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.lock().stage, Stage::Queued(_))
    }

    /// Nobody waits any more: a job that has not begun never will, and the result of one that runs is dropped there, or
    /// reported if it is a failure. `true` if it runs in this process.
    pub(super) fn abandon(&self, is_left: bool) -> bool {
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.is_left.store(is_left, Ordering::Relaxed);
        let mut state = self.lock();
        let stage = mem::replace(&mut state.stage, Stage::Gone);
        let waiter = state.waiter.take();
        drop(state);
        drop(waiter.map(Held::new));
        let runs = matches!(stage, Stage::Running);
        if runs {
            self.stop();
        }
        match stage {
            Stage::Finished(outcome) => drop(self.report_unheard(outcome).map(Held::new)),
            stage => drop(Held::new(stage)),
        }
        runs && self.is_of_this_process()
    }

    fn finish(&self, outcome: Result<T, Payload>) -> bool {
        let mut state = self.lock();
        if let Stage::Gone = state.stage {
            drop(state);
            drop_safely(self.report_unheard(outcome.map_err(Failure::Panicked)));
            return self.is_left.load(Ordering::Relaxed);
        }
        state.stage = Stage::Finished(outcome.map_err(Failure::Panicked));
        false
    }
}

impl<F, T> Work for Job<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn work(&self) -> bool {
        let mut state = self.lock();
        let Stage::Queued(_) = state.stage else { return false };
        let Stage::Queued(function) = mem::replace(&mut state.stage, Stage::Running) else { unreachable!() };
        drop(state);
        let _entered = (self.locals.as_ref().map(SentLocals::enter), self.surroundings.enter());
        self.finish(catch_unwind(AssertUnwindSafe(function)))
    }

    fn publish(&self) {
        let waiter = self.lock().waiter.take();
        if let Some(waiter) = waiter {
            waking(|| waiter.wake());
        }
    }

    fn refuse(&self, error: io::Error) {
        let mut state = self.lock();
        let Stage::Queued(_) = state.stage else { return };
        let function = mem::replace(&mut state.stage, Stage::Finished(Err(Failure::NoThread(error))));
        drop(state);
        drop_safely(function);
        self.publish();
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    fn tell_whether_cancelled(&self) -> bool {
        let is_cancelled = self.is_cancelled();
        if is_cancelled {
            self.was_told.store(true, Ordering::Relaxed);
        }
        is_cancelled
    }
}
