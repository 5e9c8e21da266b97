//! A cleanup that runs outside of any unwinding, as its group has ended.

use std::panic::Location;

use super::scope::begun;
use crate::recording;

/// Runs such a cleanup, which was written at `place`. Recordings have it, and whoever wants to know how long cleanups take hears of it.
pub(crate) async fn as_cleanup(label: &'static str, place: &'static Location<'static>, cleanup: impl Future) {
    struct Ending(&'static str, &'static Location<'static>);
    impl Drop for Ending {
        fn drop(&mut self) {
            recording::cleanup(self.0, Some(self.1), true);
        }
    }
    recording::cleanup(label, Some(place), false);
    let _ending = Ending(label, place);
    let _heard = begun();
    cleanup.await;
}
