//! A root that a signal cancels.
//!
//! ```text
//!            first signal             all cleaned up
//!   running ─────────────▶ unwinding ────────────────▶ dies by the first signal
//!                           │      │
//!            1 s, and each  ▼      │ impatience: SIGINT or SIGQUIT, later than 1 s
//!          further signal:  says   └────────────▶ dies by that signal
//!             who still cleans up
//! ```
//!
//! The first signal is an event like any other. Impatience must work however stuck the thread is, so it is the
//! handler itself that lets it have its default action, see `sys::signal`.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use crate::drawing::Drawing;
use crate::io::Readiness;
use crate::pin::Pinned;
use crate::report::{ReportKind, drop_safely, report, report_panic};
use crate::runtime::{Config, Runtime, block_on};
use crate::sys::fd::Direction;
use crate::sys::signal::{ECHO, Impatience, Subscription, Unblocked, die_by, is_ignored, is_unwanted, name};
use crate::time::{Deadline, now};
use crate::unwind::{Cancel, Owner};

/// How long what was printed may take to be written at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// How long a cleanup may take before it is spoken of.
const PATIENCE: Duration = Duration::from_secs(1);

/// What makes a root stop.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub(super) signals: Vec<i32>,
    pub(super) impatience: Impatience,
}

type Tree<'t> = Pin<Box<dyn Future<Output = ()> + 't>>;

/// The type of [`block_on_until`].
pub(super) type BlockOnUntil = fn(&Stop, &Config, Tree<'_>);

/// Runs a tree to its end. When one of the signals comes, its end is its cleanup, and the process dies by that signal.
///
/// # Panics
/// For a signal that cannot be caught, and as [`block_on`].
pub(super) fn block_on_until(stop: &Stop, config: &Config, tree: Tree<'_>) {
    // What is ignored was meant to be, by `nohup` or a script that does not want its background jobs to hear of Ctrl-C.
    let signals: Vec<i32> = stop.signals.iter().copied().filter(|&signal| !is_ignored(signal)).collect();
    let subscription =
        Subscription::new(&signals, &stop.impatience).unwrap_or_else(|error| panic!("`cancel_on`: {error}"));
    let unblocked = Unblocked::here(&signals);
    let ended = block_on(config, shutdown(&subscription, &stop.impatience, tree)).0;
    drop(unblocked);
    // One that came while the tree was polled last is still to be taken.
    let late = subscription.end();
    if let Some(signal) = ended.err().map(|Signalled(signal)| signal).or(late) {
        flush_output(signal);
        die_by(signal)
    }
}

/// Flushes what was printed, which would be lost. Another thread may have the lock of standard output, and keep it: so a thread watches
/// over the time, and the process dies by that one then. This thread flushes, as it may have the lock itself.
fn flush_output(signal: i32) {
    let (flushed, has_flushed) = mpsc::channel::<()>();
    let watch = move || {
        if has_flushed.recv_timeout(FLUSH) == Err(RecvTimeoutError::Timeout) {
            die_by(signal);
        }
    };
    let watching = thread::Builder::new().spawn(watch);
    let _ = io::stdout().flush();
    // Ends the watch. Without a thread for it nobody watches.
    drop((flushed, watching));
}

type Shutdown<'s, 't> = Pinned<Tree<'t>, Watch<'s>>;

/// The first signal.
struct Signalled(i32);

/// The owner of the whole tree, and what makes it cancel.
struct Watch<'s> {
    owner: Owner,
    subscription: &'s Subscription,
    impatience: &'s Impatience,
    readiness: Readiness<'s>,
    n_taken: u32,
    /// The first signal, and when it was taken.
    received: Option<(i32, Instant)>,
    /// When it is said who still cleans up. Set by the first signal.
    patience: Deadline,
}

fn shutdown<'s, 't>(subscription: &'s Subscription, impatience: &'s Impatience, tree: Tree<'t>) -> Shutdown<'s, 't> {
    let readiness = Readiness::new(subscription.as_fd(), Direction::Read).beside_tasks();
    let (owner, patience) = (Owner::default(), Deadline::at(None));
    Pinned::new(tree, Watch { owner, subscription, impatience, readiness, n_taken: 0, received: None, patience })
}

impl Watch<'_> {
    /// Takes the signals that have come. Says whether the first is among them.
    fn poll_signals(&mut self, cx: &mut Context<'_>) -> bool {
        let was_received = self.received.is_some();
        while let Some(signal) = self.poll_signal(cx) {
            match self.received {
                None => self.received = Some((signal, now())),
                Some((_, at)) if now() - at >= ECHO => self.patience.reset(Some(now())),
                Some(_) => {}
            }
        }
        self.received.is_some() && !was_received
    }

    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Option<i32> {
        // The descriptor is looked at once a wake of its own; meanwhile the counter tells without a system call.
        if self.readiness.is_registered() && self.subscription.n_delivered() == self.n_taken {
            return None;
        }
        let taken = self.subscription.take();
        if taken.is_some() {
            self.n_taken += 1;
            return taken;
        }
        match self.readiness.poll_now(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(error)) => panic!("`cancel_on`: {error}"),
        }
        None
    }

    fn cancel(&mut self, tree: &mut Option<Tree<'_>>) {
        if self.owner.cancel() == Cancel::Drop {
            drop_safely(tree.take());
        }
        self.patience = Deadline::after(PATIENCE);
    }

    /// Polls the tree. After a signal its panics are reports: nothing may keep the process from dying by the signal.
    fn poll_tree(&mut self, tree: &mut Option<Tree<'_>>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.received.is_none() {
            return self.owner.poll_slot(Pin::new(tree), cx);
        }
        catch_unwind(AssertUnwindSafe(|| self.owner.poll_slot(Pin::new(tree), cx))).unwrap_or_else(|payload| {
            report_panic("a cleanup panicked", payload);
            drop_safely(tree.take());
            Poll::Ready(None)
        })
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) {
        if let Some((signal, at)) = self.received
            && self.patience.poll_elapsed(cx)
        {
            self.patience.reset(None);
            let text = still_cleaning_up(signal, now() - at, self.impatience, self.subscription.signals());
            let report = move |tree: Drawing| report(ReportKind::StillStopping, format!("{text}:\n{tree}"));
            Runtime::with(|runtime| runtime.request_drawing(Box::new(report)));
        }
    }
}

/// What is said of `signal`; of those of impatience, the ones that end the process: as they are among `caught`, or by themselves.
fn still_cleaning_up(signal: i32, since: Duration, impatience: &Impatience, caught: &[i32]) -> String {
    let ending = impatience.signals.iter().filter(|signal| caught.contains(signal) || is_unwanted(**signal));
    let names: Vec<String> = ending.map(|&signal| name(signal)).collect();
    let remedy = match impatience.after {
        Some(after) if !names.is_empty() => {
            let then = if after > since {
                format!(" {} s after the first signal", after.as_secs_f32())
            } else {
                String::new()
            };
            format!("{}{then} ends the process at once", names.join(" or "))
        }
        _ => "only SIGKILL ends the process sooner".to_owned(),
    };
    format!("still cleaning up {} s after {}; {remedy}", since.as_secs(), name(signal))
}

impl Future for Shutdown<'_, '_> {
    type Output = Result<(), Signalled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (slot, watch) = self.project();
        let tree = slot.get_mut();
        if watch.poll_signals(cx) {
            watch.cancel(tree);
        }
        match (watch.poll_tree(tree, cx), watch.received) {
            (Poll::Pending, _) => {
                watch.poll_patience(cx);
                Poll::Pending
            }
            (Poll::Ready(_), Some((signal, _))) => Poll::Ready(Err(Signalled(signal))),
            (Poll::Ready(Some(())), None) => Poll::Ready(Ok(())),
            (Poll::Ready(None), None) => unreachable!("only a signal cancels the root"),
        }
    }
}
