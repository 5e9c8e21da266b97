//! Workers: threads that run tasks of a group which still borrow.
//!
//! Home is the thread that the group is on. It *lends* while it is inside the poll of the group: it opens the permits, and
//! closes them and waits until the workers are out before the poll returns. So a worker touches what the tasks borrow only
//! while the group is polled, or ended, and that is the argument for borrowing (see `docs/unsafe.md`). A group that is
//! leaked is polled no more, and its workers never enter again.
//!
//! The permit of one worker:
//!
//! ```text
//!                      1 grant                     2 enter
//!        closed ─────────────────▶ open ──────────────────────▶ open, inside
//!          │  ▲ ▲                  │  ▲                          │        │ 4 recall
//!  5 enter │  │ └──── 4 recall ────┘  └──────── 3 leave ─────────┘        ▼
//!   (nudge)▼  │ 3 leave                                         closed, inside
//!     closed, wanted                                             │  ▲  │ 6 wait
//!          │ 1 grant (wakes the worker)       3 leave            │  │  ▼
//!          └────────▶ open                closed ◀───────────────┘ awaited (home parks)
//!
//!  1 `Permit::grant`    by home, in the poll of the group      4 `Permit::recall`  by home, before the poll returns;
//!  2 `Permit::enter`    by the worker, for each poll of its      nudges a worker that lingers
//!                       root; every poll, start and drop of    5 `Permit::enter`   refused: asks once, by a nudge
//!                       a task lies between 2 and 3            6 `Permit::wait_until_left`; 3 unparks home
//!  3 `Permit::leave`    by the worker (`Pass` is dropped)
//! ```
//!
//! A worker that home has waited for in vain is kept out once it has left: 1 passes it over until home has been outside, or somebody may block for it.
//!
//! Orders and jobs stand on the [`Board`](board::Board), under one lock; news of the tasks has a lock of its own. Who wakes whom:
//!
//! | from | to | by |
//! |---|---|---|
//! | a worker that was refused | home's loop | `Home::nudge`, once: a bit and the notifier, never a waker, which would end the poll of whoever lends |
//! | home, which grants | a worker that has asked | its root |
//! | whoever adds a job | the worker that is called | its root |
//! | a worker (a failure, a report, the last job) | the group | its [`Bridge`] |
//! | home, for which the tree is to be drawn | the workers, to draw their tasks | their roots |
//! | the last worker that has drawn | home's loop, which draws the rest | `Home::nudge` |
//! | home, which recalls | a worker that sleeps inside, as it lends itself | `Home::nudge` |
//! | a worker that has left, or ended | home, which waits for it | `unpark` |
//!
//! A worker runs on one thread, which serves another one afterwards: see [`threads`].
//!
//! Where there are no workers (`workers = 0`, a test with virtual time, a foreign loop) there are no permits either, and jobs
//! become tasks at home.
#![allow(unsafe_code)]

mod board;
mod bridge;
mod errand;
#[cfg(all(test, loom))]
mod models;
mod permit;
mod places;
mod team;
pub(crate) mod threads;
mod vigil;
mod worker;

pub(crate) use board::Undrawn;
pub(crate) use bridge::Inside;
pub(crate) use errand::{Ends, Errand, Job, Notes, Notice};
pub(crate) use places::{Part, Places};
pub(crate) use team::{Failure, HandIn, News, Team, Window};
pub(crate) use worker::{Worker, current_permit, is_recalled, is_refused};

/// The team of a group of tasks.
pub(crate) type Crew = Team<Errand>;
