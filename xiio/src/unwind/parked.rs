//! A node between two polls of a future that may go to any thread.
//!
//! A node points to the scope that it has joined, which belongs to a thread. Between the polls its future has the *key* of the node in that
//! scope instead, and the letterbox of the scope, which any thread may reach:
//!
//! ```text
//!                                  ┌─ in a poll of the same scope ──▶ the node, as it was
//!  polled ──▶ key and letterbox ───┼─ in a poll of anything else ───▶ a node that joins anew ─┐
//!                                  └─ dropped ────────────────────────────────────────────────┴─▶ key put into the letterbox
//! ```
//!
//! A scope empties its letterbox before it looks at its nodes. While it waits for them, who puts something in wakes it. So a
//! node is in the scope whose tree has polled it last, and in none once its future is gone, on whichever thread that was.

use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use super::current::{current_scope_if, is_frozen};
use super::node::{Membership, Node, Stage};
use super::scope::Scope;
use crate::report::{drop_safely, waking};
use crate::sync::{Mutex, MutexGuard, lock};

/// A node that has no poll to be in. It is `Send`.
pub(crate) struct Parked {
    label: &'static str,
    stage: Stage,
    ticket: Option<Ticket>,
}

/// What a node has joined.
struct Ticket {
    letterbox: Arc<Letterbox>,
    key: usize,
}

impl Parked {
    /// A node that has joined nothing yet.
    pub(crate) fn new(label: &'static str) -> Self {
        Self { label, stage: Stage::Fresh, ticket: None }
    }

    /// The node, for a poll. It has left its scope unless this is a poll of that, or one in which nothing goes on.
    pub(crate) fn unpark(&mut self) -> Node {
        match &self.ticket {
            Some(ticket) if is_frozen() && ticket.scope().is_none() => Node::with(self.label, self.stage, None, true),
            _ => self.take(),
        }
    }

    fn take(&mut self) -> Node {
        let ticket = self.ticket.take();
        let holds = ticket.is_some();
        Node::with(self.label, self.stage, ticket.and_then(Ticket::redeem), holds)
    }

    /// Keeps the node of [`unpark`](Self::unpark) until the next poll.
    pub(crate) fn park(&mut self, mut node: Node) {
        self.stage = node.stage();
        if let Some(Membership { scope, key }) = node.take_membership() {
            let before = self.ticket.replace(Ticket { letterbox: scope.letterbox(), key });
            drop(before.and_then(Ticket::redeem));
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Ticket {
    /// The scope that the node is in, if this is a poll of that.
    fn scope(&self) -> Option<Rc<Scope>> {
        current_scope_if(|scope| scope.has_letterbox(&self.letterbox))
    }

    fn redeem(self) -> Option<Membership> {
        let scope = self.scope();
        if scope.is_none() {
            self.letterbox.put(self.key);
        }
        scope.map(|scope| Membership { scope, key: self.key })
    }
}

/// Where a scope is told which of its nodes have gone.
#[derive(Default)]
pub(super) struct Letterbox {
    /// Wakers are user code: they are cloned, woken and dropped only while this is not locked.
    letters: Mutex<Letters>,
}

#[derive(Default)]
struct Letters {
    keys: Vec<usize>,
    /// Who waits for the nodes.
    waiter: Option<Waker>,
}

impl Letterbox {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        lock(&self.letters)
    }

    fn put(&self, key: usize) {
        let mut letters = self.lock();
        letters.keys.push(key);
        let waiter = letters.waiter.take();
        drop(letters);
        if let Some(waiter) = waiter {
            waking(|| waiter.wake());
        }
    }

    /// The keys that were put in since the last call.
    pub(super) fn empty(&self) -> Vec<usize> {
        mem::take(&mut self.lock().keys)
    }

    /// Has the next key wake `waiter`.
    #[cold]
    pub(super) fn wait(&self, waiter: Option<Waker>) {
        let before = mem::replace(&mut self.lock().waiter, waiter);
        drop_safely(before);
    }
}
