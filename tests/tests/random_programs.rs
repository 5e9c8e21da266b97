//! Random programs, with combinators of others in them: `futures::join!`, `select!`, `FuturesUnordered`, `join_all`,
//! `buffer_unordered`, `Shared`, `Abortable` and tokio's `select!`; drawn at random, on virtual time with and without a seed,
//! inside of tokio and in a loop made by hand.
//!
//! All is checked from outside. Each cleanup runs once and in order, nothing runs on, nothing is left when its block has
//! ended, no report is false, and nobody polls while all wait.
//!
//! `XIIO_PROGRAMS` is the number of programs, `XIIO_FIRST` the first one; a failure names its program.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, join_all};
use futures::stream::{FuturesUnordered, StreamExt, iter};
use xiio::compat::{Embed, on_tokio};
use xiio::inspect::{ReportKind, listen};
use xiio::testing::Tester;
use xiio::{Promise, bracket, branch, gather, race, shield, sleep, task_group, timeout, yield_now};
use xiio_tests::millis;
use xiio_tests::random::{Draw, draw_tree, number};

/// So many in a build without optimization.
const FEW: u64 = 2_000;

type Dyn<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A part of a program that ends as a whole: a block, or what a limit is set to.
#[derive(Clone, Default)]
struct Part(Option<Rc<(Cell<bool>, Part)>>);

impl Part {
    fn within(&self) -> Self {
        Self(Some(Rc::new((Cell::new(false), self.clone()))))
    }

    fn end(&self) {
        if let Some(part) = &self.0 {
            part.0.set(true);
        }
    }

    fn has_ended(&self) -> bool {
        self.0.as_ref().is_some_and(|part| part.0.get() || part.1.has_ended())
    }
}

/// Where a piece of code stands.
#[derive(Clone, Default)]
struct Place {
    /// What must not have ended while it runs.
    block: Part,
    /// What must not have been cancelled by hand, unless it is cleanup.
    task: Part,
    /// The brackets around it, the innermost one last, each with the number of those inside that are not released.
    brackets: Vec<Rc<Cell<u32>>>,
    /// A foreign combinator around it may drop it half-way.
    may_be_dropped: bool,
}

/// What the parts of a program share.
struct Stage {
    random: Draw,
    n_awaits: Cell<u64>,
    n_frames: Cell<u32>,
    n_open: Cell<u32>,
    n_lost: Cell<u32>,
    is_dropping: Cell<bool>,
}

/// Counts the pieces of code that are there.
struct Frame<'a>(&'a Stage);

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.0.n_frames.set(self.0.n_frames.get() - 1);
    }
}

impl Stage {
    fn new(program: u64) -> Self {
        let (n_frames, n_open, n_lost) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let (random, n_awaits, is_dropping) = (Draw::new(program), Cell::new(0), Cell::new(false));
        Self { random, n_awaits, n_frames, n_open, n_lost, is_dropping }
    }

    fn below(&self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn frame(&self) -> Frame<'_> {
        self.n_frames.set(self.n_frames.get() + 1);
        Frame(self)
    }

    /// Called wherever a program's own code runs.
    fn step(&self, place: &Place) {
        assert!(!place.block.has_ended(), "code runs when its block has ended");
        assert!(!place.task.has_ended(), "code runs that was cancelled");
        if self.below(40) == 0 {
            draw_tree();
        }
    }

    async fn rest(&self, place: &Place) {
        self.n_awaits.set(self.n_awaits.get() + 1);
        match self.below(4) {
            0 => yield_now().await,
            1 => {
                let promise = Promise::new();
                let setter = promise.clone();
                futures::join!(promise.wait(), async move {
                    sleep(millis(1)).await;
                    setter.set(()).expect("it is set once");
                });
            }
            _ => sleep(millis(self.below(4))).await,
        }
        self.step(place);
    }
}

/// A bracket that is open, or lost with whatever dropped it.
struct Open<'a> {
    stage: &'a Stage,
    place: Place,
    is_released: Cell<bool>,
}

impl<'a> Open<'a> {
    fn new(stage: &'a Stage, place: &Place) -> Self {
        stage.n_open.set(stage.n_open.get() + 1);
        place.brackets.iter().for_each(|around| around.set(around.get() + 1));
        Self { stage, place: place.clone(), is_released: Cell::new(false) }
    }

    fn release(&self) {
        assert!(!self.is_released.replace(true), "a bracket is released twice");
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.stage.n_open.set(self.stage.n_open.get() - 1);
        self.place.brackets.iter().for_each(|around| around.set(around.get() - 1));
        if !self.is_released.get() {
            assert!(self.place.may_be_dropped, "a bracket is not released");
            self.stage.n_lost.set(self.stage.n_lost.get() + 1);
        }
    }
}

fn code<'a>(stage: &'a Stage, place: Place, depth: u32) -> Dyn<'a> {
    Box::pin(async move {
        let _frame = stage.frame();
        stage.step(&place);
        if depth == 0 {
            stage.rest(&place).await;
            return;
        }
        for _ in 0..=stage.below(2) {
            piece(stage, &place, depth - 1).await;
            stage.step(&place);
        }
    })
}

fn some<'a>(stage: &'a Stage, place: &Place, depth: u32, n: u64) -> Vec<Dyn<'a>> {
    (0..n).map(|_| code(stage, place.clone(), depth)).collect()
}

/// The same for a foreign combinator that comes to its futures one after the other: what has not begun must not begin.
fn branches<'a>(stage: &'a Stage, place: &Place, depth: u32, n: u64) -> Vec<Dyn<'a>> {
    some(stage, place, depth, n).into_iter().map(|one| branch(one).boxed_local()).collect()
}

async fn piece(stage: &Stage, around: &Place, depth: u32) {
    let place = Place { block: around.block.within(), ..around.clone() };
    let inner = |place: &Place| code(stage, place.clone(), depth);
    let dropped = Place { may_be_dropped: true, ..place.clone() };
    match stage.below(18) {
        0 | 1 => group(stage, &place, depth).await,
        2 | 3 => scoped(stage, &place, depth).await,
        4 => shield(inner(&Place { task: Part::default(), ..place.clone() })).await,
        5 | 6 => {
            let _ = timeout(millis(stage.below(6)), inner(&place)).await;
        }
        7 => race(some(stage, &place, depth, 1 + stage.below(3))).await,
        8 => drop(gather(some(stage, &place, depth, stage.below(3))).await),
        9 => {
            futures::join!(inner(&place), inner(&place));
        }
        10 => {
            let n = 1 + stage.below(3);
            let mut all: FuturesUnordered<_> = branches(stage, &place, depth, n).into_iter().collect();
            while all.next().await.is_some() {}
        }
        11 => {
            let n = if stage.below(4) == 0 { 31 } else { stage.below(3) };
            drop(join_all(branches(stage, &place, if n > 30 { 0 } else { depth }, n)).await);
        }
        12 => iter(branches(stage, &place, depth, 3)).buffer_unordered(2).collect().await,
        13 => {
            stage.is_dropping.set(true);
            let (mut one, mut two) = (inner(&dropped).fuse(), inner(&dropped).fuse());
            futures::select_biased! { () = one => {}, () = two => {} }
        }
        14 => {
            stage.is_dropping.set(true);
            tokio::select! { biased; () = inner(&dropped) => {}, () = inner(&dropped) => {} }
        }
        15 => {
            let shared = inner(&place).shared();
            let other = shared.clone();
            // One of them may be ready by the other's poll, which asks nothing of xiio: the exception of the first law.
            branch(async { futures::join!(shared, other) }).await;
        }
        16 => {
            stage.is_dropping.set(true);
            let (handle, registration) = AbortHandle::new_pair();
            let aborts = async {
                sleep(millis(stage.below(4))).await;
                handle.abort();
            };
            let _ = futures::join!(branch(Abortable::new(inner(&dropped), registration).map(drop)), aborts);
        }
        _ => stage.rest(&place).await,
    }
    place.block.end();
}

async fn group(stage: &Stage, place: &Place, depth: u32) {
    let limit = (stage.below(3) == 0).then(|| millis(stage.below(6)));
    let ended = task_group!(timeout = limit, |tg| {
        for _ in 0..stage.below(3) {
            tg.spawn(code(stage, place.clone(), depth));
        }
        if stage.below(3) == 0 {
            tg.defer(code(stage, Place { task: Part::default(), ..place.clone() }, 0));
        }
        if stage.below(2) == 0 {
            let task = Place { task: place.task.within(), ..place.clone() };
            let cancelled = tg.spawn(code(stage, task.clone(), depth));
            stage.rest(place).await;
            if stage.below(2) == 0 {
                task.task.end();
                // An output it has if it had ended before.
                let _ = cancelled.cancel().await;
            }
        }
        code(stage, place.clone(), depth).await;
        if stage.below(4) == 0 {
            tg.cancel();
        }
    });
    let _ = ended;
}

async fn scoped(stage: &Stage, place: &Place, depth: u32) {
    let inside = Rc::new(Cell::new(0));
    let mut usage = place.clone();
    usage.brackets.push(Rc::clone(&inside));
    let cleanup = Place { task: Part::default(), ..place.clone() };
    let release = async |open: Open<'_>| {
        assert_eq!(inside.get(), 0, "a bracket is released before one inside of it");
        stage.step(&cleanup);
        code(stage, cleanup.clone(), depth.min(1)).await;
        open.release();
    };
    bracket(Open::new(stage, place), async |_| code(stage, usage.clone(), depth).await, release).await;
}

/// Counts the polls of a whole program.
async fn counted(program: impl Future<Output = ()>, stage: &Stage) {
    let mut program = pin!(program);
    let mut n_polls = 0;
    poll_fn(|cx| {
        n_polls += 1;
        assert!(n_polls < 500 + 100 * stage.n_awaits.get(), "polled again and again while all wait");
        program.as_mut().poll(cx)
    })
    .await;
}

async fn whole(stage: &Stage) {
    let place = Place { block: Part::default().within(), ..Place::default() };
    // The root is foreign too: what is ready in one of its branches stays so while the other is polled.
    let program = async {
        futures::join!(code(stage, place.clone(), 4), code(stage, place.clone(), 2));
    };
    counted(program, stage).await;
    place.block.end();
    assert_eq!(stage.n_frames.get(), 0, "code is there when its block has ended");
    assert_eq!(stage.n_open.get(), 0, "a bracket is open when its block has ended");
}

/// A loop that does nothing but take turns.
fn turn_to_the_end(stage: &Stage) {
    let mut embed = Embed::new(whole(stage)).expect("the system gives a poller");
    let begun = Instant::now();
    while embed.turn(&mut Context::from_waker(Waker::noop())).is_pending() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio has a runtime")
}

fn play(program: u64) {
    let stage = Stage::new(program);
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    let listening = listen(move |report| sink.borrow_mut().push((report.kind(), report.to_string())));
    let tester = Tester::new().virtual_time().slow_poll(None);
    match program % 50 {
        // Real time, so these take a while.
        0 => tokio_runtime().block_on(on_tokio(whole(&stage))),
        1 => turn_to_the_end(&stage),
        n if n % 2 == 0 => tester.seed(program).run(|| whole(&stage)),
        _ => tester.run(|| whole(&stage)),
    }
    drop(listening);
    let is_told = |kind: ReportKind| stage.is_dropping.get() && kind == ReportKind::CleanupSkipped;
    let reports: Vec<_> = reports.take().into_iter().filter(|(kind, _)| !is_told(*kind)).collect();
    assert!(reports.is_empty(), "reports: {reports:?}");
}

#[test]
fn random_programs_keep_the_laws() {
    let first = number("XIIO_FIRST", 0);
    for program in first..first + number("XIIO_PROGRAMS", FEW) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(program))) {
            eprintln!("program {program}; repeat it with XIIO_FIRST={program} XIIO_PROGRAMS=1");
            std::panic::resume_unwind(panic);
        }
    }
}
