//! Children that were dropped while they ran: killed, and still to be reaped.
//!
//! Whoever drops one may be anywhere: outside of a runtime, in one that has just ended, in the executor of another library.
//! So nothing but a thread can be relied upon to come back later. It starts with the first orphan and ends with the last;
//! a killed child is gone in milliseconds.
//!
//! What does not work: a wait in the destructor, as the kernel may take its time; a list that the next call of this room
//! looks at, as there may be none.

use std::process::Child;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::sys::fork::{self, Process};
use crate::sys::{Call, call};

/// How long to wait for a child that has ended and cannot be reaped yet, at first and at the most.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(256);

static ORPHANS: Mutex<Orphans> = Mutex::new(Orphans { children: Vec::new(), has_reaper: false, of: None });

struct Orphans {
    children: Vec<Child>,
    /// There is a thread that reaps.
    has_reaper: bool,
    /// The process whose children and thread these are. One that was forked off it has neither, and their numbers may be those of its own
    /// children by then.
    of: Option<Process>,
}

fn orphans() -> MutexGuard<'static, Orphans> {
    static ARE_HELD: AtomicBool = AtomicBool::new(false);
    fork::lock(&ORPHANS, &ARE_HELD)
}

/// Reaps a child that was killed, now or later.
pub(super) fn reap(mut child: Child) {
    if has_ended(&mut child) {
        return;
    }
    let (mut orphans, process) = (orphans(), Process::this());
    if orphans.of != Some(process) {
        *orphans = Orphans { children: Vec::new(), has_reaper: false, of: Some(process) };
    }
    orphans.children.push(child);
    if !orphans.has_reaper {
        // If there can be no thread now, the next orphan tries again.
        let start = || thread::Builder::new().name("xiio-reaper".into()).spawn(reap_all);
        orphans.has_reaper = call(Call::Make, start).is_ok();
    }
}

/// Whether a child is no concern any more: it was reaped now, or by somebody else.
fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

/// Asks all of them again and again: one that the kernel does not end must not keep the others.
fn reap_all() {
    let mut pause = FIRST_PAUSE;
    loop {
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        let mut orphans = orphans();
        let n_before = orphans.children.len();
        orphans.children.retain_mut(|child| !has_ended(child));
        if orphans.children.is_empty() {
            orphans.has_reaper = false;
            return;
        }
        if orphans.children.len() < n_before {
            pause = FIRST_PAUSE;
        }
    }
}
