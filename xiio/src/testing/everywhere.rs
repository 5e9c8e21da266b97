//! One run for each await, cancelled there.

use std::cell::RefCell;
use std::fmt::Write;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::resources::Resources;
use super::{Tester, left};
use crate::drawing::Drawing;
use crate::error::panic_text;
use crate::inspect::{self, ReportKind};
use crate::recording::{self, Recorder};
use crate::runtime::{Config, Leftover};
use crate::task::polls;
use crate::unwind::Owner;

/// Runs `body` once to its end, and then once for each await it reaches, cancelling it there.
///
/// Tasks are polled one at a time, so that each await of each task of the tree is a point of its own. Time is virtual.
/// After each run all cleanup must have run, and no timer or watched descriptor may be left. Where no other test runs
/// beside it, no open file and no child process may be left either, see [`Resources`].
///
/// Gives the number of awaits at which the body was cancelled.
///
/// # Panics
/// When a run panics or leaves something behind; the text shows the await that broke it, with the tree of tasks at that
/// point. The recording of that run is left as a page, see [`Tester`](super::Tester).
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use xiio::{bracket, sleep, testing::cancel_everywhere};
///
/// let open = Cell::new(0);
/// let n_awaits = cancel_everywhere(|| async {
///     let second = std::time::Duration::from_secs(1);
///     open.set(open.get() + 1);
///     bracket((), async |()| sleep(second).await, async |()| {
///         sleep(second).await;
///         open.set(open.get() - 1);
///     }).await;
/// });
/// assert_eq!(n_awaits, 3);
/// ```
pub fn cancel_everywhere<F: Future>(body: impl Fn() -> F) -> usize {
    cancel_everywhere_and(body, || ())
}

/// [`cancel_everywhere`] with a check of your own after each run: that everything opened is closed again,
/// say.
///
/// # Panics
/// As [`cancel_everywhere`], and when `check` panics.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use xiio::{bracket, yield_now, testing::cancel_everywhere_and};
///
/// let open = Cell::new(0);
/// let transaction = || async {
///     open.set(open.get() + 1);
///     bracket((), async |()| yield_now().await, async |()| open.set(open.get() - 1)).await;
/// };
/// // No await stands between the opening and the first poll of the bracket, so there is no point at which it stays open.
/// cancel_everywhere_and(transaction, || assert_eq!(open.get(), 0));
/// ```
pub fn cancel_everywhere_and<F: Future>(body: impl Fn() -> F, mut check: impl FnMut()) -> usize {
    cancel_at_each_await(&Tester::new(), &body, &mut check)
}

pub(super) fn cancel_at_each_await<F: Future>(
    tester: &Tester,
    body: &impl Fn() -> F,
    check: &mut dyn FnMut(),
) -> usize {
    let config = Config { is_single_step: true, has_virtual_time: true, ..tester.config.clone() };
    let tester = Tester { config, options: tester.options.clone(), seeds: None, ..*tester };
    let mut at_await = 0;
    loop {
        match judge(&tester, body, check, at_await) {
            Ok(Reached::End) => return at_await,
            Ok(Reached::Await) => at_await += 1,
            Err((fault, recorder)) => {
                let fault = format!("cancelled at await {at_await}: {fault}\n{}", draw_at(&tester, body, at_await));
                tester.leave(&recorder, body, &fault);
                panic!("{fault}");
            }
        }
    }
}

/// How far a run came that was to be cancelled.
enum Reached {
    /// It was cancelled.
    Await,
    /// It had ended before.
    End,
}

/// Runs once, cancelled at an await, and says what is wrong afterwards.
fn judge<F: Future>(
    tester: &Tester,
    body: &impl Fn() -> F,
    check: &mut dyn FnMut(),
    at_await: usize,
) -> Result<Reached, (String, Arc<Recorder>)> {
    let (reached, recorder) = left::recorded(|| judge_run(tester, body, check, at_await));
    reached.map_err(|fault| (fault, recorder))
}

fn judge_run<F: Future>(
    tester: &Tester,
    body: &impl Fn() -> F,
    check: &mut dyn FnMut(),
    at_await: usize,
) -> Result<Reached, String> {
    let before = Resources::now();
    let faults = Rc::new(RefCell::new((String::new(), String::new())));
    let sink = Rc::clone(&faults);
    let listening = inspect::listen(move |report| {
        let (faults, unheard) = &mut *sink.borrow_mut();
        // What takes long, or much, is no fault of the cancellation.
        use ReportKind::{ErrorUnheard, ManyTasks, NoThread, SlowCleanup, SlowPoll, StillStopping, VainPolls};
        match report.kind() {
            StillStopping | SlowPoll | SlowCleanup | VainPolls | ManyTasks | NoThread => {}
            ErrorUnheard => drop(writeln!(unheard, "{report}")),
            _ => drop(writeln!(faults, "{report}")),
        }
    });
    let run = || {
        let ran = tester.block_on(cancel_at(body(), at_await, None));
        check();
        ran
    };
    let ran = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_text(&*panic).to_string());
    drop(listening);
    let (reached, leftover) = ran?;
    if leftover != Leftover::default() {
        return Err(format!("left behind: {leftover:?}"));
    }
    before.check_unchanged()?;
    let (mut faults, unheard) = faults.take();
    if matches!(reached, Reached::End) {
        // Where it was cancelled, so was who is to be given a value.
        faults += &unheard;
    }
    if faults.is_empty() { Ok(reached) } else { Err(faults) }
}

/// The tree of tasks at an await.
fn draw_at<F: Future>(tester: &Tester, body: &impl Fn() -> F, at_await: usize) -> Drawing {
    let drawing = RefCell::new(Drawing::default());
    // The run has failed before and may do so again; only the drawing is wanted.
    let _listening = inspect::listen(|_| ());
    let _ = catch_unwind(AssertUnwindSafe(|| tester.block_on(cancel_at(body(), at_await, Some(&drawing)))));
    drawing.into_inner()
}

/// Runs a future and cancels it when it has been pending so many times.
async fn cancel_at<F: Future>(future: F, at_await: usize, drawing: Option<&RefCell<Drawing>>) -> Reached {
    let mut slot = pin!(Some(future));
    let mut owner = Owner::default();
    let mut n_awaits = 0;
    let mut is_cancelled = false;
    poll_fn(|cx| {
        loop {
            if n_awaits == at_await && !is_cancelled {
                is_cancelled = true;
                recording::cancelled(None, recording::Why::Test, None);
                if let Some(drawing) = drawing {
                    *drawing.borrow_mut() = polls::inspect(|| drop(owner.poll_slot(slot.as_mut(), cx)));
                }
                owner.cancel_slot(slot.as_mut());
            }
            let polled = owner.poll_slot(slot.as_mut(), cx);
            n_awaits += 1;
            match polled {
                Poll::Ready(_) => return Poll::Ready(if is_cancelled { Reached::Await } else { Reached::End }),
                Poll::Pending if is_cancelled || n_awaits != at_await => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    })
    .await
}
