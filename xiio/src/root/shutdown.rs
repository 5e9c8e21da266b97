//! A root that a signal cancels.
//!
//! ```text
//!            first signal             all cleaned up
//!   running ─────────────▶ unwinding ────────────────▶ dies by the first signal
//!                              │ 1 s        │
//!                              ▼            │ second signal
//!                     says who cleans up    └─────────▶ dies by the second signal
//! ```
//!
//! The first signal is an event like any other. The second one must work however stuck the thread is, so it is the
//! handler itself that lets it have its default action, see `sys::signal`.

use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::io::Readiness;
use crate::pin::Pinned;
use crate::report::{ReportKind, drop_safely, report, report_panic};
use crate::runtime::{Config, Runtime, block_on};
use crate::sys::fd::Direction;
use crate::sys::signal::{Subscription, die_by, name};
use crate::time::Deadline;
use crate::unwind::{Cancel, Inspection, Owner};

/// How long a cleanup may take before it is spoken of.
const PATIENCE: Duration = Duration::from_secs(1);

type Tree<'t> = Pin<Box<dyn Future<Output = ()> + 't>>;

/// The type of [`block_on_until`].
pub(super) type BlockOnUntil = fn(&[i32], &Config, Tree<'_>);

/// Runs a tree to its end. When one of `signals` comes, its end is its cleanup, and the process dies by that signal.
///
/// # Panics
/// For a signal that cannot be caught, and as [`block_on`].
pub(super) fn block_on_until(signals: &[i32], config: &Config, tree: Tree<'_>) {
    let subscription = Subscription::new(signals, true).unwrap_or_else(|error| panic!("`cancel_on`: {error}"));
    let ended = block_on(config, shutdown(&subscription, tree)).0;
    // One that came while the tree was polled last is still to be taken.
    let late = subscription.end();
    if let Some(signal) = ended.err().map(|Signalled(signal)| signal).or(late) {
        // What was printed and not flushed would be lost.
        let _ = std::io::stdout().flush();
        die_by(signal)
    }
}

type Shutdown<'s, 't> = Pinned<Tree<'t>, Watch<'s>>;

/// The first signal.
struct Signalled(i32);

/// The owner of the whole tree, and what makes it cancel.
struct Watch<'s> {
    owner: Owner,
    subscription: &'s Subscription,
    readiness: Readiness<'s>,
    received: Option<i32>,
    /// Set by the first signal.
    patience: Deadline,
}

fn shutdown<'s, 't>(subscription: &'s Subscription, tree: Tree<'t>) -> Shutdown<'s, 't> {
    let readiness = Readiness::new(subscription.as_fd(), Direction::Read).beside_tasks();
    let (owner, patience) = (Owner::default(), Deadline::at(None));
    Pinned::new(tree, Watch { owner, subscription, readiness, received: None, patience })
}

impl Watch<'_> {
    /// Whether the first signal has just come.
    fn poll_signal(&mut self, cx: &mut Context<'_>) -> bool {
        // The descriptor is looked at once a wake of its own; meanwhile the counter tells without a system call.
        if self.received.is_some() || (self.readiness.is_registered() && !self.subscription.has_any()) {
            return false;
        }
        self.received = self.subscription.take();
        if self.received.is_some() {
            return true;
        }
        match self.readiness.poll_now(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(error)) => panic!("`cancel_on`: {error}"),
        }
        false
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
        if let Some(signal) = self.received
            && self.patience.poll_elapsed(cx)
        {
            self.patience.reset(None);
            Runtime::with(|runtime| runtime.request_drawing(Box::new(move |tree| report_stopping(signal, &tree))));
        }
    }
}

fn report_stopping(signal: i32, tree: &Inspection) {
    let (signal, seconds) = (name(signal), PATIENCE.as_secs());
    let text =
        format!("still cleaning up {seconds} s after {signal}; a second signal ends the process at once:\n{tree}");
    report(ReportKind::StillStopping, text);
}

impl Future for Shutdown<'_, '_> {
    type Output = Result<(), Signalled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (slot, watch) = self.project();
        let tree = slot.get_mut();
        if watch.poll_signal(cx) {
            watch.cancel(tree);
        }
        match (watch.poll_tree(tree, cx), watch.received) {
            (Poll::Pending, _) => {
                watch.poll_patience(cx);
                Poll::Pending
            }
            (Poll::Ready(_), Some(signal)) => Poll::Ready(Err(Signalled(signal))),
            (Poll::Ready(Some(())), None) => Poll::Ready(Ok(())),
            (Poll::Ready(None), None) => unreachable!("only a signal cancels the root"),
        }
    }
}
