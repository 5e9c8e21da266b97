//! A cleanup that runs outside of any unwinding, as its group has ended.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;

use super::scope::begun;
use crate::recording::{self, Cleanup};

/// Notes the end of such a cleanup.
struct Ending {
    label: &'static str,
    place: &'static Location<'static>,
    /// Unset while the cleanup is polled: one that panics comes to its end by that. A panic that drops it otherwise is another one's.
    is_cut_off: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = if self.is_cut_off { Cleanup::CutOff } else { Cleanup::Ended };
        recording::cleanup(self.label, Some(self.place), end);
    }
}

/// Runs such a cleanup, which was written at `place`. Recordings have it, and whoever wants to know how long cleanups take hears of it.
pub(crate) async fn as_cleanup(label: &'static str, place: &'static Location<'static>, cleanup: impl Future) {
    recording::cleanup(label, Some(place), Cleanup::Begun);
    let mut ending = Ending { label, place, is_cut_off: true };
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
