//! The tree as data: the nodes that a drawing is made of, and the forms in which it is written.

mod dot;
mod json;

pub(crate) use json::string as json_string;

use std::borrow::Cow;
use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

/// What a task that gives way waits for.
pub(crate) const YIELD_NOW: &str = "yield_now";

/// What stands for what is too far in to be drawn.
pub(crate) const TOO_DEEP: &str = "more, too far in to be drawn";

/// A drawing has no more levels, with those that say [`TOO_DEEP`]. A tree is as deep as its program likes; but whoever copies, writes or drops the
/// drawing needs some stack for each level, on a thread of his own. `xiio-inspect` takes 1023.
const MAX_LEVELS: usize = 1000;

/// Something in the tree of tasks: a group, a task, a combinator, or what is waited for.
///
/// Its `Display` is one line, without its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    kind: Kind,
    state: State,
    /// It has no place among those that its group has at once.
    is_held: bool,
    cancelled_as: Option<Cow<'static, str>>,
    cancelled_ago: Option<Duration>,
    number: Option<u32>,
    age: Option<Duration>,
    n_polls: Option<u64>,
    busy: Option<Duration>,
    what: Cow<'static, str>,
    name: Option<Cow<'static, str>>,
    type_name: Option<&'static str>,
    spawned_at: Option<&'static Location<'static>>,
    locals: Vec<(&'static str, String)>,
    time_left: Option<Duration>,
    fd: Option<RawFd>,
    descriptor: Option<Cow<'static, str>>,
    address: Option<String>,
    peer: Option<String>,
    pid: Option<u32>,
    /// Of a group in a drawing that is no drawing of the tree: which workers it has, which were not asked.
    crew: Option<usize>,
    children: Vec<Node>,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A task group, or a combinator that is one underneath.
    Group,
    /// The body of a group.
    Body,
    /// A task of a group.
    Task,
    /// A future given to `defer`, running.
    Deferred,
    /// A limit of time: `timeout`, `deadline`.
    Limit,
    /// A `branch`, or another owner of a future that may be cancelled alone.
    Branch,
    /// A `bracket`.
    Bracket,
    /// A `shield`.
    Shield,
    /// A value of [`local!`](crate::local!) that is shown, for what is in it.
    Local,
    /// A child process that is waited for.
    Process,
    /// A job on a thread.
    Thread,
    /// A worker of a group, with how many tasks it has.
    Worker,
    /// A wait for time.
    Timer,
    /// A wait for a descriptor.
    Descriptor,
    /// A wait for a signal of the system.
    Signal,
    /// A wait for a promise, a task, or another thing of the runtime.
    Wait,
}

impl Kind {
    /// One word, as in the JSON form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Body => "body",
            Self::Task => "task",
            Self::Deferred => "deferred",
            Self::Limit => "limit",
            Self::Branch => "branch",
            Self::Bracket => "bracket",
            Self::Shield => "shield",
            Self::Local => "local",
            Self::Process => "process",
            Self::Thread => "thread",
            Self::Worker => "worker",
            Self::Timer => "timer",
            Self::Descriptor => "descriptor",
            Self::Signal => "signal",
            Self::Wait => "wait",
        }
    }
}

/// How far a [`Node`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It has not been polled yet.
    NotStarted,
    /// It goes on.
    Running,
    /// It was cancelled, and cleans up.
    CleaningUp,
}

impl State {
    /// In words, as in the JSON form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not started",
            Self::Running => "running",
            Self::CleaningUp => "cleaning up",
        }
    }
}

/// Where drawing code says what it knows.
impl Node {
    pub(crate) fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            state: State::Running,
            is_held: false,
            cancelled_as: None,
            cancelled_ago: None,
            number: None,
            age: None,
            n_polls: None,
            busy: None,
            what: what.into(),
            name: None,
            type_name: None,
            spawned_at: None,
            locals: Vec::new(),
            time_left: None,
            fd: None,
            descriptor: None,
            address: None,
            peer: None,
            pid: None,
            crew: None,
            children: Vec::new(),
        }
    }

    pub(crate) fn in_state(self, state: State) -> Self {
        Self { state, ..self }
    }

    pub(crate) fn held(self, is_held: bool) -> Self {
        Self { is_held, ..self }
    }

    /// It was cancelled, and why.
    pub(crate) fn cancelled_as(self, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { state: State::CleaningUp, cancelled_as: Some(reason.into()), ..self }
    }

    /// What cleans up was cancelled so long ago. What is known of the reason already is nearer to it.
    pub(crate) fn cancelled_since(self, ago: Duration, reason: Option<String>) -> Self {
        if self.state != State::CleaningUp {
            return self;
        }
        let cancelled_as = self.cancelled_as.or(reason.map(Cow::Owned));
        Self { cancelled_as, cancelled_ago: Some(ago), ..self }
    }

    pub(crate) fn numbered(self, number: u32) -> Self {
        Self { number: Some(number), ..self }
    }

    pub(crate) fn lived(self, age: Duration, n_polls: u64, busy: Duration) -> Self {
        Self { age: Some(age), n_polls: Some(n_polls), busy: Some(busy), ..self }
    }

    pub(crate) fn named(self, name: Option<Cow<'static, str>>) -> Self {
        Self { name, ..self }
    }

    pub(crate) fn of_type(self, type_name: &'static str) -> Self {
        Self { type_name: Some(type_name), ..self }
    }

    pub(crate) fn made_at(self, location: &'static Location<'static>) -> Self {
        self.made_where_known(Some(location))
    }

    pub(crate) fn made_where_known(self, location: Option<&'static Location<'static>>) -> Self {
        Self { spawned_at: location, ..self }
    }

    pub(crate) fn with_locals(self, locals: Vec<(&'static str, String)>) -> Self {
        Self { locals, ..self }
    }

    pub(crate) fn has_left(self, time_left: Option<Duration>) -> Self {
        Self { time_left, ..self }
    }

    pub(crate) fn watches(self, fd: RawFd) -> Self {
        Self { fd: Some(fd), ..self }
    }

    pub(crate) fn opened(self, kind: Cow<'static, str>, address: Option<String>, peer: Option<String>) -> Self {
        Self { descriptor: Some(kind), address, peer, ..self }
    }

    pub(crate) fn waits_for(self, pid: u32) -> Self {
        Self { pid: Some(pid), ..self }
    }
}

impl Node {
    /// Whether it or anything in it cleans up, or may; what is in it and does not goes.
    fn keep_cleaning_up(&mut self) -> bool {
        // A deferred cleanup is one, also where nothing was cancelled.
        let is_deferred = self.kind == Kind::Deferred && self.state == State::Running;
        // Among those that it stands for somebody may.
        if self.state == State::CleaningUp || is_deferred || self.what == TOO_DEEP {
            return true;
        }
        self.children.retain_mut(Self::keep_cleaning_up);
        !self.children.is_empty()
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Node {
    fn from(what: T) -> Self {
        Self::new(Kind::Wait, what)
    }
}

impl Node {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it was cancelled, in words behind "as", if that is known: what is in it was cancelled for the same reason.
    #[must_use]
    pub fn why_cancelled(&self) -> Option<&str> {
        self.cancelled_as.as_deref()
    }

    /// How long ago it was cancelled. Known while somebody may look from outside, or records.
    #[must_use]
    pub fn cancelled_ago(&self) -> Option<Duration> {
        self.cancelled_ago
    }

    /// What tells a task or a group from all others of its run, and is its track in a recording. Known while somebody may look from
    /// outside, or records.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.number
    }

    /// How long ago a task was spawned, or a group was first polled. Known while somebody may look from outside, or records.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// How often it was polled. Known while somebody may look from outside, or records.
    #[must_use]
    pub fn n_polls(&self) -> Option<u64> {
        self.n_polls
    }

    /// How long its polls have taken, without those of the tasks in it. Known while somebody may look from outside, or records.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        self.busy
    }

    /// The name that the program gave it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it is or waits for, in words, without its name.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The type of a task's future, as [`std::any::type_name`] has it.
    #[must_use]
    pub fn type_name(&self) -> Option<&'static str> {
        self.type_name
    }

    /// Where it was made.
    #[must_use]
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.spawned_at
    }

    /// The values that a task was spawned with and that what is around it has not: those of keys that are shown, see
    /// [`local!`](crate::local!).
    pub fn locals(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.locals.iter().map(|(name, value)| (*name, &**value))
    }

    /// How long it has still to wait at the most, when it was drawn.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// The descriptor that it waits for.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.fd
    }

    /// What that descriptor is: "TCP socket", "pipe", …
    #[must_use]
    pub fn descriptor(&self) -> Option<&str> {
        self.descriptor.as_deref()
    }

    /// The own address of that descriptor, if it is a socket that has one.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The address at the other end of that descriptor, if it is a socket that is connected.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// The process that it waits for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What is in it, in the order of the tree.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        &self.children
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.kind) {
            (Some(name), Kind::Group) => write!(f, "group `{}`", Harmless(name))?,
            (Some(name), _) => write!(f, "{} `{}`", Harmless(&self.what), Harmless(name))?,
            (None, _) => write!(f, "{}", Harmless(&self.what))?,
        }
        if self.state != State::Running {
            write!(f, " ({}", self.state.as_str())?;
            if let Some(ago) = self.cancelled_ago {
                write!(f, " for {ago:.1?}")?;
            }
            if let Some(reason) = &self.cancelled_as {
                write!(f, ", as {}", Harmless(reason))?;
            }
            f.write_str(")")?;
        }
        if let Some(descriptor) = &self.descriptor {
            write!(f, ", {descriptor}")?;
        }
        if let Some(address) = &self.address {
            write!(f, " at {}", Harmless(address))?;
        }
        if let Some(peer) = &self.peer {
            write!(f, " with {}", Harmless(peer))?;
        }
        if let Some(left) = self.time_left {
            write!(f, ", {left:?} more")?;
        }
        if let Some(location) = self.spawned_at {
            let verb = match self.kind {
                Kind::Task => "spawned",
                Kind::Deferred => "deferred",
                _ => "made",
            };
            write!(f, ", {verb} at {}", FileLine(location))?;
        }
        if let (Some(age), Some(n_polls), Some(busy)) = (self.age, self.n_polls, self.busy) {
            write!(f, ", {age:.1?} old, {n_polls} polls of {busy:.1?}")?;
        }
        for (name, value) in &self.locals {
            write!(f, ", {name} = {}", Harmless(value))?;
        }
        Ok(())
    }
}

/// Text of the program in a place where a terminal may read it: what that would obey is escaped.
pub(crate) struct Harmless<'a>(pub(crate) &'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match is_obeyed(c) {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// A place in the source code, without its column.
pub(crate) struct FileLine<'a>(pub(crate) &'a Location<'a>);

impl fmt::Display for FileLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}

/// Whether a character does something to the text around it, on a terminal: it controls that, ends a line, or turns the direction of reading.
pub fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A tree of tasks as of one moment, complete or in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Drawing {
    roots: Vec<Node>,
    /// Those that are being drawn, the innermost last.
    open: Vec<Node>,
    /// How many more are being drawn that are too far in.
    n_too_deep: usize,
    /// The most levels that there are.
    n_levels: usize,
    /// Something outside of the tree may wake a leaf, and the runtime is not told of it.
    has_hope: bool,
    /// It is of the whole tree, and the workers were asked to draw theirs.
    is_of_tree: bool,
}

/// The node of the group that has the workers `crew`, with its level: `nodes` are at `level`.
fn group_of(nodes: &mut [Node], crew: usize, level: usize) -> Option<(&mut Node, usize)> {
    nodes.iter_mut().find_map(|node| match node.crew {
        Some(own) if own == crew => Some((node, level)),
        _ => group_of(&mut node.children, crew, level + 1),
    })
}

impl Drawing {
    pub(crate) fn of_tree() -> Self {
        Self { is_of_tree: true, ..Self::default() }
    }

    pub(crate) fn enter(&mut self, node: Node) {
        if self.open.len() + 1 < MAX_LEVELS {
            self.open.push(node);
            self.n_levels = self.n_levels.max(self.open.len());
        } else {
            self.n_too_deep += 1;
            self.say_too_deep();
        }
    }

    pub(crate) fn leave(&mut self) {
        if self.n_too_deep > 0 {
            self.n_too_deep -= 1;
            return;
        }
        let Some(node) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(node),
            None => self.roots.push(node),
        }
    }

    pub(crate) fn leaf(&mut self, node: Node) {
        self.enter(node);
        self.leave();
    }

    /// Once for all that is in there.
    fn say_too_deep(&mut self) {
        let Some(parent) = self.innermost() else { return };
        if parent.children.last().is_none_or(|before| before.what != TOO_DEEP) {
            parent.children.push(Node::new(Kind::Wait, TOO_DEEP));
            self.n_levels = self.n_levels.max(self.open.len() + 1);
        }
    }

    /// What is being drawn right now, or else the last root.
    fn innermost(&mut self) -> Option<&mut Node> {
        self.open.last_mut().or(self.roots.last_mut())
    }

    /// Says more of what is being drawn right now.
    pub(crate) fn amend(&mut self, amend: impl FnOnce(Node) -> Node) {
        // What is too far in has no node.
        if self.n_too_deep == 0 {
            let amended = self.open.pop().map(amend);
            self.open.extend(amended);
        }
    }

    /// A leaf may be woken by something of which the runtime is not told.
    pub(crate) fn hope(&mut self) {
        self.has_hope = true;
    }

    pub(crate) fn has_hope(&self) -> bool {
        self.has_hope
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.n_levels = self.n_levels.max(other.n_levels);
        self.roots.append(&mut other.roots);
    }

    /// Puts what was drawn elsewhere into what is being drawn right now, or else below the last root.
    pub(crate) fn graft(&mut self, mut other: Self) {
        if other.is_empty() {
            return;
        }
        let n_levels = self.open.len().max(usize::from(!self.roots.is_empty())) + other.n_levels;
        if self.n_too_deep > 0 || n_levels > MAX_LEVELS {
            return self.say_too_deep();
        }
        self.n_levels = self.n_levels.max(n_levels);
        match self.innermost() {
            Some(parent) => parent.children.append(&mut other.roots),
            None => self.append(other),
        }
    }

    /// Puts the workers `crew` into the group that is being drawn. `describe` is told whether they were asked to draw what they have.
    pub(crate) fn workers(&mut self, crew: usize, describe: impl FnOnce(bool) -> Self) {
        // The innermost node is another one where the group is too far in.
        let is_known = !self.is_of_tree && self.n_too_deep == 0;
        if let Some(group) = self.open.last_mut().filter(|_| is_known) {
            group.crew = Some(crew);
        }
        self.graft(describe(self.is_of_tree));
    }

    /// Has what the workers `crew` have drawn since in place of what was known of them; at the end, if their group was not drawn.
    pub(crate) fn replace_workers(&mut self, crew: usize, mut drawn: Self) {
        match group_of(&mut self.roots, crew, 1) {
            Some((group, level)) => {
                if level + drawn.n_levels > MAX_LEVELS {
                    drawn = Self::default();
                    drawn.leaf(Node::new(Kind::Wait, TOO_DEEP));
                }
                group.children.retain(|child| child.kind != Kind::Worker);
                group.children.append(&mut drawn.roots);
                self.n_levels = self.n_levels.max(level + drawn.n_levels);
            }
            None => self.graft(drawn),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    pub(crate) fn roots(&self) -> &[Node] {
        &self.roots
    }

    /// Every node with its depth, parents before children.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        let mut left: Vec<(usize, &Node)> = self.roots.iter().rev().map(|node| (0, node)).collect();
        std::iter::from_fn(move || {
            let (depth, node) = left.pop()?;
            left.extend(node.children.iter().rev().map(|child| (depth + 1, child)));
            Some((depth, node))
        })
    }

    /// What of it cleans up, or may, with all that is in it and the way to it.
    pub(crate) fn cleaning_up(mut self) -> Self {
        self.roots.retain_mut(Node::keep_cleaning_up);
        self
    }

    pub(crate) fn to_json(&self) -> String {
        json::write(self)
    }

    pub(crate) fn to_dot(&self) -> String {
        dot::write(self)
    }
}

impl fmt::Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (depth, node)) in self.nodes().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{:indent$}{node}", "", indent = 2 * depth)?;
        }
        Ok(())
    }
}
