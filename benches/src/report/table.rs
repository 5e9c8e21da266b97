//! The table: what xiio's values are beside the best peer, tokio and the floor, then every case in full.

use std::fmt::Write;
use std::fs;

use crate::extras::{INSTRUCTIONS, SYSTEM_CALLS};
use crate::results::{Results, Summary, directory};
use crate::row::{Better, Case, Entry, Family, Metric, Row};
use crate::rows::ROWS;
use crate::versions::{machine_line, versions_line};

/// Rows with one table for all cases, as they have few runtimes, some of them with several numbers of threads.
const SIDE_BY_SIDE: &[&str] = &["jobs", "map", "team", "lateness", "echo-cores", "http-cores"];

pub fn write(results: &Results) {
    let mut text = format!(
        "# xiio beside its peers\n\n{}.\n\n{}.\n\nMedians, with the range in brackets. Ratios are of medians.\n\n",
        machine_line(),
        versions_line(),
    );
    text += &overview(results);
    for row in ROWS {
        let cases: String = match SIDE_BY_SIDE.contains(&row.name) {
            true => side_by_side(results, row),
            false => row.cases.iter().map(|case| full_case(results, row, case)).collect(),
        };
        if !cases.is_empty() {
            let _ = writeln!(text, "## {} (`{}`)\n\n{}\n\n{cases}", row.title, row.name, row.note);
        }
    }
    let path = directory().join("table.md");
    fs::write(&path, text).expect("the table can be written");
    eprintln!("{}", path.display());
}

/// A runtime's values for a case.
pub struct Standing {
    pub entry: &'static Entry,
    pub summary: Summary,
}

/// Those who have a value, the best first.
pub fn ranking(results: &Results, row: &Row, case: &Case, metric: &Metric) -> Vec<Standing> {
    let standing = |entry| {
        let summary = results.summary(row, case, entry, metric.key)?;
        Some(Standing { entry, summary })
    };
    let mut standings: Vec<_> = row.entries.iter().filter_map(standing).collect();
    standings.sort_by(|a, b| a.summary.median.total_cmp(&b.summary.median));
    if metric.better == Better::Higher {
        standings.reverse();
    }
    standings
}

/// The best of those that `is_meant`, for a ratio.
fn best(standings: &[Standing], is_meant: impl Fn(Family) -> bool) -> Option<&Standing> {
    standings.iter().find(|standing| is_meant(standing.entry.family))
}

fn is_peer(family: Family) -> bool {
    matches!(family, Family::Peer | Family::Tokio)
}

fn overview(results: &Results) -> String {
    let mut text = String::from(
        "| row | case | unit | xiio | best peer | xiio ÷ best peer | xiio ÷ tokio | xiio ÷ floor |\n\
         |---|---|---|---:|---|---:|---:|---:|\n",
    );
    for row in ROWS {
        let metric = &row.metrics[0];
        for case in row.cases {
            let standings = ranking(results, row, case, metric);
            if standings.is_empty() {
                continue;
            }
            let xiio = best(&standings, |family| family == Family::Xiio);
            let peer = best(&standings, is_peer);
            let tokio = best(&standings, |family| family == Family::Tokio);
            let floor = best(&standings, |family| family == Family::Floor);
            let value = |standing: &Standing| number(standing.summary.median);
            let named = |standing: &Standing| format!("{} {}", standing.entry.name, value(standing));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                row.name,
                case.name,
                metric.unit,
                xiio.map_or_else(String::new, value),
                peer.map_or_else(String::new, named),
                ratio(xiio, peer),
                ratio(xiio, tokio),
                ratio(xiio, floor),
            );
        }
    }
    text + "\n"
}

/// Everything about a case, in one table.
fn full_case(results: &Results, row: &Row, case: &Case) -> String {
    let standings = ranking(results, row, case, &row.metrics[0]);
    if standings.is_empty() {
        return String::new();
    }
    let peer = best(&standings, is_peer);
    let tokio = best(&standings, |family| family == Family::Tokio);
    let floor = best(&standings, |family| family == Family::Floor);
    let has = |metric| row.entries.iter().any(|it| results.summary(row, case, it, metric).is_some());
    let counts: Vec<_> = [INSTRUCTIONS, SYSTEM_CALLS].into_iter().filter(|metric| has(metric)).collect();

    let mut heads = vec!["runtime"];
    heads.extend(row.metrics.iter().map(|metric| metric.unit));
    heads.extend(["÷ best peer", "÷ tokio", "÷ floor"]);
    heads.extend(counts.iter().map(|metric| if *metric == INSTRUCTIONS { "instructions" } else { "system calls" }));
    let mut text = format!("### {}\n\n| {} |\n|---|", case.name, heads.join(" | "));
    text += &"---:|".repeat(heads.len() - 1);
    for standing in &standings {
        let of = |metric| results.summary(row, case, standing.entry, metric);
        let mut cells = vec![name(standing.entry)];
        cells.extend(row.metrics.iter().map(|metric| of(metric.key).map_or_else(String::new, range)));
        cells.extend([peer, tokio, floor].map(|other| ratio(Some(standing), other)));
        cells.extend(counts.iter().map(|metric| of(metric).map_or_else(String::new, |it| number(it.median))));
        let _ = write!(text, "\n| {} |", cells.join(" | "));
    }
    text + "\n\n"
}

/// Everything about a row, in one table with a column for each runtime.
fn side_by_side(results: &Results, row: &Row) -> String {
    let mut lines = String::new();
    for (case, metric) in row.cases.iter().flat_map(|case| row.metrics.iter().map(move |metric| (case, metric))) {
        let of = |entry| results.summary(row, case, entry, metric.key).map_or_else(String::new, range);
        let cells: Vec<_> = row.entries.iter().map(of).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(lines, "| {} | {} | {} |", case.name, metric.unit, cells.join(" | "));
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let names: Vec<_> = row.entries.iter().map(name).collect();
    format!("| case | | {} |\n|---|---|{}\n{lines}\n", names.join(" | "), "---:|".repeat(names.len()))
}

fn name(entry: &Entry) -> String {
    match entry.family {
        Family::Xiio => format!("**{}**", entry.name),
        Family::Floor => format!("*{}*", entry.name),
        Family::Tokio | Family::Peer => entry.name.to_owned(),
    }
}

fn range(summary: Summary) -> String {
    let Summary { median, min, max } = summary;
    format!("{} ({}–{})", number(median), number(min), number(max))
}

fn ratio(a: Option<&Standing>, b: Option<&Standing>) -> String {
    match (a, b) {
        (Some(a), Some(b)) => format!("{:.2}", a.summary.median / b.summary.median),
        _ => String::new(),
    }
}

/// Three digits that mean something, and thousands set apart.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        let decimals = if value.abs() < 10.0 { 2 } else { 1 };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}
