//! Random trees of groups, brackets, shields, timeouts, races, panics and cancellations, on virtual time and a random
//! schedule.
//!
//! Each is checked against the laws (`laws.rs`), and where no two things happen at one instant also against a model that
//! says what happens and when, to the millisecond (`model.rs`). Then the same again while the tree is drawn at random
//! moments. What fails is shrunk.
//!
//! `XIIO_TREES` is the number of trees; see `docs/testing.md`.

#[path = "property_trees/laws.rs"]
mod laws;
#[path = "property_trees/model.rs"]
mod model;
#[path = "property_trees/plan.rs"]
mod plan;
#[path = "property_trees/play.rs"]
mod play;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use xiio::inspect::{ReportKind, listen};
use xiio::testing::Tester;

use model::{Fact, predict};
use plan::{Plan, shape};
use play::{Event, Flow, Planned, Stage, play};

/// So many in a build without optimization.
const FEW: u32 = 3_000;

fn n_trees() -> u32 {
    std::env::var("XIIO_TREES").ok().map_or(FEW, |n_trees| n_trees.parse().expect("`XIIO_TREES` is a number"))
}

struct Played {
    /// The value, or the node that panicked.
    result: Result<Flow, plan::Id>,
    events: Vec<Event>,
    reports: Vec<String>,
}

fn play_plan(plan: &Plan, seed: u64, drawing: Option<u64>) -> Played {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&reports);
    let listening = listen(move |report| {
        // A plan fails in plain groups, too, where nobody takes the error.
        let is_planned =
            matches!(report.kind(), ReportKind::LaterFailure | ReportKind::GraceOver | ReportKind::ErrorUnheard);
        if !is_planned {
            sink.borrow_mut().push(report.to_string());
        }
    });
    let played = RefCell::new(None);
    let tester = Tester::new().virtual_time().slow_poll(None);
    // Some go by the schedule of a program that is no test.
    let tester = if seed.is_multiple_of(4) { tester } else { tester.seed(seed) };
    tester.run(|| async {
        let stage = Stage::new(drawing);
        let result = AssertUnwindSafe(play(&plan.root, &stage)).catch_unwind().await;
        let result = result.map_err(|panic| panic.downcast::<Planned>().expect("a panic of a node").0);
        played.replace(Some((result, stage.into_events())));
    });
    drop(listening);
    let (result, events) = played.into_inner().expect("the tester has run it");
    Played { result, events, reports: reports.take() }
}

/// Checks a run, and one in which the tree is drawn again and again: nobody may notice.
fn check(plan: &Plan, seed: u64) -> Result<(), String> {
    check_run(plan, seed, None)?;
    check_run(plan, seed, Some(seed)).map_err(|why| format!("while the tree is drawn: {why}"))
}

fn check_run(plan: &Plan, seed: u64, drawing: Option<u64>) -> Result<(), String> {
    let played = play_plan(plan, seed, drawing);
    let text = |why: String| format!("{why}\nresult: {:?}\n{}", played.result, list(&played.events));
    if !played.reports.is_empty() {
        return Err(text(format!("reports: {:?}", played.reports)));
    }
    laws::check(plan, &played.events).map_err(text)?;
    if plan.is_without_ties {
        let (result, facts) = predict(plan);
        let seen: BTreeSet<Fact> = played.events.iter().filter_map(Fact::of).collect();
        if result != played.result {
            return Err(text(format!("expected {result:?}")));
        }
        let (missing, wrong) = (facts.difference(&seen), seen.difference(&facts));
        let (missing, wrong): (Vec<_>, Vec<_>) = (missing.collect(), wrong.collect());
        if !missing.is_empty() || !wrong.is_empty() {
            return Err(text(format!("did not happen: {missing:?}\nhappened instead: {wrong:?}")));
        }
    }
    Ok(())
}

fn list(events: &[Event]) -> String {
    let lines = events.iter().enumerate().map(|(idx, event)| {
        let Event { id, what, at } = event;
        format!("{idx:3} {at:12} node {id}: {what:?}\n")
    });
    lines.collect()
}

#[test]
fn trees_keep_the_laws() {
    let config = Config { cases: n_trees(), failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let strategy = (shape(), any::<bool>(), any::<u64>());
    let run = TestRunner::new(config).run(&strategy, |(shape, wants_ties, seed)| {
        let plan = Plan::new(&shape, wants_ties);
        check(&plan, seed).map_err(|why| TestCaseError::fail(format!("{why}\n{:?}", plan.root)))
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}
