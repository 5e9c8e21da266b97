//! Random programs with groups that have workers: in each other, around and inside of combinators of xiio and of others, with
//! errors, panics, limits and cancellations, on threads, on virtual time and in a loop made by hand.
//!
//! All is checked from outside (`random_workers/stage.rs`). Each cleanup runs once and in order, code that was cancelled runs to its
//! next await at most, none is there when its block has ended, each panic and each error is heard of once, no other report is made,
//! no thread or descriptor is left, and what has no threads does the same twice.
//!
//! `XIIO_PROGRAMS_WITH_WORKERS` is the number of programs, `XIIO_FIRST_WITH_WORKERS` the first one; a failure names its program.

#[path = "random_workers/stage.rs"]
mod stage;

use std::fs;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt, iter};
use xiio::compat::Embed;
use xiio::inspect::{listen, tree};
use xiio::testing::Tester;
use xiio::{
    Builder, Elapsed, Failure, GroupError, Promise, TryWorkers, WorkerTask, Workers, bracket, branch, catch_panic,
    deadline, gather, now, parallel_map, race, run_in_thread, shield, sleep, task_group, timeout, try_task_group,
    yield_now,
};
use xiio_tests::os::{n_fds, wait_until};
use xiio_tests::poll::{OnDrop, leak};
use xiio_tests::random::{Draw, number};
use xiio_tests::{LONG, ending_hangs};

use stage::{Block, Crew, Data, Error, Frame, Mode, Open, Out, Place, Seat, Stage};

/// So many in a build without optimization.
const FEW: u64 = 1_000;

/// How many tasks a group has from its body, at most.
const MANY: u64 = 3;

type Dyn<'a, T = Out> = Pin<Box<dyn Future<Output = T> + 'a>>;

fn hear(out: Out) {
    out.unwrap_or_else(Error::hear);
}

async fn heard(code: Dyn<'_>) {
    hear(code.await);
}

/// A piece of code, the same for the same seed, whatever other threads do.
fn code(place: Place<'_>, depth: u32, seed: u64) -> Dyn<'_> {
    Box::pin(async move {
        let draw = Draw::new(seed);
        let _frame = Frame::new(&place);
        place.step(&draw);
        if depth == 0 {
            place.rest(&draw).await;
            return place.fate(&draw);
        }
        for _ in 0..=draw.below(2) {
            let within = place.within();
            let block = Block(&within);
            piece(&within, &draw, depth - 1).await?;
            drop(block);
            place.step(&draw);
        }
        place.fate(&draw)
    })
}

/// Some pieces of code that nobody asks how they have ended.
fn some<'a>(place: &Place<'a>, draw: &Draw, depth: u32) -> Vec<Dyn<'a, ()>> {
    (0..1 + draw.below(3)).map(|_| Box::pin(heard(code(place.clone(), depth, draw.seed()))) as _).collect()
}

/// The same for a foreign combinator that comes to its futures one after the other: what has not begun must not begin.
fn branches<'a>(place: &Place<'a>, draw: &Draw, depth: u32) -> Vec<Dyn<'a, ()>> {
    some(&place.calm(), draw, depth).into_iter().map(|one| branch(one).boxed_local()).collect()
}

fn piece<'a>(place: &'a Place<'a>, draw: &'a Draw, depth: u32) -> Dyn<'a> {
    let inner = move |place: Place<'a>| code(place, depth, draw.seed());
    let stage = place.stage;
    Box::pin(async move {
        match draw.below(22) {
            kind @ 0..7 => {
                let data = Data::new(false);
                let place = Place { data: Some(&data), ..place.clone() };
                let group: Dyn<'_> = match kind {
                    0..3 => Box::pin(plain_group(&place, draw, depth)),
                    3..6 => Box::pin(try_group(&place, draw, depth)),
                    _ => Box::pin(all_errors_group(&place, draw, depth)),
                };
                data.lend(group).await?;
            }
            7 => group_without_workers(place, draw, depth).await?,
            8 | 9 => scoped(place, draw, depth).await?,
            10 => shield(inner(place.cleanup())).await?,
            11 => timeout(stage.moments(draw.below(8)), inner(place.clone())).await.unwrap_or(Ok(()))?,
            12 => deadline(now() + stage.moments(draw.below(8)), inner(place.clone())).await.unwrap_or(Ok(()))?,
            13 => race(some(place, draw, depth)).await,
            14 => drop(gather(some(place, draw, depth)).await),
            // An error that foreign code has when it is dropped nobody is told of.
            15 => _ = futures::join!(heard(inner(place.calm())), heard(inner(place.calm()))),
            16 => {
                let mut all: FuturesUnordered<_> = branches(place, draw, depth).into_iter().collect();
                while all.next().await.is_some() {}
            }
            17 => iter(branches(place, draw, depth)).buffer_unordered(2).collect().await,
            18 => given_up(place, draw, depth).await,
            19 => {
                let seeds = [draw.seed(), draw.seed(), draw.seed()];
                let n_workers = draw.below(3) as usize;
                let map = async |seed: &u64| heard(code(place.other_task(n_workers), depth, *seed)).await;
                parallel_map(n_workers, &seeds, map).await;
            }
            20 => match catch_panic(inner(Place { may_panic: true, ..place.clone() })).await {
                Ok(out) => out?,
                Err(panic) => stage.hear_panic(panic.text()),
            },
            // Foreign code that drops it does not wait for its cleanup.
            21 if stage.has_threads() && !place.may_be_dropped => {
                let (place, seed) = (place.elsewhere(), draw.seed());
                run_in_thread(async move || {
                    let _listening = listen(|report| place.stage.hear_report(report));
                    let data = Data::new(true);
                    heard(code(Place { data: Some(&data), ..place.clone() }, depth, seed)).await;
                })
                .await;
            }
            _ => place.rest(draw).await,
        }
        Ok(())
    })
}

/// Foreign code polls it for a while, and drops or forgets it.
async fn given_up(place: &Place<'_>, draw: &Draw, depth: u32) {
    place.stage.is_dropping.store(true, SeqCst);
    let is_forgotten = place.stage.mode == Mode::Forgetting && draw.one_in(2);
    let inside = if is_forgotten { place.forgotten() } else { place.within() };
    let inside = Place { may_be_dropped: true, ..inside };
    let soon = pin!(sleep(place.stage.moments(draw.below(6))));
    match select(code(inside.clone(), depth, draw.seed()), soon).await {
        Either::Left((out, _)) => hear(out),
        Either::Right(((), code)) if is_forgotten => _ = leak(code),
        Either::Right(((), code)) => drop(code),
    }
    inside.block.end();
}

async fn scoped(place: &Place<'_>, draw: &Draw, depth: u32) -> Out {
    let inside = Arc::new(AtomicU32::new(0));
    let mut usage = place.clone();
    usage.brackets.push(Arc::clone(&inside));
    let release = async |open: Open<'_>| {
        place.stage.check(inside.load(SeqCst) == 0, "a bracket is released before one inside of it");
        heard(code(place.cleanup(), depth.min(1), draw.seed())).await;
        open.release();
    };
    bracket(Open::new(place), async |_| code(usage, depth, draw.seed()).await, release).await
}

async fn group_without_workers(place: &Place<'_>, draw: &Draw, depth: u32) -> Out {
    let limit = draw.one_in(3).then(|| place.stage.moments(draw.below(6)));
    let _in_time = task_group!(timeout = limit, |tg| {
        for _ in 0..draw.below(3) {
            tg.spawn(code(place.clone(), depth, draw.seed()));
        }
        let task = place.task_at_home(&Crew::default());
        let cancelled = tg.spawn(heard(code(task.clone(), depth, draw.seed())));
        code(place.clone(), depth, draw.seed()).await?;
        task.task.end();
        // An output it has if it had ended before.
        cancelled.cancel().await;
    });
    Ok(())
}

/// What spawns on workers, in groups of both kinds.
trait Hands<'env>: Copy + Send + Sync + 'env {
    fn add(self, work: impl AsyncFnOnce() -> Out + Send + 'env) -> WorkerTask<()>;
    fn on_each(self, work: impl AsyncFn() -> Out + Send + Sync + 'env) -> impl Future<Output = Vec<()>>;
}

impl<'env> Hands<'env> for Workers<'env> {
    fn add(self, work: impl AsyncFnOnce() -> Out + Send + 'env) -> WorkerTask<()> {
        self.spawn(async move || hear(work().await))
    }

    fn on_each(self, work: impl AsyncFn() -> Out + Send + Sync + 'env) -> impl Future<Output = Vec<()>> {
        self.each(async move |_| hear(work().await))
    }
}

impl<'env> Hands<'env> for TryWorkers<'env, Error> {
    fn add(self, work: impl AsyncFnOnce() -> Out + Send + 'env) -> WorkerTask<()> {
        self.spawn(work)
    }

    fn on_each(self, work: impl AsyncFn() -> Out + Send + Sync + 'env) -> impl Future<Output = Vec<()>> {
        self.each(async move |_| work().await)
    }
}

/// What the tasks of a group know of it.
#[derive(Clone, Copy)]
struct Of {
    depth: u32,
    n_workers: usize,
    /// No task waits for a place.
    is_unlimited: bool,
    /// Somebody may cancel it by hand.
    may_be_cancelled: bool,
}

/// A task on a worker, which counts its polls in what it alone may write to.
fn member<'env>(
    hands: impl Hands<'env>,
    of: Of,
    place: Place<'env>,
    seed: u64,
    mut count: Option<&'env mut u64>,
) -> Dyn<'env> {
    let mut work = Box::pin(work(hands, of, place.clone(), seed));
    Box::pin(poll_fn(move |cx| {
        place.task.note_poll();
        if let (Some(count), Some(data)) = (&mut count, place.data) {
            **count += 1;
            data.n_polls.fetch_add(1, SeqCst);
        }
        work.as_mut().poll(cx)
    }))
}

async fn work<'env>(hands: impl Hands<'env>, of: Of, place: Place<'env>, seed: u64) -> Out {
    let draw = Draw::new(seed);
    match draw.below(5) {
        0 => {
            let (sibling, seed) = (place.sibling(of.n_workers), draw.seed());
            let of = Of { depth: of.depth.saturating_sub(1), ..of };
            let task = hands.add(async move || member(hands, of, sibling, seed, None).await);
            if of.is_unlimited && draw.one_in(2) {
                let _ = task.outcome().await;
            }
        }
        // A worker helps to clean up.
        1 if of.is_unlimited => {
            let release = async |open: Open<'_>| {
                let (place, seed) = (place.cleanup(), draw.seed());
                let help = async move || {
                    heard(code(place, 0, seed)).await;
                    Ok(())
                };
                let _ = hands.add(help).outcome().await;
                open.release();
            };
            let usage = async |_: &mut _| code(place.clone(), of.depth, draw.seed()).await;
            return bracket(Open::new(&place), usage, release).await;
        }
        _ => {}
    }
    code(place, of.depth, draw.seed()).await
}

/// A group with workers: the options are drawn, the rest is the same for each kind.
macro_rules! group {
    ($macro:ident, $place:ident, $draw:ident, $depth:ident $(, $option:ident $(= $value:ty)?)*) => {{
        let (stage, draw) = ($place.stage, $draw);
        let n_workers = draw.below(4) as usize;
        let of =
            Of { depth: $depth, n_workers, is_unlimited: !draw.one_in(3), may_be_cancelled: draw.one_in(2) };
        let crew = Crew::new(n_workers);
        let limit = if of.is_unlimited { usize::MAX } else { 1 + draw.below(3) as usize };
        let time = draw.one_in(4).then(|| stage.moments(draw.below(8)));
        let grace = if draw.one_in(8) { stage.moments(draw.below(4)) } else { LONG };
        let (mut counts, cancels, mut kept) = ([0; MANY as usize], Promise::new(), Vec::new());
        let place = Place { may_be_dropped: $place.may_be_dropped || grace < LONG, ..$place.clone() };
        if grace < LONG {
            stage.is_graceful.store(true, SeqCst);
        }
        let mut to_count = counts.iter_mut();
        let ended = $macro!(
            workers = n_workers, timeout = time, limit = limit, grace = grace, $($option $(= $value)?,)*
            |tg| {
                let hands = tg.workers();
                let mut tasks = Vec::new();
                if draw.one_in(3) {
                    tg.defer(heard(code(place.cleanup(), 0, draw.seed())));
                }
                for _ in 0..=draw.below(MANY) {
                    let seed = draw.seed();
                    match draw.below(8) {
                        _ if stage.mode == Mode::Blocking && n_workers > 0 && of.is_unlimited && draw.one_in(3) => {
                            let (mut seats, is_asked, for_home) = (Seat::two(), Promise::new(), draw.one_in(2));
                            if for_home {
                                let (seat, is_asked) = (seats.pop(), is_asked.clone());
                                let before = draw.one_in(2).then(|| code(place.task_at_home(&crew), of.depth, draw.seed()));
                                tg.spawn(async move {
                                    is_asked.wait().await;
                                    if let Some(before) = before {
                                        heard(before).await;
                                    }
                                    drop(seat);
                                    Ok::<_, Error>(())
                                });
                            }
                            for seat in seats {
                                let (inside, is_asked) = (place.task(&crew), is_asked.clone());
                                let asks = OnDrop(move || _ = is_asked.set(()));
                                drop(hands.add(async move || {
                                    drop(asks);
                                    match for_home {
                                        true => seat.meet(inside.stage),
                                        false => seat.meet_elsewhere(inside.stage).await,
                                    }
                                    member(hands, of, inside, seed, None).await
                                }));
                            }
                        }
                        0 | 1 => drop(tg.spawn(code(place.task_at_home(&crew), of.depth, seed))),
                        // The end of a task on a worker cancels the group.
                        2 if of.may_be_cancelled => {
                            let (promise, task_ends) = (&cancels, OnDrop(|| _ = cancels.set(())));
                            let (inside, crew) = (place.task(&crew), &crew);
                            drop(hands.add(async move || {
                                let _task_ends = task_ends;
                                member(hands, of, inside, seed, None).await
                            }));
                            tg.spawn(async move {
                                promise.wait().await;
                                tg.cancel();
                                crew.cancel();
                                Ok::<_, Error>(())
                            });
                        }
                        3 => {
                            let inside = place.other_task(n_workers);
                            let each = hands.on_each(async move || code(inside.clone(), of.depth, seed).await);
                            if !of.may_be_cancelled && draw.one_in(2) {
                                each.await;
                            }
                        }
                        _ => {
                            let (inside, count) = (place.task(&crew), to_count.next());
                            let part = inside.task.clone();
                            tasks.push((part, hands.add(async move || member(hands, of, inside, seed, count).await)));
                        }
                    }
                    if draw.one_in(3) {
                        place.rest(draw).await;
                    }
                }
                let mut some: FuturesUnordered<_> = FuturesUnordered::new();
                for (part, task) in tasks {
                    match draw.below(9) {
                        0 => drop(task),
                        1 if !of.may_be_cancelled => task.await,
                        1 | 2 => _ = task.outcome().await,
                        3 => {
                            let has_ended = task.cancel();
                            part.end();
                            has_ended.await;
                        }
                        4 => {
                            drop(task.cancel());
                            part.end();
                        }
                        5 => drop(hands.add(async move || {
                            let has_ended = task.cancel();
                            part.end();
                            has_ended.await;
                            Ok(())
                        })),
                        6 if of.is_unlimited => drop(hands.add(async move || Ok(_ = task.outcome().await))),
                        6 | 7 => kept.push(task),
                        _ => some.push(task.outcome()),
                    }
                }
                if draw.one_in(2) {
                    while some.next().await.is_some() {}
                } else if !some.is_empty() {
                    futures::select_biased! { _ = some.next() => {}, () = yield_now().fuse() => {} }
                }
                code(place.clone(), of.depth, draw.seed()).await?;
                if of.may_be_cancelled && draw.one_in(2) {
                    tg.cancel();
                    crew.cancel();
                }
            }
        );
        stage.check(kept.iter().all(WorkerTask::is_finished), "a block has ended before its task");
        let n_polls = place.data.map(|data| data.n_polls.load(SeqCst));
        stage.check(n_polls == Some(counts.iter().sum()), "what was borrowed for writing is not what was written");
        ended
    }};
}

async fn plain_group(place: &Place<'_>, draw: &Draw, depth: u32) -> Out {
    let _in_time: Result<(), Elapsed> = group!(task_group, place, draw, depth);
    Ok(())
}

async fn try_group(place: &Place<'_>, draw: &Draw, depth: u32) -> Out {
    let ended = group!(try_task_group, place, draw, depth, error = Error);
    ended.map_err(|error| error.of(place.stage))
}

async fn all_errors_group(place: &Place<'_>, draw: &Draw, depth: u32) -> Out {
    let ended = group!(try_task_group, place, draw, depth, error = Error, all_errors);
    for failure in ended.err().into_iter().flat_map(GroupError::into_failures) {
        match failure {
            Failure::Error(error) => error.hear(),
            Failure::Panic(panic) => place.stage.hear_panic(panic.text()),
        }
    }
    Ok(())
}

/// Counts the polls of a whole program.
async fn counted(program: impl Future<Output = ()>, stage: &Stage) {
    let mut program = pin!(program);
    let mut n_polls = 0;
    poll_fn(|cx| {
        n_polls += 1;
        stage.check(n_polls != 1000 + 200 * stage.n_awaits.load(SeqCst), "polled again and again while all wait");
        program.as_mut().poll(cx)
    })
    .await;
}

async fn whole(stage: &'static Stage, program: u64) {
    let _listening = listen(|report| stage.hear_report(report));
    let (draw, data) = (Draw::new(program), Data::new(true));
    let place = Place::new(stage, &data, &draw);
    let program = async {
        let _block = Block(&place);
        let (one, two) = (code(place.clone(), 3, draw.seed()), code(place.calm(), 1, draw.seed()));
        match place.may_panic {
            true => heard(one).await,
            // The root is foreign too: what is ready in one of its branches stays so while the other is polled.
            false => _ = futures::join!(heard(one), heard(two)),
        }
    };
    let program = async { catch_panic(program).await.unwrap_or_else(|panic| stage.hear_panic(panic.text())) };
    let hangs = async {
        sleep(Duration::from_secs(30)).await;
        stage.check(false, &format!("it hangs:\n{}", tree().await));
    };
    race!(counted(program, stage), hangs);
}

/// A loop that does nothing but take turns.
fn turn_to_the_end(program: impl Future<Output = ()>) {
    let mut embed = Embed::new(program).expect("the system gives a poller");
    while embed.turn(&mut Context::from_waker(Waker::noop())).is_pending() {
        thread::sleep(Duration::from_micros(200));
    }
}

fn play_once(program: u64, mode: Mode) -> &'static Stage {
    let stage = Stage::new(mode);
    let tester = Tester::new().virtual_time().slow_poll(None);
    let builder = Builder::new().slow_poll(None);
    match mode {
        Mode::Threads | Mode::Forgetting | Mode::Blocking => builder.run(whole(stage, program)),
        Mode::OwnThread => builder.run(run_in_thread(async move || whole(stage, program).await)),
        Mode::Virtual => tester.run(|| whole(stage, program)),
        Mode::Seeded => tester.seed(program).run(|| whole(stage, program)),
        Mode::Embedded => turn_to_the_end(whole(stage, program)),
    }
    stage.check_end();
    stage
}

fn play(program: u64, mode: Mode) {
    let name = "XIIO_PROGRAMS_WITH_WORKERS=1 XIIO_FIRST_WITH_WORKERS";
    let name = format!("program {program}, in the mode {mode:?}; repeat it with {name}={program}");
    ending_hangs(&name, || {
        let _names_it = OnDrop(|| {
            if thread::panicking() {
                eprintln!("{name}");
            }
        });
        let played = play_once(program, mode);
        if played.is_repeatable() {
            let (first, again) = (&played.trace, &play_once(program, mode).trace);
            assert!(*first.lock().unwrap() == *again.lock().unwrap(), "it does something else the second time");
            first.lock().unwrap().clear();
        }
    });
}

/// How many threads xiio has.
fn n_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("xiio")).count()
}

/// One after the other: each counts what the process has.
static ONE_TEST: Mutex<()> = Mutex::new(());

#[test]
fn random_programs_with_workers_keep_the_laws() {
    let _alone = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    let n_before = (n_fds(), n_threads());
    let (first, n_programs) = (number("XIIO_FIRST_WITH_WORKERS", 0), number("XIIO_PROGRAMS_WITH_WORKERS", FEW));
    for program in first..first + n_programs {
        let mode = match program % 20 {
            0 => Mode::Embedded,
            1 => Mode::OwnThread,
            2 | 12 => Mode::Blocking,
            n if n % 2 == 0 => Mode::Threads,
            n if n % 4 == 1 => Mode::Virtual,
            _ => Mode::Seeded,
        };
        play(program, mode);
    }
    wait_until("the descriptors are closed", || n_fds() <= n_before.0);
    // They end when they have been idle for ten seconds.
    if n_programs > FEW {
        wait_until("the threads have ended", || n_threads() <= n_before.1);
    }
}

/// What is forgotten keeps its threads, so these are few.
#[test]
fn random_programs_that_forget_groups_with_workers_keep_the_laws() {
    let _alone = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    let (first, n_programs) = (number("XIIO_FIRST_WITH_WORKERS", 0), number("XIIO_PROGRAMS_WITH_WORKERS", FEW));
    (first..first + n_programs.div_ceil(20)).for_each(|program| play(program, Mode::Forgetting));
}
