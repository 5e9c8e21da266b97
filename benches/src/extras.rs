//! What is counted rather than timed, with the help of other programs: instructions by callgrind, system calls by
//! strace. Both are differences between two lengths of the same run, so start and end of the process do not count.

use std::process::{Command, Output, Stdio};

use crate::child::Measurement;
use crate::compare::Plan;
use crate::results::Results;
use crate::row::{Case, Extras, Row};
use crate::sample::Sample;

pub const INSTRUCTIONS: &str = "instructions";
pub const SYSTEM_CALLS: &str = "system_calls";

/// Larger cases take too long under callgrind, and say nothing new.
const LARGEST_CASE: u64 = 10_000;

pub fn is_extra(metric: &str) -> bool {
    [INSTRUCTIONS, SYSTEM_CALLS].contains(&metric)
}

/// Counts instructions per operation for all rows of the plan for which that says something.
pub fn count_instructions(plan: &Plan, mut found: impl FnMut(&Measurement, f64)) {
    for row in plan.rows().filter(|row| row.extras == Extras::Instructions) {
        for case in row.cases.iter().filter(|case| case.n <= LARGEST_CASE) {
            for measurement in plan.measurements(row, case) {
                eprintln!("{}", measurement.name());
                match per_operation(&measurement, (case.rounds / 100).max(2), instructions) {
                    Ok(count) => found(&measurement, count),
                    Err(error) => eprintln!("    left out: {error}"),
                }
            }
        }
    }
}

pub fn count_system_calls(plan: &Plan, row: &'static Row, results: &mut Results) {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("    no system calls counted: there is no strace here");
        return;
    }
    for case in row.cases {
        for measurement in plan.measurements(row, case) {
            results.forget(&measurement, |metric| metric == SYSTEM_CALLS);
            match per_operation(&measurement, 1000, system_calls) {
                Ok(count) => results.add(&measurement, &Sample::new().with(SYSTEM_CALLS, count)),
                Err(error) => eprintln!("    {} left out: {error}", measurement.name()),
            }
        }
    }
}

/// Counts runs of `rounds` and of twice as many rounds.
fn per_operation(
    measurement: &Measurement,
    rounds: u64,
    count: impl Fn(&Measurement) -> Result<(u64, f64), String>,
) -> Result<f64, String> {
    let with_rounds = |rounds| {
        let case = Case { rounds, ..measurement.case };
        count(&Measurement { case, ..*measurement })
    };
    let (short, n_short) = with_rounds(rounds)?;
    let (long, n_long) = with_rounds(2 * rounds)?;
    Ok((long as f64 - short as f64) / (n_long - n_short))
}

fn instructions(measurement: &Measurement) -> Result<(u64, f64), String> {
    let output = run_under(measurement, "valgrind", &["--tool=callgrind", "--callgrind-out-file=/dev/null"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.split("Collected : ").nth(1).and_then(|rest| rest.lines().next());
    let count = collected.and_then(|count| count.trim().parse().ok());
    Ok((count.ok_or("callgrind did not say what it collected")?, operations(&output)?))
}

fn system_calls(measurement: &Measurement) -> Result<(u64, f64), String> {
    let output = run_under(measurement, "strace", &["-c", "-f"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The columns are: % time, seconds, µs per call, calls, errors (or nothing), name.
    let total = said.lines().find(|line| line.trim_end().ends_with(" total"));
    let count = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    Ok((count.ok_or("strace did not say a total")?, operations(&output)?))
}

fn run_under(measurement: &Measurement, tool: &str, options: &[&str]) -> Result<Output, String> {
    let program = std::env::current_exe().expect("the program has a path");
    let mut command = Command::new(tool);
    command.args(options).arg(program).args(measurement.arguments());
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{tool}: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("{tool}: {}", output.status)),
    }
}

fn operations(output: &Output) -> Result<f64, String> {
    let sample = Sample::parse(&String::from_utf8_lossy(&output.stdout));
    let n = sample.and_then(|sample| sample.get("operations"));
    n.ok_or_else(|| "the child did not say how many operations it did".to_owned())
}
