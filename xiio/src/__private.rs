//! The names that expansions of the macros write. No part of the interface.
#![allow(missing_docs)]

pub use crate::combine::__private::{Either, Join, Racer, Racers, TryJoin, no_racer_left, race_all, racer};
pub use crate::flow::{Branch, Fallible, Hint, branch, failed};
pub use crate::group::{GroupOptions, Guard, Leave, TaskGroup, TryGuard, TryTaskGroup, lend};
pub use crate::local::{PackAtHome, Packer};
pub use crate::root::FromElapsed;
pub use crate::testing::Tester as TestRoot;
pub use xiio_macros::{race, task_group, try_task_group};

pub fn task_group<'env>(options: GroupOptions) -> TaskGroup<'env> {
    crate::group::new_group(options)
}

pub fn try_task_group<'env, E>(options: GroupOptions) -> TryTaskGroup<'env, E> {
    crate::group::new_try_group(options)
}

/// The page that shows a recording, for the command `xiio-inspect`.
pub fn recording_page(trace: &str) -> String {
    crate::recording::page(trace)
}

/// Whether a terminal obeys a character, for the same command.
pub fn is_obeyed(c: char) -> bool {
    crate::drawing::is_obeyed(c)
}

pub fn guard<'a>(tg: &'a TaskGroup<'a>) -> Guard<'a> {
    Guard::new(tg)
}

pub fn try_guard<'a, E>(tg: &'a TryTaskGroup<'a, E>) -> TryGuard<'a, E> {
    TryGuard::new(tg)
}
