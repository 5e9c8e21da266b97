//! A cleanup that runs outside of any unwinding, as its group has ended.

use std::any::Any;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::scope::begun;
use crate::pin::Pinned;
use crate::recording;

/// Notes the end of such a cleanup.
struct Ending {
    label: &'static str,
    place: &'static Location<'static>,
    /// Of the member whose it is, in recordings.
    number: u32,
    /// Unset while the cleanup is polled: one that panics comes to its end by that. A panic that drops it otherwise is another one's.
    is_cut_off: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        recording::cleanup_ended(self.number, self.label, Some(self.place), self.is_cut_off);
    }
}

/// What is told of such a cleanup, from its first poll on.
struct Told {
    /// What somebody keeps who wants to know how long cleanups take.
    _heard: Option<Box<dyn Any>>,
    ending: Ending,
}

/// A cleanup, and how to tell of it.
struct Deferred<B> {
    begin: B,
    told: Option<Told>,
}

/// Runs such a cleanup, which was written at `place`. Recordings have it with the group of that key, and whoever wants to know how long cleanups take
/// hears of it.
pub(crate) fn as_cleanup(
    label: &'static str,
    group: Option<usize>,
    place: &'static Location<'static>,
    cleanup: impl Future,
) -> impl Future<Output = ()> {
    let begin = move || {
        let number = recording::cleanup_began(group, label, Some(place));
        let ending = Ending { label, place, number, is_cut_off: true };
        Told { _heard: begun(), ending }
    };
    Pinned::new(cleanup, Deferred { begin, told: None })
}

impl<F: Future, B: Fn() -> Told> Future for Pinned<F, Deferred<B>> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (mut slot, Deferred { begin, told }) = self.project();
        let Some(cleanup) = slot.as_mut().as_pin_mut() else { unreachable!("it is polled until it has ended") };
        // Taken out while it is polled: a panic ends it at once.
        let mut now = told.take().unwrap_or_else(&*begin);
        now.ending.is_cut_off = false;
        if cleanup.poll(cx).is_pending() {
            now.ending.is_cut_off = true;
            *told = Some(now);
            return Poll::Pending;
        }
        slot.set(None);
        Poll::Ready(())
    }
}
