//! One job, handed over between the task that waits for it and the worker that runs it.
//!
//! What a job is made of (the function, its result, wakers) is user code: it is run and dropped only while the stage is
//! not locked.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use crate::report::{Held, drop_safely, waking};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// A function to be run on a thread, then what came of it.
pub(super) struct Job<F, T> {
    state: Mutex<State<F, T>>,
    is_cancelled: AtomicBool,
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
    /// Runs the job and keeps the result.
    fn work(&self);
    /// Wakes who waits for the result.
    fn publish(&self);
    /// Ends a job that no thread can be had for, with a panic of this text for who waits for it.
    fn refuse(&self, text: String);
    /// Whether who waits for it has been cancelled.
    fn is_cancelled(&self) -> bool;
}

impl<F, T> Job<F, T> {
    pub(super) fn new(function: F) -> Self {
        let state = Mutex::new(State { stage: Stage::Queued(function), waiter: None });
        Self { state, is_cancelled: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State<F, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let before = state.waiter.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Asks the job to stop. `true` if it has not begun, and never will: there is nothing to wait for.
    pub(super) fn cancel(&self) -> bool {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        let Stage::Queued(_) = state.stage else { return false };
        let function = mem::replace(&mut state.stage, Stage::Gone);
        let waiter = state.waiter.take();
        drop(state);
        drop(waiter.map(Held::new));
        drop(Held::new(function));
        true
    }

    /// Nobody waits any more: a job that has not begun never will, and the result of one that runs is dropped there.
    pub(super) fn abandon(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        let stage = mem::replace(&mut state.stage, Stage::Gone);
        let waiter = state.waiter.take();
        drop(state);
        drop(waiter.map(Held::new));
        drop(Held::new(stage));
    }

    fn finish(&self, outcome: Outcome<T>) {
        let mut state = self.lock();
        if let Stage::Gone = state.stage {
            drop(state);
            drop_safely(outcome);
            return;
        }
        state.stage = Stage::Finished(outcome);
    }
}

impl<F, T> Work for Job<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn work(&self) {
        let mut state = self.lock();
        let Stage::Queued(_) = state.stage else { return };
        let Stage::Queued(function) = mem::replace(&mut state.stage, Stage::Running) else { unreachable!() };
        drop(state);
        self.finish(catch_unwind(AssertUnwindSafe(function)));
    }

    fn publish(&self) {
        let waiter = self.lock().waiter.take();
        if let Some(waiter) = waiter {
            waking(|| waiter.wake());
        }
    }

    fn refuse(&self, text: String) {
        let mut state = self.lock();
        let Stage::Queued(_) = state.stage else { return };
        let function = mem::replace(&mut state.stage, Stage::Finished(Err(Box::new(text))));
        drop(state);
        drop_safely(function);
        self.publish();
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}
