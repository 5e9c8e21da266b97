//! Runs a plan and writes down what happens.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::FutureExt;
use xiio::{Elapsed, bracket, branch, shield, sleep, task_group, timeout, try_task_group, yield_now};
use xiio_tests::random::draw_tree;

use crate::plan::{Group, Id, Kind, Node};

/// What a node comes to: nothing, or the failure of the node with this number.
pub(crate) type Flow = Result<(), Failure>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Of(Id),
    Elapsed,
}

impl From<Elapsed> for Failure {
    fn from(_: Elapsed) -> Self {
        Self::Elapsed
    }
}

/// The payload of the panic of a node.
pub(crate) struct Planned(pub(crate) Id);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The node is polled for the first time.
    Begin,
    /// Its own code runs, after an await.
    Step,
    /// It has come to an end by itself.
    End,
    /// Its frame is gone.
    Drop,
    ReleaseBegin,
    ReleaseEnd,
    /// The group is about to cancel its tasks.
    CancelTasks,
    /// A member of the group has come to this by itself. `None` is a panic.
    MemberEnd(Id, Option<Flow>),
    /// The group has its value.
    GroupEnd(Flow),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) id: Id,
    pub(crate) what: What,
    /// Milliseconds since the start.
    pub(crate) at: u64,
}

/// What the nodes of a run share.
pub(crate) struct Stage {
    start: Instant,
    events: RefCell<Vec<Event>>,
    /// The random numbers that say at which events the tree is drawn; `None` if never.
    drawing: Option<Cell<u64>>,
}

impl Stage {
    pub(crate) fn new(drawing: Option<u64>) -> Self {
        Self { start: xiio::now(), events: RefCell::default(), drawing: drawing.map(|seed| Cell::new(seed | 1)) }
    }

    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events.into_inner()
    }

    fn note(&self, id: Id, what: What) {
        let at = xiio::now().duration_since(self.start).as_millis().try_into().expect("a time within the plan");
        self.events.borrow_mut().push(Event { id, what, at });
        // A destructor awaits nothing.
        if what != What::Drop && self.wants_drawing() {
            draw_tree();
        }
    }

    fn wants_drawing(&self) -> bool {
        self.drawing.as_ref().is_some_and(|state| {
            let mut x = state.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.set(x);
            x >> 62 == 0
        })
    }
}

/// Notes that the frame of a node is gone.
struct Frame<'a>(Id, &'a Stage);

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.1.note(self.0, What::Drop);
    }
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn play<'a>(node: &'a Node, stage: &'a Stage) -> Pin<Box<dyn Future<Output = Flow> + 'a>> {
    Box::pin(async move {
        let id = node.id;
        stage.note(id, What::Begin);
        let _frame = Frame(id, stage);
        let result = play_kind(node, stage).await;
        stage.note(id, What::End);
        result
    })
}

async fn play_kind(node: &Node, stage: &Stage) -> Flow {
    let id = node.id;
    match &node.kind {
        Kind::Sleep(after) => sleep(ms(*after)).await,
        Kind::Yield(n_times) => {
            for _ in 0..*n_times {
                yield_now().await;
                stage.note(id, What::Step);
            }
        }
        Kind::Fail(after) => {
            sleep(ms(*after)).await;
            return Err(Failure::Of(id));
        }
        Kind::Panic(after) => {
            sleep(ms(*after)).await;
            // Says nothing on standard error.
            resume_unwind(Box::new(Planned(id)));
        }
        Kind::Sequence(steps) => {
            for step in steps {
                play(step, stage).await?;
                stage.note(id, What::Step);
            }
        }
        Kind::Group(group) if group.is_fallible => {
            let result = play_fallible(id, group, stage).await;
            stage.note(id, What::GroupEnd(result));
            return result;
        }
        Kind::Group(group) => {
            let result = play_plain(id, group, stage).await;
            stage.note(id, What::GroupEnd(result));
            return result;
        }
        Kind::Bracket { usage, release } => {
            let release = async |()| {
                stage.note(id, What::ReleaseBegin);
                let _ = play(release, stage).await;
                stage.note(id, What::ReleaseEnd);
            };
            return bracket((), async |()| play(usage, stage).await, release).await;
        }
        Kind::Shield(inner) => return shield(play(inner, stage)).await,
        Kind::Timeout(limit, inner) => {
            return timeout(ms(*limit), play(inner, stage)).await.unwrap_or(Ok(()));
        }
        Kind::Race(racers) => return xiio::race(racers.iter().map(|racer| play_member(id, racer, stage))).await,
        Kind::Gather(members) => {
            xiio::gather(members.iter().map(|member| play_member(id, member, stage))).await;
        }
        Kind::Foreign { has_branches, one, two } => {
            let (one, two) = (play(one, stage), play(two, stage));
            let (one, two) =
                if *has_branches { futures::join!(branch(one), branch(two)) } else { futures::join!(one, two) };
            return one.and(two);
        }
    }
    Ok(())
}

/// Plays a member of a group and notes what it comes to, as its last act.
async fn play_member(group: Id, member: &Node, stage: &Stage) -> Flow {
    let played = AssertUnwindSafe(play(member, stage)).catch_unwind().await;
    stage.note(group, What::MemberEnd(member.id, played.as_ref().ok().copied()));
    played.unwrap_or_else(|panic| resume_unwind(panic))
}

const NEVER: Duration = Duration::MAX;

macro_rules! play_in {
    ($tg:ident, $id:ident, $group:ident, $stage:ident) => {{
        for cleanup in &$group.deferred {
            $tg.defer(async move {
                let _ = play(cleanup, $stage).await;
            });
        }
        for task in &$group.tasks {
            $tg.spawn(play_member($id, task, $stage));
        }
        if let Some((after, task)) = &$group.late {
            $tg.spawn(async move {
                sleep(ms(*after)).await;
                $tg.spawn(play_member($id, task, $stage));
                Flow::Ok(())
            });
        }
        if let Some(after) = $group.cancels_after {
            $tg.spawn(async move {
                sleep(ms(after)).await;
                $stage.note($id, What::CancelTasks);
                $tg.cancel();
                Flow::Ok(())
            });
        }
    }};
}

async fn play_plain(id: Id, group: &Group, stage: &Stage) -> Flow {
    let (limit, grace) = (group.n_at_once.unwrap_or(usize::MAX), group.grace.map_or(NEVER, ms));
    let ended: Result<(), Elapsed> = task_group!(timeout = group.timeout.map(ms), limit = limit, grace = grace, |tg| {
        play_in!(tg, id, group, stage);
        play_member(id, &group.body, stage).await?;
    });
    // Over its time limit, it is a group without a value.
    let _ = ended;
    Ok(())
}

async fn play_fallible(id: Id, group: &Group, stage: &Stage) -> Flow {
    let (limit, grace) = (group.n_at_once.unwrap_or(usize::MAX), group.grace.map_or(NEVER, ms));
    try_task_group!(timeout = group.timeout.map(ms), limit = limit, grace = grace, |tg| {
        play_in!(tg, id, group, stage);
        play_member(id, &group.body, stage).await?;
    })
}
