//! The workers of a group, as home sees them: it has threads serve them, hears of their failures, and ends them.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::cores::{Crew, Errand, News, Notes, Undrawn, Worker, threads};
use crate::drawing::{Drawing, Kind, Node};
use crate::error::Payload;
use crate::foreign::Surroundings;
use crate::recording::{self, OtherLane};
use crate::report::{self, Listener, Origin, add_listener, deliver, remove_listener};
use crate::runtime::{Config, Leftover, Runtime, block_on};
use crate::task::TaskSet;
use crate::task::limits::{self, Limits};
use crate::unwind::{self, Dropper};

/// No group has more workers: each has a permit from the start, and no machine runs so many threads at once.
const MAX_WORKERS: usize = 1 << 16;

/// The workers of a group. Everything here is called by the poll of the group or by its end, which is what makes it sound.
pub(super) struct Workforce {
    crew: Arc<Crew>,
    /// Of the tasks that run at home, where there are no workers.
    notes: Rc<Notes>,
    /// What is reported at home is reported on the workers, too.
    limits: Limits,
    /// What the threads have been given to do.
    posts: RefCell<Vec<threads::Number>>,
}

impl Workforce {
    /// Threads are taken when there are jobs for them.
    pub(super) fn new(n_workers: usize, limit: Option<usize>, grace: Option<Duration>) -> Self {
        let allows_workers = Runtime::try_with(Runtime::allows_workers).unwrap_or(true);
        let n_workers = if allows_workers { n_workers.min(MAX_WORKERS) } else { 0 };
        let crew = Arc::new(Crew::new(n_workers, limit.unwrap_or(usize::MAX), grace));
        let notes = Rc::new(Notes::of_home(Arc::clone(&crew)));
        Self { crew, notes, limits: limits::current(), posts: RefCell::default() }
    }

    pub(super) fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Begins jobs at home, or has threads serve as the workers for whom there are some; `true` if jobs have become tasks at home.
    pub(super) fn start_jobs(&self, set: &TaskSet<'_>) -> bool {
        if self.crew.is_at_home() {
            return self.start_at_home(set);
        }
        self.crew.start_workers().for_each(|worker| self.start(worker, set));
        false
    }

    /// Has a thread serve as a worker. If the system gives no thread, the group fails.
    fn start(&self, worker: usize, set: &TaskSet<'_>) {
        let (crew, limits, surroundings) = (Arc::clone(&self.crew), self.limits, Surroundings::here());
        let root = Node::new(Kind::Worker, format!("worker {worker}"));
        let lane = set.key().and_then(|group| recording::other_lane(group, &root));
        let post = threads::serve(Box::new(move |start| match start {
            Ok(post) => {
                let _entered = surroundings.enter();
                work(&crew, worker, limits, lane, post)
            }
            Err(error) => {
                lane.into_iter().for_each(OtherLane::end);
                refuse(&crew, worker, &error)
            }
        }));
        self.posts.borrow_mut().push(post);
    }

    fn start_at_home(&self, set: &TaskSet<'_>) -> bool {
        self.settle_at_home();
        let (mut errands, mut have_begun) = (Vec::new(), false);
        loop {
            let _ = self.crew.take(0, &mut errands);
            if errands.is_empty() {
                return have_begun;
            }
            have_begun = true;
            for errand in errands.drain(..) {
                // SAFETY: this is the poll of the errand's group, and the set is the group's own.
                unsafe { errand.start(set, &self.notes) };
            }
        }
    }

    /// Whether a task that has failed at home was spawned for a worker, and its error is with those of the workers.
    pub(super) fn takes_failure(&self) -> bool {
        self.notes.has_failed.take()
    }

    /// The jobs that were cancelled before they began.
    pub(super) fn take_doomed(&self) -> Vec<Errand> {
        self.crew.take_doomed(Errand::is_cancelled)
    }

    /// Drops such jobs. A panic of a destructor is a failure, as that of a task is; `fail` has it noted.
    pub(super) fn discard(&self, doomed: Vec<Errand>, fail: impl Fn(Payload, Origin)) {
        for errand in doomed {
            let origin = Origin::at(errand.location());
            // SAFETY: this is the poll or the end of the errand's group.
            let discarded = catch_unwind(AssertUnwindSafe(|| unsafe { errand.discard() }));
            if let Err(payload) = discarded {
                fail(payload, origin);
            }
        }
    }

    /// Drops the jobs that were cancelled before they began, when the group does not go on.
    fn discard_last(&self) {
        self.discard(self.take_doomed(), |payload, origin| self.crew.tell_panic(payload, Some(origin)));
    }

    /// Describes the workers, in the drawing that is being made.
    pub(super) fn draw(&self) {
        unwind::inspecting(|tree| tree.workers(self.key(), |are_asked| self.describe(are_asked)));
    }

    /// What tells these workers from all others.
    fn key(&self) -> usize {
        Arc::as_ptr(&self.crew).addr()
    }

    /// What the workers have drawn if they were asked to, or else what home knows of them.
    fn describe(&self, are_asked: bool) -> Drawing {
        let mut workers = Drawing::default();
        let drawn = if are_asked { self.crew.take_drawings() } else { self.crew.look_at_workers().map(Err).collect() };
        for (worker, drawn) in drawn.into_iter().enumerate() {
            match drawn {
                Ok(drawing) => workers.append(drawing),
                Err(Undrawn { n_tasks: 0, .. }) => {}
                Err(Undrawn { n_tasks, is_in_poll }) => {
                    let why = if is_in_poll { "which was in a poll, " } else { "" };
                    workers.leaf(Node::new(Kind::Worker, format!("worker {worker}, {why}{n_tasks} task(s)")));
                }
            }
        }
        workers
    }

    /// Has the workers drop what they have in the name of `dropper`, and waits for that. A grace hears of what that was.
    pub(super) fn abandon(&self, dropper: Dropper) {
        // SAFETY: this is the poll or the end of the group.
        unsafe { self.crew.abort(dropper) };
        if dropper == Dropper::Grace {
            let mut dropped = Drawing::default();
            self.crew.take_drawings().into_iter().flatten().for_each(|drawing| dropped.append(drawing));
            unwind::note_cut_off(self.key(), dropped);
        }
        self.settle_at_home();
        self.discard_last();
    }

    /// What has ended at home is gone: none of these tasks is being polled.
    fn settle_at_home(&self) {
        if self.crew.is_at_home() {
            self.crew.settle(0, self.notes.n_ended.take(), true);
        }
    }

    /// Ends the workers; what is left of their tasks is dropped first. Gives the news that nobody has heard of.
    pub(super) fn close(&self) -> News {
        if self.crew.has_open() && !self.crew.is_at_home() {
            self.abandon(unwind::dropper());
        } else {
            self.crew.close();
            self.discard_last();
        }
        // A handle may keep the crew.
        self.crew.bridge().forget_outer();
        // They have nothing left to do.
        threads::expect(&self.posts.take());
        heard(self.crew.take_last_news())
    }

    /// What has happened on the workers.
    pub(super) fn take_news(&self) -> News {
        heard(self.crew.take_news())
    }
}

/// News of which home has heard the reports.
fn heard(mut news: News) -> News {
    std::mem::take(&mut news.reports).iter().for_each(deliver);
    news
}

/// There is no thread for a worker.
fn refuse(crew: &Crew, worker: usize, error: &io::Error) -> bool {
    let text = format!("cannot start the thread of a worker: {error}; let the group have fewer `workers`");
    // Panics here, so that the panic hook hears of it: to throw a payload on does not call the
    // hook.
    let Err(panic) = catch_unwind(|| -> Infallible { panic!("{text}") });
    crew.tell_panic(panic, None);
    crew.leave(worker);
    false
}

/// Serves as a worker, on its thread; `true` if nothing of it is left there.
fn work(crew: &Arc<Crew>, worker: usize, limits: Limits, lane: Option<OtherLane>, post: threads::Number) -> bool {
    let recording = lane.map(OtherLane::begin);
    let to_home = Arc::clone(crew);
    let listener: Listener = Rc::new(move |report| {
        if !to_home.tell_report(report) {
            report::print_unheard(report);
        }
    });
    add_listener(Rc::clone(&listener));
    let config = Config { limits, ..Config::default() };
    let root = async {
        Worker::new(Arc::clone(crew), worker, draw).await;
        if Runtime::with(Runtime::leftover) == Leftover::default() {
            Runtime::with(|runtime| runtime.reactor().keep());
        } else {
            // Wakers of others, which the end of the runtime wakes and drops.
            threads::give_up(post);
        }
    };
    let run = || block_on(&config, root);
    let failure = catch_unwind(AssertUnwindSafe(run)).err();
    remove_listener(&listener);
    drop(recording);
    let is_fit = failure.is_none();
    if let Some(payload) = failure {
        crew.tell_panic(payload, None);
    }
    crew.leave(worker);
    is_fit
}

/// Has the tree of this worker drawn, groups with workers of their own included, and put on the board.
fn draw(crew: &Arc<Crew>, worker: usize) {
    let crew = Arc::clone(crew);
    Runtime::with(|runtime| runtime.request_drawing(Box::new(move |drawing| crew.put_drawing(worker, drawing))));
}
