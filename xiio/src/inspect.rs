//! What is going on: the live tree of tasks, and reports of failures that no return value carries.

mod recorded;
mod served;

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;

use crate::drawing::Drawing;
use crate::promise::Promise;
use crate::report::{Listener, add_listener, remove_listener};
use crate::runtime::Runtime;

pub use crate::drawing::{Kind, Node, State};
pub use crate::report::{Report, ReportKind};
pub use recorded::{Recording, record};
pub(crate) use recorded::{is_asked as is_recording_asked, save};
pub(crate) use served::serve;

/// A drawing of the tree of tasks under a runtime, as of one moment.
///
/// Its `Display` has a line for each group, task and thing that is waited for, indented by depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    drawing: Drawing,
}

impl Tree {
    /// What has nothing above it: the root, or what is in it.
    #[must_use]
    pub fn roots(&self) -> &[Node] {
        self.drawing.roots()
    }

    /// Every node with its depth, parents before children.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.drawing.nodes()
    }

    /// The tree as JSON: an array of objects, each with `kind`, `state`, `what` and those of `held`, `cancelled_as`, `milliseconds_cancelled`, `name`, `type`, `file`, `line`,
    /// `column`, `locals`, `number`, `milliseconds_old`, `polls`, `microseconds_busy`, `milliseconds_left`, `fd`, `descriptor`, `address`, `peer`, `pid` and `children` that it has.
    /// `held` is true of a task that has no place yet in a group with a `limit`. Of several values with one name in `locals` the second is `NAME#2`.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.drawing.to_json()
    }

    /// The tree in the language of Graphviz.
    #[must_use]
    pub fn to_dot(&self) -> String {
        self.drawing.to_dot()
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.drawing.fmt(f)
    }
}

/// Draws the tree of the runtime that this is awaited in.
///
/// To draw it, every future that waits is polled once more, as by a spurious wake. Nothing is recorded while nobody
/// asks, so the tree costs nothing otherwise.
///
/// Workers draw what they have, for which they get 200 ms; then they have to leave their polls. Where one of a group that this is awaited in has not done
/// so 400 ms after the call, what is around that group is left out.
///
/// # Panics
/// When polled outside of a runtime.
///
/// # Cancellation
/// Nothing is left behind; the tree may still be drawn, for nobody.
///
/// # Examples
/// ```
/// let tree = xiio::run(async {
///     xiio::task_group!(name = "workers", |tg| {
///         tg.spawn(xiio::sleep(std::time::Duration::from_secs(60)));
///         xiio::yield_now().await;
///         let tree = xiio::inspect::tree().await;
///         tg.cancel();
///         tree
///     })
/// });
/// assert!(tree.to_string().contains("group `workers`"));
/// ```
pub async fn tree() -> Tree {
    let drawn = Promise::new();
    let answer = drawn.clone();
    Runtime::with(|runtime| runtime.request_drawing_inside(Box::new(move |drawing| drop(answer.set(drawing)))));
    let mut drawn = drawn.wait();
    Tree { drawing: poll_fn(|cx| drawn.poll_as("a drawing of the tree", cx)).await }
}

/// Hands the reports of this thread to `listener` until the result is dropped. If there are several listeners, the newest
/// one gets them.
///
/// Without a listener reports go to standard error; with the feature `tracing` to its subscriber instead, if there is one.
///
/// # Examples
/// ```
/// use std::{cell::RefCell, rc::Rc};
///
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let sink = Rc::clone(&seen);
/// let listening = xiio::inspect::listen(move |report| sink.borrow_mut().push(report.to_string()));
/// drop(listening);
/// assert!(seen.borrow().is_empty());
/// ```
#[must_use = "the listener goes when this is dropped"]
pub fn listen(listener: impl Fn(&Report) + 'static) -> Listening {
    let listener: Listener = Rc::new(listener);
    add_listener(Rc::clone(&listener));
    Listening { listener }
}

/// Keeps a listener for reports, see [`listen`].
pub struct Listening {
    listener: Listener,
}

impl Drop for Listening {
    fn drop(&mut self) {
        remove_listener(&self.listener);
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
