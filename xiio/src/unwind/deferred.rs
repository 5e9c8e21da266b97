//! A cleanup that runs outside of any unwinding, as its group has ended.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;

use super::scope::begun;
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

/// Runs such a cleanup, which was written at `place`. Recordings have it with the group of that key, and whoever wants to know how long cleanups take
/// hears of it.
pub(crate) async fn as_cleanup(
    label: &'static str,
    group: Option<usize>,
    place: &'static Location<'static>,
    cleanup: impl Future,
) {
    let number = recording::cleanup_began(group, label, Some(place));
    let mut ending = Ending { label, place, number, is_cut_off: true };
    let _heard = begun();
    let mut cleanup = pin!(cleanup);
    poll_fn(|cx| {
        ending.is_cut_off = false;
        let polled = cleanup.as_mut().poll(cx);
        ending.is_cut_off = polled.is_pending();
        polled
    })
    .await;
}
