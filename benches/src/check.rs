//! The regression check: xiio's instruction counts against those in `instructions.toml`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::ExitCode;

use crate::compare::Plan;
use crate::extras::count_instructions;

const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");
const TOLERANCE: f64 = 0.02;

pub fn check(plan: &Plan) -> ExitCode {
    let expected = load();
    let mut n_worse = 0;
    count_instructions(plan, |measurement, found| {
        let verdict = match expected.get(&key(measurement.row.name, measurement.case.name)) {
            None => "new; record it with `check --update`",
            Some(&expected) if found > expected * (1.0 + TOLERANCE) => {
                n_worse += 1;
                "WORSE"
            }
            Some(&expected) if found < expected * (1.0 - TOLERANCE) => "better; record it with `check --update`",
            Some(_) => "as expected",
        };
        println!("{found:8.1}  {}: {verdict}", measurement.name());
    });
    if n_worse > 0 {
        eprintln!("{n_worse} counts are more than {:.0} % above {EXPECTED}", TOLERANCE * 100.0);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Counts again and records what comes out, beside what the plan leaves out.
pub fn update(plan: &Plan) -> ExitCode {
    let mut expected = load();
    count_instructions(plan, |measurement, found| {
        expected.insert(key(measurement.row.name, measurement.case.name), found);
    });
    let mut text = String::from(
        "# Instructions per operation of xiio, counted by callgrind; `cargo run --release -- check` compares.\n",
    );
    for (key, count) in &expected {
        let _ = writeln!(text, "\"{key}\" = {count:.1}");
    }
    fs::write(EXPECTED, text).expect("the counts can be written");
    ExitCode::SUCCESS
}

fn key(row: &str, case: &str) -> String {
    format!("{row} / {case}")
}

fn load() -> BTreeMap<String, f64> {
    let text = fs::read_to_string(EXPECTED).unwrap_or_default();
    let parse_line = |line: &str| {
        let (key, count) = line.split_once(" = ")?;
        Some((key.trim_matches('"').to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(parse_line).collect()
}
