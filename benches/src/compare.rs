//! The comparison: every runtime of a row in turn, again and again.

use crate::child::Measurement;
use crate::extras;
use crate::results::Results;
use crate::row::{Case, Extras, Row};
use crate::rows::ROWS;

pub struct Plan {
    /// Names of rows; all that are not slow if there is none.
    pub rows: Vec<String>,
    /// Names of runtimes; all if there is none.
    pub runtimes: Vec<String>,
    pub repetitions: usize,
    /// A tenth of the work.
    pub is_quick: bool,
}

impl Plan {
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(|row| match self.rows.is_empty() {
            true => !row.is_slow,
            false => self.rows.iter().any(|name| name == row.name),
        })
    }

    /// The runtimes that answer in this case, each as a measurement.
    pub fn measurements(&self, row: &'static Row, case: &Case) -> Vec<Measurement> {
        let is_wanted = |name| self.runtimes.is_empty() || self.runtimes.iter().any(|it| it == name);
        let entries = row.entries.iter().filter(|entry| entry.answers(case) && is_wanted(entry.name));
        let case = match self.is_quick {
            true => Case { rounds: case.rounds.div_ceil(10), ..*case },
            false => *case,
        };
        entries.map(|&entry| Measurement { row, case, entry }).collect()
    }
}

/// Measures everything in the plan; a runtime that fails is named and left out.
pub fn compare(plan: &Plan, results: &mut Results) {
    for row in plan.rows() {
        for case in row.cases {
            let mut measurements = plan.measurements(row, case);
            for measurement in &measurements {
                results.forget(measurement, |metric| !extras::is_extra(metric));
            }
            for repetition in 1..=plan.repetitions {
                measurements.retain(|measurement| {
                    eprintln!("{repetition}/{} {}", plan.repetitions, measurement.name());
                    match measurement.run() {
                        Ok(sample) => results.add(measurement, &sample),
                        Err(error) => {
                            eprintln!("    left out: {error}");
                            return false;
                        }
                    }
                    true
                });
            }
        }
        if row.extras == Extras::SystemCalls {
            extras::count_system_calls(plan, row, results);
        }
        results.save();
    }
}
