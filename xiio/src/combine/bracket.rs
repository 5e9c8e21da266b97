//! A resource that is released, whatever happens while it is used.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use crate::drawing::{self, Kind};
use crate::error::Payload;
use crate::report::{Undelivered, drop_safely, report_err, report_panic};
use crate::runtime::may_begin;
use crate::unwind::{self, Duty, Node, Owner};

/// Uses a resource and releases it afterwards, with `await`, also after a panic or a cancellation.
///
/// `usage` borrows the resource, `release` gets it. The value is that of `usage`.
///
/// # Panics
/// With the panic of `usage`, once `release` has run. With the panic of `release`, if `usage` did not panic; otherwise
/// the second panic is reported.
///
/// # Cancellation
/// `usage` is cancelled, with its own cleanup; then `release` runs to its end, and only a `grace` can cut it off. Inner
/// brackets release first. A bracket that was never polled has nothing to release: the resource is dropped. A bracket that
/// other code than xiio's drops half-way does not release, which is reported.
///
/// # Examples
/// ```
/// use std::{cell::RefCell, time::Duration};
/// use xiio::{bracket, sleep, timeout};
///
/// let log = RefCell::new(Vec::new());
/// xiio::run(async {
///     let transaction = bracket(
///         "connection",
///         async |_connection| {
///             log.borrow_mut().push("begin");
///             sleep(Duration::from_secs(60)).await;
///             log.borrow_mut().push("commit");
///         },
///         async |_connection| {
///             sleep(Duration::from_millis(1)).await;
///             log.borrow_mut().push("rolled back");
///         },
///     );
///     assert!(timeout(Duration::from_millis(5), transaction).await.is_err());
/// });
/// assert_eq!(*log.borrow(), ["begin", "rolled back"]);
/// ```
///
/// # Source
/// `bracket` of Haskell's `Control.Exception`.
#[doc(alias("finally", "AsyncDrop"))]
#[track_caller]
pub fn bracket<R, T>(
    resource: R,
    usage: impl AsyncFnOnce(&mut R) -> T,
    release: impl AsyncFnOnce(R),
) -> impl Future<Output = T> {
    bracket_of(Node::of_cleanup("bracket", Location::caller()), resource, usage, release)
}

/// [`bracket`] with a node that says whose it is, and whether it reports a cleanup that is skipped.
///
/// What is given stays here until it is wanted, and `work` borrows it: a block that took it would hold it once more. For the same
/// reason both futures are made where they are pinned.
pub(crate) fn bracket_of<R, T>(
    node: Node,
    resource: R,
    usage: impl AsyncFnOnce(&mut R) -> T,
    release: impl AsyncFnOnce(R),
) -> impl Future<Output = T> {
    let (mut resource, mut usage, mut release) = (Some(resource), Some(usage), Some(release));
    async move {
        let is_cancelled = Cell::new(false);
        // In the order in which they are dropped with a bracket that was never polled.
        let (resource, usage, release) = (&mut resource, &mut usage, &mut release);
        let work = pin!(Some(async {
            // Cancelled before its first poll, the resource is released all the same, when what the usage has captured is gone.
            let mut outcome = Unheard(match is_cancelled.get() {
                true => catch_unwind(AssertUnwindSafe(|| drop(usage.take()))).err().map(Err),
                false => {
                    let borrowed = resource.as_mut();
                    let make = || usage.take().zip(borrowed).map(|(usage, borrowed)| usage(borrowed));
                    until_cancelled(&is_cancelled, pin!(None), make).await
                }
            });
            let make = || release.take().zip(resource.take()).map(|(release, resource)| release(resource));
            let released = until_ended(pin!(None), make).await;
            match (outcome.0.take(), released) {
                (Some(Err(panic)), released) => {
                    released.unwrap_or_else(|later| report_panic("the release of a bracket panicked as well", later));
                    resume_unwind(panic)
                }
                (outcome, Err(panic)) => {
                    drop_safely(Unheard(outcome));
                    resume_unwind(panic)
                }
                (Some(Ok(value)), Ok(())) => Some(value),
                (None, Ok(())) => None,
            }
        }));
        let mut bracket = Bracket { work, is_cancelled: &is_cancelled, owner: Owner::default(), node };
        poll_fn(|cx| bracket.poll(cx)).await
    }
}

/// A node whose work cleans up when it is told that it was cancelled.
struct Bracket<'a, F> {
    work: Pin<&'a mut Option<F>>,
    is_cancelled: &'a Cell<bool>,
    owner: Owner,
    node: Node,
}

impl<T, F: Future<Output = Option<T>>> Bracket<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let _around = unwind::draw_around(|| {
            drawing::Node::new(Kind::Bracket, "bracket").in_state(unwind::state()).made_where_known(self.node.place())
        });
        match self.node.duty(cx, may_begin) {
            Duty::Wait => {
                // The resource is there from the call on, and its release due, though the use may not begin yet.
                self.node.hold_if_reached(cx);
                Poll::Pending
            }
            Duty::Run => match self.owner.poll_slot(self.work.as_mut(), cx) {
                Poll::Ready(Some(Some(value))) => {
                    self.node.leave();
                    Poll::Ready(value)
                }
                Poll::Ready(_) => unreachable!("a bracket without a value was cancelled, and polls no more"),
                Poll::Pending => {
                    self.node.hold(cx, true);
                    Poll::Pending
                }
            },
            Duty::Unwind => {
                self.is_cancelled.set(true);
                let (label, place) = (self.node.label(), self.node.place());
                let Self { node, owner, work, .. } = self;
                node.clean_up(cx, |cx| {
                    owner.poll_slot(work.as_mut(), cx).map(|used| {
                        used.flatten().inspect(|value| report_lost(value, label, place));
                    })
                });
                Poll::Pending
            }
        }
    }
}

/// What a usage has ended with. Nobody is given it where the release is cut off or panics; then it is told of, if it is a failure.
struct Unheard<T>(Option<Result<T, Payload>>);

impl<T> Unheard<T> {
    #[cold]
    fn tell(outcome: Result<T, Payload>) {
        match outcome {
            Ok(value) => drop(Undelivered::new(value, report_cut_off)),
            Err(panic) => report_panic("a release was cut off, and what it was to clean up after had panicked", panic),
        }
    }
}

impl<T> Drop for Unheard<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            Self::tell(outcome);
        }
    }
}

/// Reports the value of a usage whose release was cut off or panicked if it is an `Err`.
fn report_cut_off<T>(value: &T) {
    report_err(value, |type_name| {
        format!(
            "a release was cut off or panicked, and what it was to clean up after had ended with an `Err` that nobody is given \
             ({type_name}); handle the error in the usage"
        )
    });
}

/// Reports the value of a usage that had ended when its bracket was cancelled if it is an `Err`.
fn report_lost<T>(value: &T, label: &str, place: Option<&Location<'_>>) {
    report_err(value, |type_name| {
        let made = place.map_or(String::new(), |place| format!(", made at {place},"));
        format!(
            "a `{label}`{made} was cancelled while it released, and what it was used for had ended with an `Err` that nobody is \
             given ({type_name}); handle the error in the usage"
        )
    });
}

/// Makes a future in its slot and runs it until it ends or `is_cancelled` is set; then it unwinds, and `None` comes back.
fn until_cancelled<F: Future>(
    is_cancelled: &Cell<bool>,
    mut slot: Pin<&mut Option<F>>,
    make: impl FnOnce() -> Option<F>,
) -> impl Future<Output = Option<Result<F::Output, Payload>>> {
    let (mut make, mut owner) = (Some(make), Owner::default());
    poll_fn(move |cx| {
        let polled = unwind::catch_in_slot(slot.as_mut(), |mut slot| {
            match make.take() {
                Some(make) => slot.set(make()),
                None if is_cancelled.get() => owner.cancel_slot(slot.as_mut()),
                None => {}
            }
            owner.poll_slot(slot, cx)
        });
        match polled {
            Ok(polled) => polled.map(|value| value.map(Ok)),
            Err(panic) => Poll::Ready(Some(Err(panic))),
        }
    })
}

/// Makes a future in its slot, runs it, and catches its panic.
fn until_ended<F: Future>(
    mut slot: Pin<&mut Option<F>>,
    make: impl FnOnce() -> Option<F>,
) -> impl Future<Output = Result<F::Output, Payload>> {
    let mut make = Some(make);
    poll_fn(move |cx| {
        let polled = unwind::catch_in_slot(slot.as_mut(), |mut slot| {
            if let Some(make) = make.take() {
                slot.set(make());
            }
            let Some(future) = slot.as_pin_mut() else { unreachable!("it is polled until it has ended") };
            future.poll(cx)
        });
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
}
