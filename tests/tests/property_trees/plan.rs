//! What a random tree is: its shape as it is drawn and shrunk, and the plan that is made of it.

use proptest::prelude::*;

/// The number of a node in its plan, in the order of a walk from the root.
pub(crate) type Id = usize;

/// Durations of a plan without ties are a multiple of this, and one bit of their own below it.
const COARSE_BITS: u32 = 36;

/// A node as it is drawn. Durations are small numbers.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Sleep(u8),
    Yield(u8),
    /// Sleeps, then fails with its number.
    Fail(u8),
    /// Sleeps, then panics with its number.
    Panic(u8),
    Sequence(Vec<Shape>),
    Group(GroupShape),
    Bracket(Box<Shape>, Box<Shape>),
    Shield(Box<Shape>),
    Timeout(u8, Box<Shape>),
    Race(Vec<Shape>),
    Gather(Vec<Shape>),
    /// `futures::join!`, over `branch`es or not. Nothing in it panics, as that combinator would drop the others.
    Foreign {
        has_branches: bool,
        one: Box<Shape>,
        two: Box<Shape>,
    },
}

/// A group with everything a group may have.
#[derive(Debug, Clone)]
pub(crate) struct GroupShape {
    is_fallible: bool,
    body: Box<Shape>,
    tasks: Vec<Shape>,
    /// A task that sleeps, then spawns.
    late: Option<(u8, Box<Shape>)>,
    /// A task that sleeps, then cancels all tasks.
    cancels_after: Option<u8>,
    deferred: Vec<Shape>,
    n_at_once: Option<u8>,
    timeout: Option<u8>,
    grace: Option<u8>,
}

/// A node of a plan. Durations are milliseconds.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Sleep(u64),
    Yield(u8),
    Fail(u64),
    Panic(u64),
    Sequence(Vec<Node>),
    Group(Group),
    Bracket { usage: Box<Node>, release: Box<Node> },
    Shield(Box<Node>),
    Timeout(u64, Box<Node>),
    Race(Vec<Node>),
    Gather(Vec<Node>),
    Foreign { has_branches: bool, one: Box<Node>, two: Box<Node> },
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) is_fallible: bool,
    pub(crate) body: Box<Node>,
    pub(crate) tasks: Vec<Node>,
    pub(crate) late: Option<(u64, Box<Node>)>,
    pub(crate) cancels_after: Option<u64>,
    pub(crate) deferred: Vec<Node>,
    pub(crate) n_at_once: Option<usize>,
    pub(crate) timeout: Option<u64>,
    pub(crate) grace: Option<u64>,
}

/// A tree that can be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    pub(crate) n_nodes: usize,
    /// No two things happen at one instant unless one is the cause of the other, so what happens does not depend on the
    /// schedule.
    pub(crate) is_without_ties: bool,
}

/// A random tree.
pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        4 => (0..8u8).prop_map(Shape::Sleep),
        1 => (0..4u8).prop_map(Shape::Yield),
        1 => (0..8u8).prop_map(Shape::Fail),
        1 => (0..8u8).prop_map(Shape::Panic),
    ];
    leaf.prop_recursive(6, 400, 3, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let some = |range| prop::collection::vec(inner.clone(), range);
        prop_oneof![
            3 => some(1..4).prop_map(Shape::Sequence),
            5 => group(inner.clone()).prop_map(Shape::Group),
            4 => (boxed(), boxed()).prop_map(|(usage, release)| Shape::Bracket(usage, release)),
            2 => boxed().prop_map(Shape::Shield),
            3 => (0..8u8, boxed()).prop_map(|(limit, inner)| Shape::Timeout(limit, inner)),
            2 => some(1..4).prop_map(Shape::Race),
            2 => some(0..4).prop_map(Shape::Gather),
            1 => (any::<bool>(), boxed(), boxed())
                .prop_map(|(has_branches, one, two)| Shape::Foreign { has_branches, one, two }),
        ]
    })
}

fn group(inner: impl Strategy<Value = Shape> + Clone + 'static) -> impl Strategy<Value = GroupShape> {
    let boxed = inner.clone().prop_map(Box::new);
    let rarely = |range: std::ops::Range<u8>| prop::option::weighted(0.2, range);
    let late = prop::option::weighted(0.2, (0..8u8, boxed.clone()));
    let tasks = prop::collection::vec(inner.clone(), 0..4);
    let deferred = prop::collection::vec(inner, 0..3);
    let options = (rarely(1..4), rarely(0..8), rarely(0..8));
    (any::<bool>(), boxed, tasks, late, rarely(0..8), deferred, options).prop_map(
        |(is_fallible, body, tasks, late, cancels_after, deferred, (n_at_once, timeout, grace))| GroupShape {
            is_fallible,
            body,
            tasks,
            late,
            cancels_after,
            deferred,
            n_at_once,
            timeout,
            grace,
        },
    )
}

impl Plan {
    /// Numbers the nodes of a shape and gives out the durations.
    pub(crate) fn new(shape: &Shape, wants_ties: bool) -> Self {
        let mut planner = Planner { n_nodes: 0, n_durations: 0, has_ties: wants_ties, is_calm: false };
        let root = planner.node(shape);
        let has_ties = wants_ties || planner.n_durations > COARSE_BITS;
        Self { root, n_nodes: planner.n_nodes, is_without_ties: !has_ties }
    }
}

struct Planner {
    n_nodes: usize,
    n_durations: u32,
    has_ties: bool,
    /// Inside of something that panics must not leave.
    is_calm: bool,
}

impl Planner {
    /// Without ties every duration has a bit of its own, so no two sums of different durations are equal.
    fn duration(&mut self, coarse: u8) -> u64 {
        if self.has_ties {
            return coarse.into();
        }
        let bit = 1 << (self.n_durations % COARSE_BITS);
        self.n_durations += 1;
        (u64::from(coarse) << COARSE_BITS) + bit
    }

    fn node(&mut self, shape: &Shape) -> Node {
        let id = self.n_nodes;
        self.n_nodes += 1;
        Node { id, kind: self.kind(shape) }
    }

    fn boxed(&mut self, shape: &Shape) -> Box<Node> {
        Box::new(self.node(shape))
    }

    fn nodes(&mut self, shapes: &[Shape]) -> Vec<Node> {
        shapes.iter().map(|shape| self.node(shape)).collect()
    }

    fn kind(&mut self, shape: &Shape) -> Kind {
        match shape {
            Shape::Sleep(coarse) => Kind::Sleep(self.duration(*coarse)),
            Shape::Yield(n_times) => Kind::Yield(*n_times),
            Shape::Fail(coarse) => Kind::Fail(self.duration(*coarse)),
            Shape::Panic(coarse) if self.is_calm => Kind::Sleep(self.duration(*coarse)),
            Shape::Panic(coarse) => Kind::Panic(self.duration(*coarse)),
            Shape::Sequence(steps) => Kind::Sequence(self.nodes(steps)),
            Shape::Group(group) => Kind::Group(self.group(group)),
            Shape::Bracket(usage, release) => Kind::Bracket { usage: self.boxed(usage), release: self.boxed(release) },
            Shape::Shield(inner) => Kind::Shield(self.boxed(inner)),
            Shape::Timeout(limit, inner) => Kind::Timeout(self.duration(*limit), self.boxed(inner)),
            Shape::Race(racers) => Kind::Race(racers.iter().map(|racer| self.racer(racer)).collect()),
            Shape::Gather(members) => Kind::Gather(self.nodes(members)),
            Shape::Foreign { has_branches, one, two } => {
                let outside = std::mem::replace(&mut self.is_calm, true);
                let (one, two) = (self.boxed(one), self.boxed(two));
                self.is_calm = outside;
                Kind::Foreign { has_branches: *has_branches, one, two }
            }
        }
    }

    /// Racers that end at once would all win; without ties each sleeps first.
    fn racer(&mut self, shape: &Shape) -> Node {
        if self.has_ties {
            return self.node(shape);
        }
        let id = self.n_nodes;
        self.n_nodes += 1;
        Node { id, kind: Kind::Sequence(vec![self.node(&Shape::Sleep(0)), self.node(shape)]) }
    }

    fn group(&mut self, group: &GroupShape) -> Group {
        Group {
            is_fallible: group.is_fallible,
            body: self.boxed(&group.body),
            tasks: self.nodes(&group.tasks),
            late: group.late.as_ref().map(|(coarse, inner)| (self.duration(*coarse), self.boxed(inner))),
            cancels_after: group.cancels_after.map(|coarse| self.duration(coarse)),
            deferred: self.nodes(&group.deferred),
            n_at_once: group.n_at_once.map(usize::from),
            timeout: group.timeout.map(|coarse| self.duration(coarse)),
            grace: group.grace.map(|coarse| self.duration(coarse)),
        }
    }
}
