//! The names that expansions of the macros write. No part of the interface.
#![allow(missing_docs)]

pub use crate::combine::__private::{Either, Join, Racer, Racers, TryJoin, no_racer_left, race_all, racer};
/// Whether a terminal obeys a character, for the command `xiio-inspect`.
pub use crate::drawing::is_obeyed;
pub use crate::flow::{Bail, Branch, Fallible, Hint, branch, call, failed, stayed};
pub use crate::group::{GroupOptions, Guard, Leave, TaskGroup, TryGuard, TryTaskGroup, lend, report_exit};
pub use crate::group::{new_group as task_group, new_try_group as try_task_group};
pub use crate::local::{PackAtHome, Packer};
/// The page that shows a recording, for the same command.
pub use crate::recording::page as recording_page;
pub use crate::root::FromElapsed;
/// Writes to standard error and waits for room no longer than a second, for `xiio-axum`.
pub use crate::sys::stderr::say;
pub use crate::testing::Tester as TestRoot;
pub use xiio_macros::{race, task_group, try_task_group};
