//! A cleanup that runs outside of any unwinding, as its group has ended.

use std::panic::Location;
use std::thread;

use super::scope::begun;
use crate::recording::{self, Cleanup};

/// Notes the end of such a cleanup.
struct Ending {
    label: &'static str,
    place: &'static Location<'static>,
    is_cut_off: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // One that panics comes to its end by that.
        let is_cut_off = self.is_cut_off && !thread::panicking();
        recording::cleanup(self.label, Some(self.place), if is_cut_off { Cleanup::CutOff } else { Cleanup::Ended });
    }
}

/// Runs such a cleanup, which was written at `place`. Recordings have it, and whoever wants to know how long cleanups take hears of it.
pub(crate) async fn as_cleanup(label: &'static str, place: &'static Location<'static>, cleanup: impl Future) {
    recording::cleanup(label, Some(place), Cleanup::Begun);
    let mut ending = Ending { label, place, is_cut_off: true };
    let _heard = begun();
    cleanup.await;
    ending.is_cut_off = false;
}
