//! The reference: what a plan without ties comes to, computed from the laws without any polling.
//!
//! Every node is a function of the instant at which it starts and of the instant at which it is cancelled. Members of a
//! group are computed twice: once as if nothing happened, which shows when the first failure comes, and once cancelled then.

use std::collections::BTreeSet;

use crate::plan::{Group, Id, Kind, Node, Plan};
use crate::play::{Event, Failure, Flow, What};

/// Milliseconds since the start of the run.
type Time = u64;
const NEVER: Time = Time::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Value(Flow),
    Panic(Id),
    /// Cancelled before it came to a value, with the first panic of its cleanup.
    Cancelled(Option<Id>),
}

impl Outcome {
    fn panic(self) -> Option<Id> {
        match self {
            Self::Panic(id) | Self::Cancelled(Some(id)) => Some(id),
            Self::Value(_) | Self::Cancelled(None) => None,
        }
    }

    /// What it is for one who was cancelled meanwhile.
    fn cancelled(self) -> Self {
        Self::Cancelled(self.panic())
    }

    /// What remains when the one who cancelled it goes on.
    fn unwound(self) -> Option<Self> {
        match self {
            Self::Cancelled(None) => None,
            Self::Cancelled(Some(id)) => Some(Self::Panic(id)),
            ended => Some(ended),
        }
    }
}

/// The events that the model knows the instants of, in an order for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact(pub(crate) Time, pub(crate) Id, pub(crate) Landmark);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Landmark {
    Begin,
    End,
    ReleaseBegin,
    ReleaseEnd,
}

impl Fact {
    /// The fact that an event of a run is, if it is one.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let landmark = match event.what {
            What::Begin => Landmark::Begin,
            What::End => Landmark::End,
            What::ReleaseBegin => Landmark::ReleaseBegin,
            What::ReleaseEnd => Landmark::ReleaseEnd,
            _ => return None,
        };
        Some(Self(event.at, event.id, landmark))
    }
}

struct Life {
    end: Time,
    outcome: Outcome,
    facts: Vec<Fact>,
}

impl Life {
    /// Cuts the cleanup of a cancelled node off at `kill`. Panics that it has kept until then are no more than reported.
    fn cut_off(&mut self, kill: Time) {
        if kill < self.end {
            (self.end, self.outcome) = (kill, Outcome::Cancelled(None));
            self.facts.retain(|&Fact(at, ..)| at < kill);
        }
    }
}

/// What a run of the plan has to come to: its value or the panic of a node, and every fact.
pub(crate) fn predict(plan: &Plan) -> (Result<Flow, Id>, BTreeSet<Fact>) {
    let life = live(&plan.root, 0, NEVER);
    let result = match life.outcome {
        Outcome::Value(flow) => Ok(flow),
        Outcome::Panic(id) => Err(id),
        Outcome::Cancelled(_) => unreachable!("nobody cancels the root"),
    };
    (result, life.facts.into_iter().collect())
}

/// The life of a node that starts at `start` and is cancelled at `cancel`, if it lives so long. An
/// instant has one cause: what ends at `cancel` by itself is what caused it.
fn live(node: &Node, start: Time, cancel: Time) -> Life {
    let begun = Fact(start, node.id, Landmark::Begin);
    let mut life = live_kind(node, start, cancel);
    life.facts.push(begun);
    if let Outcome::Value(_) = life.outcome {
        life.facts.push(Fact(life.end, node.id, Landmark::End));
    }
    life
}

/// A leaf that would come to `outcome` at `end`.
fn leaf(end: Time, cancel: Time, outcome: Outcome) -> Life {
    let facts = Vec::new();
    if cancel < end {
        Life { end: cancel, outcome: Outcome::Cancelled(None), facts }
    } else {
        Life { end, outcome, facts }
    }
}

fn live_kind(node: &Node, start: Time, cancel: Time) -> Life {
    let id = node.id;
    match &node.kind {
        Kind::Sleep(after) => leaf(start + after, cancel, Outcome::Value(Ok(()))),
        Kind::Yield(_) => leaf(start, cancel, Outcome::Value(Ok(()))),
        Kind::Fail(after) => leaf(start + after, cancel, Outcome::Value(Err(Failure::Of(id)))),
        Kind::Panic(after) => leaf(start + after, cancel, Outcome::Panic(id)),
        Kind::Sequence(steps) => live_sequence(steps, start, cancel),
        Kind::Bracket { usage, release } => live_bracket(id, usage, release, start, cancel),
        Kind::Shield(inner) => {
            let mut life = live(inner, start, NEVER);
            if cancel < life.end {
                life.outcome = life.outcome.cancelled();
            }
            life
        }
        Kind::Timeout(limit, inner) => {
            let deadline = start + limit;
            let mut life = live(inner, start, cancel.min(deadline));
            if deadline <= cancel && matches!(life.outcome, Outcome::Cancelled(_)) {
                life.outcome = life.outcome.unwound().unwrap_or(Outcome::Value(Ok(())));
                if cancel < life.end {
                    life.outcome = life.outcome.cancelled();
                }
            }
            life
        }
        Kind::Foreign { one, two, .. } => {
            let (mut one, two) = (live(one, start, cancel), live(two, start, cancel));
            let outcome = match (one.outcome, two.outcome) {
                (Outcome::Value(one), Outcome::Value(two)) => Outcome::Value(one.and(two)),
                _ => Outcome::Cancelled(None),
            };
            one.facts.extend(two.facts);
            Life { end: one.end.max(two.end), outcome, facts: one.facts }
        }
        Kind::Group(group) => Members::of_group(group).live(start, cancel),
        Kind::Gather(members) => Members::new(members, Fails::Panic).live(start, cancel),
        Kind::Race(racers) => Members::new(racers, Fails::AnyEnd).live(start, cancel),
    }
}

fn live_sequence(steps: &[Node], start: Time, cancel: Time) -> Life {
    let mut whole = Life { end: start, outcome: Outcome::Value(Ok(())), facts: Vec::new() };
    for step in steps {
        let life = live(step, whole.end, cancel);
        whole.facts.extend(life.facts);
        (whole.end, whole.outcome) = (life.end, life.outcome);
        if whole.outcome != Outcome::Value(Ok(())) {
            break;
        }
    }
    whole
}

fn live_bracket(id: Id, usage: &Node, release: &Node, start: Time, cancel: Time) -> Life {
    let mut life = live(usage, start, cancel);
    life.facts.push(Fact(life.end, id, Landmark::ReleaseBegin));
    let released = live(release, life.end, NEVER);
    life.facts.extend(released.facts);
    life.end = released.end;
    match released.outcome {
        Outcome::Panic(panic) if life.outcome.panic().is_none() => life.outcome = Outcome::Panic(panic),
        Outcome::Panic(_) => {}
        _ => life.facts.push(Fact(released.end, id, Landmark::ReleaseEnd)),
    }
    if cancel < life.end {
        life.outcome = life.outcome.cancelled();
    }
    life
}

/// What of a member is a failure of its group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Panic,
    /// As well as an error of a task.
    Error,
    /// Whatever a task comes to: it has won.
    AnyEnd,
}

struct Members<'a> {
    body: Option<&'a Node>,
    tasks: &'a [Node],
    late: Option<(Time, &'a Node)>,
    cancels_after: Option<Time>,
    deferred: &'a [Node],
    n_at_once: usize,
    timeout: Option<Time>,
    grace: Option<Time>,
    fails: Fails,
}

/// The lives of all members, as far as nothing but `cancel_body` and `cancel_tasks` comes between.
struct Round {
    end: Time,
    first_failure: Option<(Time, Outcome)>,
    /// Also in the cleanup of what was cancelled.
    first_panic: Option<(Time, Id)>,
    /// When a task cancels the tasks.
    tasks_cancelled: Time,
    facts: Vec<Fact>,
}

impl Round {
    fn add(&mut self, life: Life, is_failure: impl FnOnce(Outcome) -> bool) {
        self.facts.extend(life.facts);
        self.end = self.end.max(life.end);
        if let Some(panic) = life.outcome.panic()
            && self.first_panic.is_none_or(|(before, _)| life.end < before)
        {
            self.first_panic = Some((life.end, panic));
        }
        if let Some(outcome) = life.outcome.unwound()
            && is_failure(outcome)
            && self.first_failure.is_none_or(|(before, _)| life.end < before)
        {
            self.first_failure = Some((life.end, outcome));
        }
    }
}

/// A task that waits for its turn.
enum Waiting<'a> {
    Member(&'a Node),
    Late(Time, &'a Node),
    Canceller(Time),
}

impl<'a> Members<'a> {
    fn new(tasks: &'a [Node], fails: Fails) -> Self {
        Self {
            body: None,
            tasks,
            late: None,
            cancels_after: None,
            deferred: &[],
            n_at_once: usize::MAX,
            timeout: None,
            grace: None,
            fails,
        }
    }

    fn of_group(group: &'a Group) -> Self {
        Self {
            body: Some(&group.body),
            tasks: &group.tasks,
            late: group.late.as_ref().map(|(after, task)| (*after, &**task)),
            cancels_after: group.cancels_after,
            deferred: &group.deferred,
            n_at_once: group.n_at_once.unwrap_or(usize::MAX),
            timeout: group.timeout,
            grace: group.grace,
            fails: if group.is_fallible { Fails::Error } else { Fails::Panic },
        }
    }

    fn is_failure(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Panic(_) => true,
            Outcome::Value(Err(_)) => self.fails != Fails::Panic,
            Outcome::Value(Ok(())) => self.fails == Fails::AnyEnd,
            Outcome::Cancelled(_) => false,
        }
    }

    /// The tasks that are cancelled clean up until `kill_tasks`.
    fn round(&self, start: Time, cancel_body: Time, cancel_tasks: Time, kill_tasks: Time) -> Round {
        let mut round =
            Round { end: start, first_failure: None, first_panic: None, tasks_cancelled: NEVER, facts: Vec::new() };
        if let Some(body) = self.body {
            let is_failure = |outcome| !matches!(outcome, Outcome::Value(Ok(())));
            round.add(live(body, start, cancel_body), is_failure);
        }
        let mut waiting: Vec<_> = self.tasks.iter().map(|task| (start, Waiting::Member(task))).collect();
        waiting.extend(self.late.map(|(after, task)| (start, Waiting::Late(after, task))));
        waiting.extend(self.cancels_after.map(|after| (start, Waiting::Canceller(after))));
        waiting.reverse();
        let mut running: Vec<Time> = Vec::new();
        while let Some((spawned, task)) = waiting.pop() {
            let begin = self.place_at(spawned, &mut running);
            if begin >= cancel_tasks {
                break;
            }
            let end = match task {
                Waiting::Member(task) => {
                    let mut life = live(task, begin, cancel_tasks);
                    life.cut_off(kill_tasks);
                    let end = life.end;
                    round.add(life, |outcome| self.is_failure(outcome));
                    end
                }
                Waiting::Late(after, task) => {
                    if begin + after < cancel_tasks {
                        // Nothing is spawned later than this one.
                        waiting.insert(0, (begin + after, Waiting::Member(task)));
                    }
                    (begin + after).min(cancel_tasks)
                }
                Waiting::Canceller(after) => {
                    if begin + after < cancel_tasks {
                        round.tasks_cancelled = begin + after;
                    }
                    (begin + after).min(cancel_tasks)
                }
            };
            round.end = round.end.max(end);
            running.push(end);
        }
        round
    }

    /// When a task that is spawned at `spawned` begins, all that were spawned before having begun.
    fn place_at(&self, spawned: Time, running: &mut Vec<Time>) -> Time {
        if running.len() < self.n_at_once {
            return spawned;
        }
        let first = (0..running.len()).min_by_key(|&idx| running[idx]).expect("a group of at least one at once");
        running.swap_remove(first).max(spawned)
    }

    /// The first of what ends the group early, if it comes before `end`; with its outcome, `None` if that is a cancellation.
    fn first_cause(&self, failure: Option<Cause>, start: Time, cancel: Time, end: Time) -> Option<Cause> {
        let elapsed = match self.fails {
            Fails::Error => Outcome::Value(Err(Failure::Elapsed)),
            Fails::Panic | Fails::AnyEnd => Outcome::Value(Ok(())),
        };
        let deadline = self.timeout.map(|timeout| Cause { at: start.saturating_add(timeout), outcome: elapsed });
        let cancelled = Cause { at: cancel, outcome: Outcome::Cancelled(None) };
        let from_outside = deadline.into_iter().chain([cancelled]).filter(|cause| cause.at < end);
        // An instant has one cause, unless it is the parent's: that one follows from the others.
        failure.into_iter().chain(from_outside).min_by_key(|cause| cause.at)
    }

    fn live(&self, start: Time, cancel: Time) -> Life {
        let tasks_cancelled = self.round(start, NEVER, NEVER, NEVER).tasks_cancelled;
        let kill_tasks = self.grace.map_or(NEVER, |grace| tasks_cancelled.saturating_add(grace));
        let alone = self.round(start, NEVER, tasks_cancelled, kill_tasks);
        let failure = alone.first_failure.map(|(at, outcome)| Cause { at, outcome });
        let mut cause = self.first_cause(failure, start, cancel, alone.end);
        let stopped = cause.map_or(NEVER, |cause| cause.at);
        // Once the group as a whole is cancelled its grace is that of all.
        let kill_tasks = if stopped < kill_tasks { NEVER } else { kill_tasks };
        let Round { mut end, mut facts, first_panic, .. } =
            self.round(start, stopped, tasks_cancelled.min(stopped), kill_tasks);
        let mut is_killed = self.kill(cause, &mut end, &mut facts);
        let mut panic = first_panic.filter(|(at, _)| *at <= end).map(|(_, panic)| panic);
        for cleanup in self.deferred.iter().rev() {
            if is_killed {
                break;
            }
            let life = live(cleanup, end, NEVER);
            end = life.end;
            facts.extend(life.facts);
            if cause.is_none() {
                // The time limit is one for the members, and they have ended.
                let panic = life.outcome.panic().map(|_| Cause { at: end, outcome: life.outcome });
                cause = self.first_cause(panic, NEVER, cancel, end);
            }
            is_killed = self.kill(cause, &mut end, &mut facts);
            if !is_killed {
                panic = panic.or(life.outcome.panic());
            }
        }
        // A panic is thrown in place of whatever has ended the group.
        let ended = cause.map_or(Outcome::Value(Ok(())), |cause| cause.outcome);
        let mut outcome = panic.map_or(ended, Outcome::Panic);
        if cancel < end {
            outcome = outcome.cancelled();
        }
        Life { end, outcome, facts }
    }

    /// Cuts off what is not over when the grace is.
    fn kill(&self, cause: Option<Cause>, end: &mut Time, facts: &mut Vec<Fact>) -> bool {
        let kill = cause.and_then(|cause| Some(cause.at + self.grace?)).unwrap_or(NEVER);
        let is_late = kill < *end;
        if is_late {
            *end = kill;
            facts.retain(|&Fact(at, ..)| at < kill);
        }
        is_late
    }
}

/// Why a group ends before its members have.
#[derive(Clone, Copy)]
struct Cause {
    at: Time,
    /// What the group comes to by it.
    outcome: Outcome,
}
