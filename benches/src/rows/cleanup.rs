//! Row 11b: what it costs to cancel tasks that clean up with an await.

use std::future::pending;

use xiio::{bracket, yield_now};

use crate::peers::{Cancel, xiio::Xiio};
use crate::row::{CPU_NS, Case, Extras, Row, entry};
use crate::sample::Sample;
use crate::work::{all_started, counted};

pub const ROW: Row = Row {
    name: "cleanup",
    title: "Cancel tasks that clean up",
    note: "Per task, each in a bracket whose release yields once; from asking for it until all have cleaned up and have \
           been dropped. No peer can do it.",
    metrics: &[CPU_NS],
    cases: &[Case::new("1000", 1000, 1), Case::new("100k", 100_000, 1)],
    entries: &[entry!(clean_up, Xiio)],
    extras: Extras::None,
    is_slow: false,
};

fn clean_up<R: Cancel>(case: &Case) -> Sample {
    let n = case.n;
    R::block_on(async move {
        let task = |_| counted(bracket((), async |()| pending().await, async |()| yield_now().await));
        R::cancel((0..n as usize).map(task), all_started(n)).await
    })
}
