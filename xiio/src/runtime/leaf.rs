//! What every leaf does before it looks at what it waits for, and before it says that it is ready.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::share;
use crate::drawing::Node;
use crate::task::budget;
use crate::unwind::{self, Reached};

/// How a checkpoint is named.
const NO_WAIT: &str = "something that does not wait";

/// Polls a leaf: not at all where cancelled code must not go on, and not where its task has had its share.
///
/// `describe` says what the leaf waits for; it is called only while the tree is drawn.
#[inline]
pub(crate) fn poll_leaf<T, N: Into<Node>>(
    cx: &mut Context<'_>,
    describe: impl FnOnce() -> N,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    if !unwind::gate(cx, describe) {
        return Poll::Pending;
    }
    poll_budgeted(cx, poll)
}

/// Awaited before what does not wait, by a future that is a leaf then as any other.
pub(crate) async fn checkpoint() {
    let mut reached = Reached::default();
    poll_fn(|cx| {
        reached.note(NO_WAIT);
        poll_checkpoint(cx)
    })
    .await;
}

/// [`checkpoint`] for what has no future.
pub(crate) fn poll_checkpoint(cx: &mut Context<'_>) -> Poll<()> {
    poll_leaf(cx, || NO_WAIT, |_| Poll::Ready(()))
}

/// Polls what may be always ready: not where its task has had its share.
#[inline]
pub(crate) fn poll_budgeted<T>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    if !share::may_go_on(cx) {
        return Poll::Pending;
    }
    let result = poll(cx);
    if result.is_ready() {
        budget::spend_leaf();
    }
    result
}
