//! What the macros write.

mod group;
mod root;

pub(crate) use group::group;
pub(crate) use root::root;
