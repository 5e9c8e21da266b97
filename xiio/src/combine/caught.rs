//! A panic that ends one future and nothing else.

use std::future::IntoFuture;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::{Panic, Payload};
use crate::report::{drop_safely, report_in_pass, report_panic, report_replaced};
use crate::runtime::may_begin;
use crate::unwind::{self, Cancel, Dropper, Duty, Node, Owner};

/// Runs a future, and catches its panic.
///
/// Use it for a future that must not take its siblings along: one client of a server, one job of many. A panic in a task
/// of a group is the group's; with `catch_panic` around the future it is a value. All cleanup in the future has run when
/// that value comes: brackets have released, and the tasks of its groups have been cancelled and have cleaned up.
///
/// What the panic left half done stays visible: a `RefCell` may hold a value that was about to be changed. The message on
/// standard error is that of the panic hook, as for any panic.
///
/// # Errors
/// [`Panic`] when the future panicked, in a poll or in a destructor at its end.
///
/// # Panics
/// When it is polled after its end. In a build with `panic = "abort"` nothing is caught.
///
/// # Cancellation
/// Passed on to the future; whoever cancels waits for its cleanup. A panic of the cleanup, or of a destructor, is reported then
/// and goes no further.
///
/// # Examples
/// ```
/// use std::cell::RefCell;
/// use xiio::{bracket, catch_panic, task_group};
///
/// let log = RefCell::new(Vec::new());
/// xiio::run(async {
///     task_group!(|clients| {
///         for name in ["Ada", "odd", "Grace"] {
///             let log = &log;
///             let serve = bracket(
///                 name,
///                 async |name| {
///                     assert!(*name != "odd", "a bug");
///                     log.borrow_mut().push(format!("served {name}"));
///                 },
///                 async |name| log.borrow_mut().push(format!("goodbye {name}")),
///             );
///             clients.spawn(async {
///                 if let Err(panic) = catch_panic(serve).await {
///                     log.borrow_mut().push(panic.to_string());
///                 }
///             });
///         }
///     });
/// });
/// let wanted = ["served Ada", "goodbye Ada", "goodbye odd", "panicked: a bug", "served Grace", "goodbye Grace"];
/// assert_eq!(*log.borrow(), wanted);
/// ```
pub fn catch_panic<F: IntoFuture>(future: F) -> impl Future<Output = Result<F::Output, Panic>> {
    let inside = Inside { future: Some(Box::pin(future.into_future())), owner: Owner::default() };
    Caught { inside, node: Node::new("catch_panic") }
}

/// The future of a [`catch_panic`].
struct Caught<F> {
    inside: Inside<F>,
    node: Node,
}

/// An owner that keeps panics in.
struct Inside<F> {
    /// Boxed, since the destructor has to reach it. `None` when it has ended.
    future: Option<Pin<Box<F>>>,
    owner: Owner,
}

impl<F: Future> Inside<F> {
    /// `Ready(None)`: it was cancelled and has cleaned up.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<F::Output, Payload>>> {
        let Self { future, owner } = self;
        let Some(running) = future else { return Poll::Ready(None) };
        let result = match catch_unwind(AssertUnwindSafe(|| owner.poll(running.as_mut(), cx))) {
            Ok(polled) => ready!(polled).map(Ok),
            Err(payload) => Some(Err(payload)),
        };
        let dropper = if matches!(result, Some(Err(_))) { Dropper::Panic } else { Dropper::Foreign };
        let dropped = catch_unwind(AssertUnwindSafe(|| unwind::dropping(dropper, || drop(future.take())))).err();
        let later = [dropped, owner.take_panic()].into_iter().flatten();
        Poll::Ready(later.fold(result, |result, payload| match result {
            Some(Err(first)) => {
                report_panic("what had panicked under `catch_panic` panicked as well", payload);
                Some(Err(first))
            }
            value => {
                value.iter().flatten().for_each(report_replaced);
                drop_safely(value);
                Some(Err(payload))
            }
        }))
    }

    /// Begins to cancel it.
    fn cancel(&mut self) {
        if self.future.is_some() && self.owner.cancel() == Cancel::Drop {
            drop_safely(self.future.take());
        }
    }
}

impl<F: Future> Caught<F> {
    fn unwind(&mut self, cx: &mut Context<'_>) {
        let Self { inside, node } = self;
        node.clean_up(cx, |cx| {
            inside.cancel();
            inside.poll(cx).map(|ended| match ended {
                Some(Err(payload)) => report_panic("what was cancelled under `catch_panic` panicked", payload),
                ended => {
                    ended.iter().flatten().for_each(|value| report_in_pass(value, "catch_panic"));
                    drop_safely(ended);
                }
            })
        });
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.node.duty(cx, may_begin) {
            Duty::Wait => Poll::Pending,
            Duty::Unwind => {
                this.unwind(cx);
                Poll::Pending
            }
            Duty::Run => match this.inside.poll(cx) {
                Poll::Pending => {
                    let holds = this.inside.owner.holds();
                    this.node.hold(cx, holds);
                    Poll::Pending
                }
                Poll::Ready(Some(result)) => {
                    this.node.leave();
                    Poll::Ready(result.map_err(Panic::new))
                }
                Poll::Ready(None) => panic!("`catch_panic` was polled after it had ended"),
            },
        }
    }
}

impl<F> Drop for Inside<F> {
    fn drop(&mut self) {
        drop_safely(self.future.take());
    }
}
