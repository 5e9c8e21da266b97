//! Threads for workers. One serves the worker of a group, then that of another, whichever groups of the process these are.
//!
//! ```text
//!            1            2               3               4
//!   (none) ─────▶ coming ───▶ at work ──────▶ expected ──────▶ idle ─────▶ (none) 6
//!                   ▲            ▲               │              │
//!                   │            └────── 4 ──────┘              │ 5
//!                   └───────────────────────────────────────────┘
//!
//!  1 `serve` starts it, as nobody else is there     4 its post is over: there is another one / there is none
//!  2 it takes the post that has waited longest      5 `serve` calls it
//!  3 `expect`: the group has ended, so its          6 idle for long; or, from anywhere, what it ran has failed
//!    workers are about to
//! ```
//!
//! Posts wait only while as many threads are coming or expected. None of these waits for a post itself: a worker whose
//! group has ended ends whatever others do. That of a leaked group is never expected, and keeps its thread. Nor is one that
//! has to drop what a task has left behind, as that may do anything.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::ops::DerefMut;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::reactor::Reactor;
use crate::sync::{Builder, StaticMutex, Thread, current, lock_static, park};
use crate::sys;
use crate::sys::fork::{self, Process};

/// How long an idle thread stays.
const KEEP: Duration = Duration::from_secs(10);
/// How long an idle thread keeps its reactor: groups in a loop follow at once.
const KEEP_REACTOR: Duration = Duration::from_millis(100);

/// Runs a worker, and says whether its thread may serve another one. Where no thread could be started it gets the error.
pub(crate) type Work = Box<dyn FnOnce(io::Result<Number>) -> bool + Send>;

static THREADS: StaticMutex<Threads<Work, Thread>> = StaticMutex::new(Threads::new());

fn threads() -> impl DerefMut<Target = Threads<Work, Thread>> {
    lock_static(&THREADS)
}

/// Has `work` done on a thread that is free, or about to be, or else on a new one.
pub(crate) fn serve(work: Work) -> Number {
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    fork::hold(&IS_HELD, || Box::new(threads()));
    let mut all = threads();
    all.be_in(Process::this());
    let (number, help) = all.add(work);
    drop(all);
    match help {
        Help::Nobody => {}
        Help::Wake(thread) => thread.unpark(),
        Help::Start => start(),
    }
    number
}

/// The group of these posts has ended: their threads are about to be free.
pub(crate) fn expect(posts: &[Number]) {
    let mut threads = threads();
    posts.iter().for_each(|post| threads.expect(*post));
}

/// Nobody is to wait for the end of this post.
pub(crate) fn give_up(post: Number) {
    let needs_another = threads().give_up(post);
    if needs_another {
        start();
    }
}

fn start() {
    if let Err(error) = sys::call(sys::Call::Make, || Builder::new().name("xiio-worker".into()).spawn(run)) {
        let refused = threads().refuse_start();
        if let Some(work) = refused {
            work(Err(error));
        }
    }
}

/// The life of a thread.
fn run() {
    let me = current();
    let mut next = threads().come(&me);
    loop {
        let Post { number, job } = match next {
            Next::Work(post) => post,
            Next::Rest(seat) if is_called(seat) => {
                next = threads().come(&me);
                continue;
            }
            Next::Rest(_) => return,
        };
        let failing = Failing(number);
        if !job(Ok(number)) {
            return;
        }
        mem::forget(failing);
        next = threads().end(number, &me);
    }
}

/// Waits until the thread on this seat is called; `false` if that takes too long.
fn is_called(seat: Number) -> bool {
    if is_called_within(KEEP_REACTOR, seat) {
        return true;
    }
    Reactor::drop_kept();
    is_called_within(KEEP, seat) || !threads().get_up(seat)
}

/// Workers that leave unpark the thread that has lent to them, which may be here by then. So only the clock ends the wait.
fn is_called_within(limit: Duration, seat: Number) -> bool {
    let end = sys::now() + limit;
    while threads().is_idle(seat) {
        if park(end.saturating_duration_since(sys::now())) {
            return false;
        }
    }
    true
}

/// A post whose thread ends with it, when this is dropped.
struct Failing(Number);

impl Drop for Failing {
    fn drop(&mut self) {
        give_up(self.0);
    }
}

/// Names a post, or the seat of an idle thread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Number(u64);

/// A worker that is to be run, or runs.
#[derive(PartialEq, Eq, Debug)]
struct Post<J> {
    number: Number,
    job: J,
}

/// Whom to call. To be done when nothing is locked.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
enum Help<W> {
    Nobody,
    Wake(W),
    Start,
}

/// What a thread does next.
#[derive(PartialEq, Eq, Debug)]
enum Next<J> {
    Work(Post<J>),
    /// Wait until it is called from this seat, or get up.
    Rest(Number),
}

/// Who serves which post. Pure: it is told what happens and says what to do. `J` is what a post is about, `W` a way to wake a
/// thread.
///
/// # Invariants
/// - At most `n_coming` posts wait.
/// - `n_coming` counts the threads that were started or called and have not come, and the posts that are expected to be over.
struct Threads<J, W> {
    waiting: VecDeque<Post<J>>,
    n_coming: usize,
    /// The posts that are not over or given up, and whether they are expected to be over.
    posts: BTreeMap<Number, bool>,
    /// The one that was idle last is called first.
    idle: Vec<(Number, W)>,
    n_numbers: u64,
    /// Whose threads they are.
    process: Option<Process>,
}

impl<J, W: Clone> Threads<J, W> {
    const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            n_coming: 0,
            posts: BTreeMap::new(),
            idle: Vec::new(),
            n_numbers: 0,
            process: None,
        }
    }

    /// Forgets the threads of another process: this one was forked off it, and has none of them. What they were to do is left to
    /// leak, as it belongs to groups over there.
    fn be_in(&mut self, process: Process) {
        if self.process != Some(process) {
            let here = Self { n_numbers: self.n_numbers, process: Some(process), ..Self::new() };
            mem::forget(mem::replace(self, here));
        }
    }

    fn next_number(&mut self) -> Number {
        self.n_numbers += 1;
        Number(self.n_numbers)
    }

    fn add(&mut self, job: J) -> (Number, Help<W>) {
        let number = self.next_number();
        self.posts.insert(number, false);
        self.waiting.push_back(Post { number, job });
        if !self.lacks_threads() {
            return (number, Help::Nobody);
        }
        self.n_coming += 1;
        let idle = self.idle.pop();
        (number, idle.map_or(Help::Start, |(_, wake)| Help::Wake(wake)))
    }

    fn lacks_threads(&self) -> bool {
        self.waiting.len() > self.n_coming
    }

    /// A post is about to be over, if it is not.
    fn expect(&mut self, number: Number) {
        if let Some(is_expected) = self.posts.get_mut(&number) {
            self.n_coming += usize::from(!mem::replace(is_expected, true));
        }
    }

    /// A thread comes that was started or called.
    fn come(&mut self, wake: &W) -> Next<J> {
        self.n_coming -= 1;
        self.next(wake)
    }

    /// A post is over, and its thread looks for the next.
    fn end(&mut self, number: Number, wake: &W) -> Next<J> {
        self.forget(number);
        self.next(wake)
    }

    fn forget(&mut self, number: Number) {
        let was_expected = self.posts.remove(&number).unwrap_or(false);
        self.n_coming -= usize::from(was_expected);
    }

    fn next(&mut self, wake: &W) -> Next<J> {
        if let Some(post) = self.waiting.pop_front() {
            return Next::Work(post);
        }
        let seat = self.next_number();
        self.idle.push((seat, wake.clone()));
        Next::Rest(seat)
    }

    /// The thread of a post is not to be counted on any more; `true` if another one is to be started in its place.
    #[must_use]
    fn give_up(&mut self, number: Number) -> bool {
        self.forget(number);
        let lacks_one = self.lacks_threads();
        self.n_coming += usize::from(lacks_one);
        lacks_one
    }

    /// The thread that was to be started could not be. Gives the job that no thread is left for.
    fn refuse_start(&mut self) -> Option<J> {
        self.n_coming -= 1;
        let post = if self.lacks_threads() { self.waiting.pop_back() } else { None }?;
        self.forget(post.number);
        Some(post.job)
    }

    fn is_idle(&self, seat: Number) -> bool {
        self.idle.iter().any(|idle| idle.0 == seat)
    }

    /// An idle thread ends; `false` if it was called.
    #[must_use]
    fn get_up(&mut self, seat: Number) -> bool {
        let place = self.idle.iter().position(|idle| idle.0 == seat);
        place.map(|place| self.idle.remove(place)).is_some()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    type Names = Threads<&'static str, u32>;

    /// Adds a post that a thread must be started for, which is there at once.
    fn begin(threads: &mut Names, job: &'static str, thread: u32) -> Number {
        let (number, help) = threads.add(job);
        assert_eq!(help, Help::Start);
        assert_eq!(threads.come(&thread), Next::Work(Post { number, job }));
        number
    }

    #[test]
    fn a_thread_that_is_idle_is_called_before_one_is_started() {
        let mut threads = Names::new();
        let first = begin(&mut threads, "first", 1);
        let Next::Rest(seat) = threads.end(first, &1) else { panic!("there is no other post") };
        let (number, help) = threads.add("second");
        assert_eq!(help, Help::Wake(1));
        assert!(!threads.is_idle(seat) && !threads.get_up(seat));
        assert_eq!(threads.come(&1), Next::Work(Post { number, job: "second" }));
        begin(&mut threads, "third", 2);
    }

    #[test]
    fn a_post_waits_for_a_thread_that_is_expected_and_for_no_other() {
        let mut threads = Names::new();
        let (first, _leaked) = (begin(&mut threads, "first", 1), begin(&mut threads, "leaked", 2));
        threads.expect(first);
        threads.expect(first);
        let (second, help) = threads.add("second");
        assert_eq!(help, Help::Nobody);
        let (third, help) = threads.add("third");
        assert_eq!(help, Help::Start, "only one is expected");
        assert_eq!(threads.end(first, &1), Next::Work(Post { number: second, job: "second" }));
        assert_eq!(threads.come(&3), Next::Work(Post { number: third, job: "third" }));
        threads.expect(first);
        assert_eq!(threads.add("fourth").1, Help::Start, "what is over is not expected");
    }

    #[test]
    fn a_post_whose_group_ends_before_it_has_begun_makes_room_for_the_next() {
        let mut threads = Names::new();
        let first = begin(&mut threads, "first", 1);
        threads.expect(first);
        let (second, _) = threads.add("second");
        threads.expect(second);
        let (third, help) = threads.add("third");
        assert_eq!(help, Help::Nobody);
        assert_eq!(threads.end(first, &1), Next::Work(Post { number: second, job: "second" }));
        assert_eq!(threads.end(second, &1), Next::Work(Post { number: third, job: "third" }));
    }

    #[test]
    fn a_thread_that_fails_is_replaced_if_a_post_waits_for_it() {
        let mut threads = Names::new();
        let (first, second) = (begin(&mut threads, "first", 1), begin(&mut threads, "second", 2));
        assert!(!threads.give_up(second));
        threads.expect(first);
        let (third, _) = threads.add("third");
        assert!(threads.give_up(first));
        assert_eq!(threads.come(&3), Next::Work(Post { number: third, job: "third" }));
    }

    #[test]
    fn a_post_that_is_given_up_is_not_waited_for_and_its_thread_comes_back() {
        let mut threads = Names::new();
        let (first, second) = (begin(&mut threads, "first", 1), begin(&mut threads, "second", 2));
        threads.expect(first);
        let (third, _) = threads.add("third");
        assert!(threads.give_up(first));
        assert_eq!(threads.come(&3), Next::Work(Post { number: third, job: "third" }));
        assert!(!threads.give_up(second));
        threads.expect(second);
        let (fourth, help) = threads.add("fourth");
        assert_eq!(help, Help::Start, "what is given up is not expected");
        assert_eq!(threads.end(second, &2), Next::Work(Post { number: fourth, job: "fourth" }));
        assert!(matches!(threads.come(&4), Next::Rest(_)));
        assert!(matches!(threads.end(first, &1), Next::Rest(_)));
    }

    #[test]
    fn only_what_nobody_comes_for_is_refused() {
        let mut threads = Names::new();
        let first = begin(&mut threads, "first", 1);
        assert_eq!(threads.add("second").1, Help::Start);
        assert_eq!(threads.refuse_start(), Some("second"));
        assert_eq!(threads.add("third").1, Help::Start);
        threads.expect(first);
        assert_eq!(threads.refuse_start(), None, "the first thread is about to come");
        let Next::Work(third) = threads.end(first, &1) else { panic!("the third waits") };
        assert_eq!(third.job, "third");
    }

    #[test]
    fn who_was_called_and_comes_too_late_rests_again() {
        let mut threads = Names::new();
        let first = begin(&mut threads, "first", 1);
        let second = begin(&mut threads, "second", 2);
        assert!(matches!(threads.end(first, &1), Next::Rest(_)));
        assert_eq!(threads.add("third").1, Help::Wake(1));
        assert!(matches!(threads.end(second, &2), Next::Work(_)));
        let Next::Rest(seat) = threads.come(&1) else { panic!("the other one was faster") };
        assert!(threads.is_idle(seat) && threads.get_up(seat));
        assert_eq!(threads.add("fourth").1, Help::Start);
    }
}
