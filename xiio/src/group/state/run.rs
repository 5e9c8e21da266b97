//! The future of a block: runs a group to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::course::{AnyBody, Course};
use super::{Cause, Group, Member};
use crate::cores::Crew;
use crate::drawing;
use crate::error::Payload;
use crate::report::{Origin, Undelivered};
use crate::task::{Ended, Members};
use crate::unwind::Owner;

/// What the end of the body means for the tasks.
#[derive(Debug)]
pub enum BodyEnd<X> {
    /// They are waited for.
    Finish(X),
    /// They are cancelled, for an error that is with the group's errors.
    Error,
    /// They are cancelled, for what the exit carries.
    Fail(X),
}

/// What the kinds of groups differ in: what their end makes of the body's.
///
/// Owns the group's guard.
pub trait Ending<O> {
    /// How the body was left.
    type Exit;
    /// The value of the block.
    type Output;

    /// What the body's output means for the tasks.
    fn judge(&self, output: O) -> BodyEnd<Self::Exit>;

    /// The value of the block, when all have ended; with the body's exit, if it has come to one.
    fn conclude(self, exit: Undelivered<Self::Exit>) -> Self::Output;
}

/// Runs a group to its end: the future of a block.
///
/// Everything is polled from here and only from here, so a group that is leaked stands still.
#[must_use]
pub struct Run<'a, 'b, B: Future, E: Ending<B::Output>> {
    course: Course<'a>,
    /// Has the guard, so it is dropped last.
    body: Body<'a, 'b, B, E>,
}

/// The body of a group: its first member.
struct Body<'a, 'b, B: Future, E: Ending<B::Output>> {
    group: &'a Group<'a>,
    future: Pin<&'b mut Option<B>>,
    owner: Owner,
    exit: Undelivered<E::Exit>,
    /// It was told of the failure, and may only clean up.
    is_cancelled: bool,
    /// `None` when the block has its value.
    ending: Option<E>,
}

impl<B: Future, E: Ending<B::Output>> Unpin for Run<'_, '_, B, E> {}

impl<B: Future, E: Ending<B::Output>> Body<'_, '_, B, E> {
    fn end(&mut self, output: B::Output) {
        let Some(ending) = &self.ending else { return };
        match ending.judge(output) {
            BodyEnd::Finish(exit) => self.exit.put(exit),
            BodyEnd::Fail(exit) => {
                self.exit.put(exit);
                self.group.fail(Cause::BodyExit, Member::Body);
            }
            BodyEnd::Error => self.group.fail(Cause::Error, Member::Body),
        }
    }
}

impl<B: Future, E: Ending<B::Output>> Members for Body<'_, '_, B, E> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.group.begin_body_poll(self.is_cancelled) || self.future.is_none() {
            return false;
        }
        match self.owner.poll_slot(self.future.as_mut(), cx) {
            Poll::Pending => !self.owner.holds(),
            Poll::Ready(output) => {
                if let Some(output) = output {
                    self.end(output);
                }
                false
            }
        }
    }

    fn has_body(&self) -> bool {
        self.future.is_some()
    }

    fn node(&self) -> drawing::Node {
        self.group.node()
    }

    fn end_body(&mut self, payload: Payload) {
        self.group.end_body(payload, &mut || self.future.set(None));
    }

    fn end_task(&mut self, ended: Ended, origin: Origin) {
        self.group.end_task(ended, origin);
    }

    fn has_winner(&self) -> bool {
        self.group.has_winner.get()
    }

    fn end_last_round(&mut self) {
        self.group.cancel_rest();
    }

    fn end_of_grace(&self) -> Option<Instant> {
        self.group.end_of_grace_alone()
    }
}

impl<B: Future, E: Ending<B::Output>> AnyBody for Body<'_, '_, B, E> {
    fn cancel(&mut self) {
        self.is_cancelled = true;
        self.owner.cancel_slot(self.future.as_mut());
    }

    fn drop_future(&mut self) {
        self.future.set(None);
    }

    fn holds(&self) -> bool {
        self.owner.holds()
    }
}

impl<'a, 'b, B: Future, E: Ending<B::Output>> Run<'a, 'b, B, E> {
    pub(in crate::group) fn new(
        group: &'a Group<'a>,
        body: Pin<&'b mut Option<B>>,
        ending: E,
        report_exit: fn(&E::Exit),
    ) -> Self {
        Self {
            course: Course::new(group),
            body: Body {
                group,
                future: body,
                owner: Owner::default(),
                exit: Undelivered::expected(report_exit),
                is_cancelled: false,
                ending: Some(ending),
            },
        }
    }

    /// The workers of the group, if it is to have any.
    pub(in crate::group) fn crew(&self) -> Option<Arc<Crew>> {
        self.body.group.anchor.crew()
    }

    /// Polls the group; `Ready` when all in it has ended, and the value can be taken.
    #[inline]
    pub(in crate::group) fn poll_members(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.course.poll(&mut self.body, cx)
    }

    /// All have ended, and whoever polls the group learns of it by another poll.
    pub(in crate::group) fn note_held(&mut self, cx: &mut Context<'_>) {
        self.course.note_held(&self.body, cx);
    }

    /// The value of the block, when all have ended.
    pub(in crate::group) fn conclude(&mut self) -> E::Output {
        match self.body.ending.take() {
            Some(ending) => ending.conclude(self.body.exit.take()),
            None => panic!("a group was polled after its end"),
        }
    }
}

impl<B: Future, E: Ending<B::Output>> Future for Run<'_, '_, B, E> {
    type Output = E::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<E::Output> {
        self.poll_members(cx).map(|()| self.conclude())
    }
}
