//! The tree on standard error when a signal comes: a thread that waits for it while a run lasts.
//!
//! A thread and no task: it can say that the loop is blocked. It costs the loop nothing until a signal comes.

use std::any::Any;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::process;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::drawing::Drawing;
use crate::promise::Promise;
use crate::runtime::{Config, Requests, block_on};
use crate::signal::{Signals, subscribe};
use crate::sys::fork::Process;
use crate::sys::signal::{is_ignored, name};
use crate::sys::stderr::say;
use crate::time::sleep;

/// How long the loop may take to come to drawing, before it is said to be busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long it may take to draw then: a poll of all that there is.
const TIME_TO_DRAW: Duration = Duration::from_secs(5);

/// Prints the tree at each of the signals, until the result is dropped. Those that are ignored at the start stay so.
///
/// # Panics
/// For a signal that cannot be caught, and where the system gives no descriptor or no thread.
pub(super) fn print_on(signals: &[i32], requests: Arc<Requests>) -> Box<dyn Any> {
    let signals: Vec<i32> = signals.iter().copied().filter(|&signal| !is_ignored(signal)).collect();
    let signals = subscribe(&signals).unwrap_or_else(|error| panic!("`tree_on`: {error}"));
    let stop = Promise::new();
    let printing = Printing { signals, requests, stop: stop.clone() };
    let (begun, has_begun) = mpsc::channel();
    let begin = async move || {
        let _ = begun.send(());
        printing.run().await;
    };
    let print = move || block_on(&Config::default(), begin()).0;
    let thread = Builder::new().name("xiio-tree".into()).spawn(print);
    let thread = thread.unwrap_or_else(|error| panic!("`tree_on`: cannot start a thread: {error}"));
    // There may be no descriptors for its loop.
    if has_begun.recv().is_err() {
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        unreachable!("it says that it has begun, or panics");
    }
    Box::new(Ends { stop, thread: Some(thread), of: Process::this() })
}

/// Has the thread end.
struct Ends {
    stop: Promise<()>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread. What it forks off has not, and cannot wait for its end.
    of: Process,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.of.is_this() {
            return;
        }
        let _ = self.stop.set(());
        // It does not take long, see `say`. What it may have panicked with is on standard error.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// What the thread does.
struct Printing {
    signals: Signals,
    requests: Arc<Requests>,
    stop: Promise<()>,
}

impl Printing {
    async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(Ok(signal)) = unless(stop.wait(), self.signals.recv()).await {
            self.print(signal).await;
        }
    }

    async fn print(&self, signal: i32) {
        let drawn = Promise::<Drawing>::new();
        let to_draw = drawn.clone();
        self.requests.draw(Box::new(move |drawing| drop(to_draw.set(drawing))));
        let of = format!("the tree of process {} at {}", process::id(), name(signal));
        let is_drawn_in = async |limit| unless(sleep(limit), drawn.wait()).await.is_some();
        let drawing = async {
            // A loop that has taken what is wanted may wait for a worker. One that draws no more has just drawn.
            let time_left = || if self.requests.is_drawing() { TIME_TO_DRAW } else { Duration::ZERO };
            if !is_drawn_in(PATIENCE).await && !is_drawn_in(time_left()).await {
                say(&format!("xiio: {of} comes when the loop does: a task keeps it"));
            }
            drawn.wait().await
        };
        // Without an answer the run has ended.
        if let Some(drawing) = unless(self.stop.wait(), drawing).await {
            say(&format!("xiio: {of}:\n{drawing}"));
        }
    }
}

/// What `future` gives, unless `end` comes first.
async fn unless<T, E>(end: impl Future<Output = E>, future: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut future) = (pin!(end), pin!(future));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(cx).map(|_| None),
    })
    .await
}
