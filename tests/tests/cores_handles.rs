//! Random groups with workers whose members await each other, fail, and clean up with the help of other tasks.
//!
//! Whatever the order, such a group ends, gives an error of one that has failed if any has, and panics for nothing; and each
//! cleanup that has begun has come to its end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use xiio::{Failure, GroupError, TryWorkers, WorkerTask, bracket, run, sleep, timeout, try_task_group, yield_now};
use xiio_tests::random::{Draw, number};

#[derive(Default)]
struct World {
    failed: Mutex<Vec<usize>>,
    n_cleanups_begun: AtomicUsize,
    n_cleanups_ended: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Step {
    Yield,
    Sleep,
    /// For the task that it was given, if it was.
    Await,
    /// For a moment, with a cleanup behind it in which a worker helps.
    Hold,
    Fail,
}

struct Member {
    id: usize,
    steps: Vec<Step>,
    awaited: Option<WorkerTask<()>>,
}

impl Member {
    fn draw(draw: &Draw, id: usize, handles: &mut Vec<WorkerTask<()>>) -> Self {
        let step = |_| match draw.below(12) {
            0..6 => Step::Yield,
            6 => Step::Sleep,
            7 | 8 => Step::Await,
            9 | 10 => Step::Hold,
            _ => Step::Fail,
        };
        let steps = (0..draw.below(10)).map(step).collect();
        let is_given_one = !handles.is_empty() && draw.below(2) == 0;
        let awaited = is_given_one.then(|| handles.swap_remove(draw.below(handles.len() as u64) as usize));
        Self { id, steps, awaited }
    }

    async fn live(mut self, world: &World, workers: TryWorkers<'_, usize>) -> Result<(), usize> {
        for step in self.steps {
            match step {
                Step::Yield => yield_now().await,
                Step::Sleep => sleep(Duration::from_micros(50)).await,
                Step::Hold => hold(world, workers).await,
                Step::Await => {
                    if let Some(task) = self.awaited.take() {
                        task.await;
                    }
                }
                Step::Fail => {
                    world.failed.lock().unwrap().push(self.id);
                    return Err(self.id);
                }
            }
        }
        Ok(())
    }
}

async fn hold(world: &World, workers: TryWorkers<'_, usize>) {
    let work = async |(): &mut ()| {
        for _ in 0..5 {
            yield_now().await;
        }
    };
    let helper = async || {
        sleep(Duration::from_micros(50)).await;
        Ok(())
    };
    let release = async |()| {
        world.n_cleanups_begun.fetch_add(1, SeqCst);
        // It may have been there when the group was cancelled.
        _ = workers.spawn(helper).outcome().await;
        world.n_cleanups_ended.fetch_add(1, SeqCst);
    };
    bracket((), work, release).await;
}

/// A group that is drawn from a seed.
macro_rules! drawn_group {
    ($draw:ident, $world:ident $(, $option:ident)?) => {
        try_task_group!(workers = $draw.below(4) as usize, error = usize, $($option,)? |tg| {
            let workers = tg.workers();
            let mut handles = Vec::new();
            for id in 1..3 + $draw.below(6) as usize {
                let member = Member::draw($draw, id, &mut handles);
                match $draw.below(3) {
                    0 => drop(tg.spawn(member.live($world, workers))),
                    _ => handles.push(workers.spawn(async move || member.live($world, workers).await)),
                }
                if $draw.below(2) == 0 {
                    yield_now().await;
                }
            }
            Member::draw($draw, 0, &mut handles).live($world, workers).await?;
        })
    };
}

async fn play(draw: &Draw, world: &World) -> Result<(), usize> {
    drawn_group!(draw, world)
}

async fn play_to_all_errors(draw: &Draw, world: &World) -> Result<(), GroupError<usize>> {
    drawn_group!(draw, world, all_errors)
}

fn assert_played(seed: u64, world: &World, failures: &[usize]) {
    let failed = world.failed.lock().unwrap();
    assert!(failures.iter().all(|id| failed.contains(id)), "seed {seed}: {failures:?} of {failed:?}");
    assert_eq!(failures.is_empty(), failed.is_empty(), "seed {seed}: {failed:?} have failed");
    assert_cleaned_up(seed, world);
}

fn assert_cleaned_up(seed: u64, world: &World) {
    assert_eq!(world.n_cleanups_ended.load(SeqCst), world.n_cleanups_begun.load(SeqCst), "seed {seed}");
}

#[test]
fn members_that_await_each_other_end_with_the_group_and_panic_for_nothing() {
    let first = number("XIIO_FIRST_GROUP_WITH_WORKERS", 0);
    let n_groups = number("XIIO_GROUPS_WITH_WORKERS", 500);
    for seed in first..first + n_groups {
        let limit = Duration::from_secs(60);
        let world = World::default();
        let ended =
            run(timeout(limit, play(&Draw::new(seed), &world))).unwrap_or_else(|_| panic!("seed {seed} does not end"));
        assert_played(seed, &world, ended.err().as_slice());

        let world = World::default();
        let ended = run(timeout(limit, play_to_all_errors(&Draw::new(seed), &world)));
        let failures = ended.unwrap_or_else(|_| panic!("seed {seed} does not end")).err();
        let failures = failures.into_iter().flat_map(GroupError::into_failures);
        let error = |failure| match failure {
            Failure::Error(id) => id,
            Failure::Panic(_) => panic!("seed {seed} panics: {failure}"),
        };
        assert_played(seed, &world, &failures.map(error).collect::<Vec<_>>());

        // Cancelled from around, at any moment.
        let world = World::default();
        let limit = Duration::from_micros(seed % 97 * 10);
        let _ = run(timeout(limit, play(&Draw::new(seed), &world)));
        assert_cleaned_up(seed, &world);
    }
}
