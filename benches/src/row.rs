//! What a row of the table is: a question, the cases in which it is asked, and who answers.

use crate::sample::Sample;

pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    /// How it was measured and what has to be known to read it.
    pub note: &'static str,
    /// What is reported, the value that counts first.
    pub metrics: &'static [Metric],
    pub cases: &'static [Case],
    pub entries: &'static [Entry],
    pub extras: Extras,
    /// Whether it takes minutes, and runs only when it is named.
    pub is_slow: bool,
}

/// What is measured beside the times, once for each runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    None,
    /// Instructions per operation, for rows that stay in memory.
    Instructions,
    /// System calls per operation.
    SystemCalls,
}

pub struct Metric {
    pub key: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
}

pub const CPU_NS: Metric = Metric { key: "cpu_ns", unit: "ns CPU", better: Better::Lower };
pub const WALL_NS: Metric = Metric { key: "wall_ns", unit: "ns", better: Better::Lower };

/// A size of the question. What `n` and `m` count is the row's to say.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub n: u64,
    pub m: u64,
    /// How often it is done in one measurement.
    pub rounds: u64,
}

impl Case {
    pub const fn new(name: &'static str, n: u64, rounds: u64) -> Self {
        Case { name, n, m: 0, rounds }
    }

    pub const fn and(self, m: u64) -> Self {
        Case { m, ..self }
    }
}

/// A runtime, or a floor, that answers the row's question.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub family: Family,
    pub measure: fn(&Case) -> Sample,
    /// The cases it cannot do, or not in reasonable time.
    pub except: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Written by hand against the operating system and the allocator, without tasks.
    Floor,
    Xiio,
    Tokio,
    Peer,
}

impl Entry {
    pub const fn floor(name: &'static str, measure: fn(&Case) -> Sample) -> Self {
        Entry { name, family: Family::Floor, measure, except: &[] }
    }

    pub fn answers(&self, case: &Case) -> bool {
        !self.except.contains(&case.name)
    }

    pub const fn except(self, except: &'static [&'static str]) -> Self {
        Entry { except, ..self }
    }
}

/// `entry!(measure, Runtime)` is the entry of a runtime for the generic function `measure`.
macro_rules! entry {
    ($measure:ident, $runtime:ty) => {
        $crate::row::Entry {
            name: <$runtime as $crate::peers::Runtime>::NAME,
            family: <$runtime as $crate::peers::Runtime>::FAMILY,
            measure: $measure::<$runtime>,
            except: &[],
        }
    };
}
pub(crate) use entry;
