//! What must hold of any run of any plan, whatever the schedule: ties or none.

use std::collections::HashMap;

use crate::plan::{Group, Id, Kind, Node, Plan};
use crate::play::{Event, Failure, What};

/// How a node hangs on the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    /// Cancelled with the one above, at once.
    Plain,
    /// A member of a group; its number names it.
    Body,
    Task,
    /// Cleanup, or shielded: runs on when the one above is cancelled.
    Kept,
    Usage,
}

struct Place<'a> {
    node: &'a Node,
    parent: Option<(Id, Edge)>,
    /// A grace above may cut it off in its cleanup.
    is_killable: bool,
}

struct Laws<'a> {
    places: Vec<Place<'a>>,
    /// Where in the list of events the first one of a kind is.
    first: HashMap<(Id, Mark), usize>,
    events: &'a [Event],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mark {
    Begin,
    End,
    Drop,
    ReleaseBegin,
    ReleaseEnd,
}

fn mark(what: What) -> Option<Mark> {
    Some(match what {
        What::Begin => Mark::Begin,
        What::End => Mark::End,
        What::Drop => Mark::Drop,
        What::ReleaseBegin => Mark::ReleaseBegin,
        What::ReleaseEnd => Mark::ReleaseEnd,
        _ => return None,
    })
}

/// Checks the events of a run against the laws.
pub(crate) fn check(plan: &Plan, events: &[Event]) -> Result<(), String> {
    let mut laws = Laws { places: Vec::with_capacity(plan.n_nodes), first: HashMap::new(), events };
    laws.place(&plan.root, None, false);
    laws.everything_happens_once()?;
    for id in 0..laws.places.len() {
        laws.ends_inside_of_its_parent(id)?;
        laws.is_released(id)?;
    }
    laws.nothing_cancelled_runs_on()?;
    laws.first_failure_wins()
}

impl<'a> Laws<'a> {
    fn place(&mut self, node: &'a Node, parent: Option<(Id, Edge)>, is_killable: bool) {
        assert_eq!(self.places.len(), node.id, "nodes are numbered in the order of this walk");
        self.places.push(Place { node, parent, is_killable });
        let mut below = |inner: &'a Node, edge: Edge, kills: bool| {
            self.place(inner, Some((node.id, edge)), is_killable || kills);
        };
        match &node.kind {
            Kind::Sleep(_) | Kind::Yield(_) | Kind::Fail(_) | Kind::Panic(_) => {}
            Kind::Sequence(steps) => steps.iter().for_each(|step| below(step, Edge::Plain, false)),
            Kind::Group(group) => place_group(group, &mut below),
            Kind::Bracket { usage, release } => {
                below(usage, Edge::Usage, false);
                below(release, Edge::Kept, false);
            }
            Kind::Shield(inner) => below(inner, Edge::Kept, false),
            Kind::Timeout(_, inner) => below(inner, Edge::Plain, false),
            Kind::Race(members) | Kind::Gather(members) => {
                members.iter().for_each(|member| below(member, Edge::Task, false));
            }
            Kind::Foreign { one, two, .. } => {
                below(one, Edge::Plain, false);
                below(two, Edge::Plain, false);
            }
        }
    }

    fn at(&self, id: Id, mark: Mark) -> Option<usize> {
        self.first.get(&(id, mark)).copied()
    }

    fn ancestors(&self, id: Id) -> impl Iterator<Item = (Id, Id, Edge)> {
        let mut below = id;
        std::iter::from_fn(move || {
            let (above, edge) = self.places[below].parent?;
            let step = (below, above, edge);
            below = above;
            Some(step)
        })
    }

    fn everything_happens_once(&mut self) -> Result<(), String> {
        for (idx, event) in self.events.iter().enumerate() {
            let Some(mark) = mark(event.what) else { continue };
            if let Some(before) = self.first.insert((event.id, mark), idx) {
                return Err(format!("node {}: {mark:?} at events {before} and {idx}", event.id));
            }
        }
        for (idx, event) in self.events.iter().enumerate() {
            let gone = self.at(event.id, Mark::Drop).ok_or_else(|| format!("node {} is never dropped", event.id))?;
            // A group's value, and what its members come to, is noted inside of its frame.
            if gone < idx {
                return Err(format!("node {} does something after it is gone, event {idx}", event.id));
            }
        }
        Ok(())
    }

    fn ends_inside_of_its_parent(&self, id: Id) -> Result<(), String> {
        let (Some((parent, _)), Some(gone)) = (self.places[id].parent, self.at(id, Mark::Drop)) else { return Ok(()) };
        let parent_gone = self.at(parent, Mark::End).or(self.at(parent, Mark::Drop));
        if parent_gone.is_none_or(|parent_gone| parent_gone < gone) {
            return Err(format!("node {id} outlives node {parent}, which it belongs to"));
        }
        Ok(())
    }

    fn is_released(&self, id: Id) -> Result<(), String> {
        let Kind::Bracket { usage, release } = &self.places[id].node.kind else { return Ok(()) };
        let Some(_) = self.at(usage.id, Mark::Begin) else { return Ok(()) };
        let Some(begun) = self.at(id, Mark::ReleaseBegin) else {
            let killable = self.places[id].is_killable;
            return if killable { Ok(()) } else { Err(format!("bracket {id} is not released")) };
        };
        if self.at(usage.id, Mark::Drop).is_none_or(|used| used > begun) {
            return Err(format!("bracket {id} is released while it is used"));
        }
        let may_not_end = self.places[id].is_killable || may_panic(release);
        if !may_not_end && self.at(id, Mark::ReleaseEnd).is_none() {
            return Err(format!("the release of bracket {id} is cut off"));
        }
        Ok(())
    }

    /// Whether code of its own, not cleanup, is what the event is of.
    fn is_own_code(event: &Event) -> bool {
        matches!(
            event.what,
            What::Begin | What::Step | What::End | What::CancelTasks | What::MemberEnd(..) | What::GroupEnd(_)
        )
    }

    fn nothing_cancelled_runs_on(&self) -> Result<(), String> {
        // Groups whose members have been cancelled: by which member, or all tasks.
        let mut failed: HashMap<Id, Id> = HashMap::new();
        let mut cancelled: HashMap<Id, usize> = HashMap::new();
        for (idx, event) in self.events.iter().enumerate() {
            if Self::is_own_code(event) {
                self.is_not_cancelled(event, &failed, &cancelled).map_err(|why| format!("event {idx}: {why}"))?;
            }
            match event.what {
                What::MemberEnd(member, _) if self.is_failure(event) => {
                    failed.entry(event.id).or_insert(member);
                }
                What::CancelTasks => {
                    cancelled.entry(event.id).or_insert(idx);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_not_cancelled(
        &self,
        event: &Event,
        failed: &HashMap<Id, Id>,
        cancelled: &HashMap<Id, usize>,
    ) -> Result<(), String> {
        // What a member comes to is noted by the member.
        let who = match event.what {
            What::MemberEnd(member, _) => member,
            _ => event.id,
        };
        for (below, above, edge) in self.ancestors(who) {
            if edge == Edge::Kept {
                // Only what had begun goes on.
                return Ok(());
            }
            if let Kind::Timeout(limit, inner) = &self.places[above].node.kind {
                let begun = self.at(inner.id, Mark::Begin).map_or(0, |idx| self.events[idx].at);
                if event.at > begun + limit {
                    return Err(format!("node {who} runs on though timeout {above} is over"));
                }
            }
            if matches!(edge, Edge::Body | Edge::Task) && failed.get(&above).is_some_and(|&first| first != below) {
                return Err(format!("node {who} runs on though a member of group {above} has failed"));
            }
            // Spawned before the cancellation, or it would run.
            if edge == Edge::Task && cancelled.contains_key(&above) {
                return Err(format!("node {who} runs on though the tasks of group {above} are cancelled"));
            }
        }
        Ok(())
    }

    /// Whether what a member comes to cancels the others.
    fn is_failure(&self, event: &Event) -> bool {
        let What::MemberEnd(member, ended) = event.what else { return false };
        let is_body = self.places[member].parent.is_some_and(|(_, edge)| edge == Edge::Body);
        match (ended, &self.places[event.id].node.kind) {
            (None, _) | (Some(_), Kind::Race(_)) => true,
            (Some(Err(_)), Kind::Group(group)) => is_body || group.is_fallible,
            _ => false,
        }
    }

    fn first_failure_wins(&self) -> Result<(), String> {
        let mut first: HashMap<Id, &Event> = HashMap::new();
        for event in self.events {
            if self.is_failure(event) {
                first.entry(event.id).or_insert(event);
            }
            let What::GroupEnd(result) = event.what else { continue };
            let Kind::Group(group) = &self.places[event.id].node.kind else { continue };
            let expected = match first.get(&event.id).map(|failure| (failure.at, failure.what)) {
                Some((at, What::MemberEnd(_, Some(failure)))) if !self.may_be_over(event.id, group, at) => failure,
                Some((at, What::MemberEnd(_, None))) if !self.may_be_over(event.id, group, at) => {
                    return Err(format!("group {} comes to {result:?}, but a member has panicked", event.id));
                }
                // What is left is the time limit.
                _ if group.timeout.is_some() => continue,
                _ => Ok(()),
            };
            if result != expected || (result == Err(Failure::Elapsed) && group.timeout.is_none()) && first.is_empty() {
                return Err(format!("group {} comes to {result:?}, not to {expected:?}", event.id));
            }
        }
        Ok(())
    }

    /// Whether the time limit of the group may have come first.
    fn may_be_over(&self, id: Id, group: &Group, at: u64) -> bool {
        let begun = self.at(id, Mark::Begin).map_or(0, |idx| self.events[idx].at);
        group.timeout.is_some_and(|timeout| begun + timeout <= at)
    }
}

fn place_group<'a>(group: &'a Group, below: &mut dyn FnMut(&'a Node, Edge, bool)) {
    let kills = group.grace.is_some();
    below(&group.body, Edge::Body, kills);
    group.tasks.iter().for_each(|task| below(task, Edge::Task, kills));
    if let Some((_, task)) = &group.late {
        below(task, Edge::Task, kills);
    }
    group.deferred.iter().for_each(|cleanup| below(cleanup, Edge::Kept, kills));
}

fn may_panic(node: &Node) -> bool {
    match &node.kind {
        Kind::Sleep(_) | Kind::Yield(_) | Kind::Fail(_) => false,
        Kind::Panic(_) => true,
        Kind::Sequence(nodes) | Kind::Race(nodes) | Kind::Gather(nodes) => nodes.iter().any(may_panic),
        Kind::Group(group) => {
            let late = group.late.iter().map(|(_, task)| &**task);
            group.tasks.iter().chain([&*group.body]).chain(late).chain(&group.deferred).any(may_panic)
        }
        Kind::Bracket { usage, release } => may_panic(usage) || may_panic(release),
        Kind::Shield(inner) | Kind::Timeout(_, inner) => may_panic(inner),
        Kind::Foreign { .. } => false,
    }
}
