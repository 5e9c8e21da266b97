//! What a recording of all that the tasks do adds to the cost of a server.

use crate::load::ECHO;
use crate::peers::{Runtime, xiio::Xiio};
use crate::row::{Better, Case, Entry, Extras, Family, Metric, Row};
use crate::sample::Sample;
use crate::server::{self, serve, under_load};

pub const ROW: Row = Row {
    name: "recording",
    title: "TCP echo server, recorded",
    note: "As `echo`, without a recording and with one of the newest 131 072 events: each wake and each poll with its time.",
    metrics: &[Metric { key: "cpu_ns", unit: "ns CPU per request", better: Better::Lower }],
    cases: &[Case::new("50 connections", 50, 100_000)],
    entries: &[
        Entry { name: Xiio::NAME, family: Family::Xiio, measure: echo, except: &[] },
        Entry { name: "xiio-recorded", family: Family::Xiio, measure: recorded, except: &[] },
    ],
    extras: Extras::None,
    is_slow: false,
};

fn echo(case: &Case) -> Sample {
    under_load(case, &ECHO, |listener| serve::<Xiio, _>(listener, case.n, server::echo))
}

fn recorded(case: &Case) -> Sample {
    let _recording = xiio::inspect::record(1 << 17);
    echo(case)
}
