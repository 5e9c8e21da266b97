//! Owners and nodes: the two primitives under every law of cancellation. Safe code only.
//!
//! An [`Owner`] polls a future that it may cancel. A [`Node`] is part of a future that must not be cut off; at each
//! poll it joins the scope of the owner that polls it. To cancel is to poll on, from the top, until every node has
//! cleaned up, and then to drop the future:
//!
//! ```text
//!            1              2                 3                     4
//!  running ─────▶ unwinding ─────▶ unwinding ─────▶ all nodes ─────────▶ dropped
//!     │           (wakes nodes)    (nodes answer)   have finished
//!     └──────────────────────────────────────────────────────────────────▶ dropped
//!                              5: no node in the scope
//!
//!  1 `Owner::cancel`, the scope holds a node     3 `Node::finish`, called by each node
//!  2 `Owner::poll`, which reaches the nodes      4 `Owner::poll` gives `Ready(None)`: drop it
//!  5 `Owner::cancel` gives `Cancel::Drop`
//! ```
//!
//! While the scope unwinds, every *leaf* (a future that waits for the runtime itself) stays pending, see [`gate`]. So
//! no code between the nodes goes on, however it was combined. A node that has finished stays pending for the same reason.
//!
//! What does not work: remembering where a node's future is and polling it from there. A future that was polled once and
//! then leaked keeps its memory but not what it borrows, and a cleanup may free its own future. Polling from the top
//! proves that everything on the way is alive, which is why this room needs no `unsafe`.
//!
//! [`Owner`]: owner::Owner
//! [`Node`]: node::Node

mod cancellable;
mod current;
mod deferred;
mod node;
mod owner;
mod parked;
mod reached;
mod scope;
mod skipped;
mod whole;

pub(crate) use cancellable::cancellable;
pub(crate) use current::{
    DrawnSet, Frozen, Shift, draw_around, freeze, gate, inspect, inspect_tree, inspecting, is_frozen, is_inside,
    is_inspecting, is_lending, is_plain, is_unwinding, lending, may_cancel, state, thawed,
};
pub(crate) use deferred::as_cleanup;
pub(crate) use node::{BRANCH, Duty, Node};
pub(crate) use owner::{Cancel, Owner};
pub(crate) use parked::Parked;
pub(crate) use reached::{Reached, reach};
pub(crate) use scope::on_begin;
pub(crate) use skipped::{Dropper, catch_in_slot, cutting_off, dropper, dropping, note_cut_off, report_skipped};
pub(crate) use whole::{AllThereIs, Given, Whole};
