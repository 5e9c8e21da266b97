//! A future that cannot be cut off.

use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::drawing::{self, FileLine, Kind};
use crate::pin::Pinned;
use crate::report::report_late_err;
use crate::runtime::may_begin;
use crate::unwind::{self, Duty, Node, Owner, Whole};

/// Runs a future to its end, whatever happens to the task around it.
///
/// Once it has been polled, a cancellation of the task waits for it: the future and all that it started run on as usual,
/// and the code after it does not run. Its value goes to `on_late` of the [`Shield`]; without that it is dropped, and an `Err` is a
/// [report](crate::inspect::ReportKind::ErrorUnheard). The exception is an `Err` of a shield that is the whole of a task in a
/// [`TryTaskGroup`](crate::TryTaskGroup), at home or on a worker, and not in a box: that is a failure of the group.
///
/// # Cancellation
/// Before its first poll the future is dropped like any other. After that only the `grace` of a group cuts it off, or
/// other code than xiio's that drops it. Either is reported.
///
/// # Examples
/// ```
/// use std::{cell::Cell, time::Duration};
/// use xiio::{shield, sleep, timeout};
///
/// let saved = Cell::new(false);
/// xiio::run(async {
///     let save = async {
///         shield(async { sleep(Duration::from_millis(20)).await; saved.set(true) }).await;
///         unreachable!("cancelled code does not run on");
///     };
///     let _: Result<(), _> = timeout(Duration::from_millis(1), save).await;
/// });
/// assert!(saved.get());
/// ```
#[doc(alias("uncancellable"))]
#[track_caller]
pub fn shield<F: IntoFuture>(future: F) -> Shield<F::IntoFuture> {
    let node = Node::of_cleanup("shield", Location::caller());
    Pinned::new(future.into_future(), Shielded { owner: Owner::default(), node, late: Drops })
}

/// The future of [`shield`](shield()).
pub type Shield<F, L = Drops> = Pinned<F, Shielded<L>>;

/// An owner that nobody cancels.
pub struct Shielded<L> {
    owner: Owner,
    node: Node,
    late: L,
}

/// What becomes of a value that comes after the cancellation.
pub trait OnLate<T> {
    /// Gives it back if it is not wanted.
    fn take_late(&mut self, value: T) -> Option<T>;
}

/// It is not wanted.
#[derive(Debug)]
pub struct Drops;

impl<T> OnLate<T> for Drops {
    fn take_late(&mut self, value: T) -> Option<T> {
        Some(value)
    }
}

/// It goes to a function.
#[derive(Debug)]
pub struct Calls<L>(Option<L>);

impl<T, L: FnOnce(T)> OnLate<T> for Calls<L> {
    fn take_late(&mut self, value: T) -> Option<T> {
        if let Some(late) = self.0.take() {
            late(value);
        }
        None
    }
}

impl<F: Future> Shield<F> {
    /// Calls `late` with the value of a future that has ended after its cancellation: the value cannot be given to code that does
    /// not run on.
    ///
    /// A future that ends before its cancellation gives its value as usual. A panic in `late` counts as a panic of
    /// the cleanup.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, time::Duration};
    /// use xiio::{shield, sleep, timeout};
    ///
    /// let failed = RefCell::new(None);
    /// let commit = async { sleep(Duration::from_millis(5)).await; Err::<(), _>("disk full") };
    /// let kept = shield(commit).on_late(|result| *failed.borrow_mut() = result.err());
    /// assert!(xiio::run(timeout(Duration::from_millis(1), kept)).is_err());
    /// assert_eq!(*failed.borrow(), Some("disk full"));
    /// ```
    pub fn on_late<L: FnOnce(F::Output)>(self, late: L) -> Shield<F, Calls<L>> {
        self.map_state(|Shielded { owner, node, .. }| Shielded { owner, node, late: Calls(Some(late)) })
    }
}

impl<F: Future, L: OnLate<F::Output>> Future for Shield<F, L> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let whole = Whole::of(&*self);
        let (slot, Shielded { owner, node, late }) = self.project();
        let _around = unwind::draw_around(|| {
            drawing::Node::new(Kind::Shield, "shield").in_state(unwind::state()).made_where_known(node.place())
        });
        match node.duty(cx, may_begin) {
            Duty::Wait => Poll::Pending,
            Duty::Run => match owner.poll_slot(slot, cx) {
                Poll::Ready(Some(value)) => {
                    node.leave();
                    Poll::Ready(value)
                }
                Poll::Ready(None) => panic!("`shield` was polled after it had ended"),
                Poll::Pending => {
                    node.hold(cx, true);
                    Poll::Pending
                }
            },
            Duty::Unwind => {
                let (label, place) = (node.label(), node.place());
                let mut unwanted = None;
                node.clean_up_slot(slot, cx, |slot, cx| {
                    owner.poll_slot(slot, cx).map(|value| {
                        let Some(value) = value.and_then(|value| late.take_late(value)) else { return };
                        if whole.gives_late() {
                            unwanted = Some(value);
                        } else {
                            report_late_err(&value, || describe(label, place));
                        }
                    })
                });
                unwanted.map_or(Poll::Pending, Poll::Ready)
            }
        }
    }
}

fn describe(label: &str, place: Option<&Location<'_>>) -> String {
    let made = place.map_or(String::new(), |place| format!(", made at {},", FileLine(place)));
    format!("a `{label}`{made}")
}
