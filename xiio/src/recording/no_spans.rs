//! What stands for spans where the feature `tracing` is off: nothing.

use super::{Place, Why};
use crate::drawing::Node;

pub(super) enum On {}

pub(super) fn begin() -> Option<On> {
    None
}

pub(super) fn is_on() -> bool {
    false
}

pub(super) fn spawned(_: usize) {}

pub(super) fn poll_began(_: u32, _: usize, _: impl FnOnce() -> Node) {}

pub(super) fn poll_ended(_: u32) {}

pub(super) fn woken(_: usize) {}

pub(super) fn cancelled(_: Option<usize>, _: Why, _: Place) {}

pub(super) fn ended(_: usize) {}
