//! The page of numbers shows the instructions that `benches` checks.

use std::fs;
use std::path::Path;

#[test]
fn instructions_are_those_that_are_checked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/performance.md")).unwrap();
    let checked = fs::read_to_string(root.join("benches/instructions.toml")).unwrap();
    let rows = checked.lines().filter_map(|line| line.split_once(" = "));
    let expected: Vec<String> = rows.map(|(name, count)| row(name.trim_matches('"'), count)).collect();
    assert!(!expected.is_empty());
    let missing: Vec<_> = expected.iter().filter(|row| !page.lines().any(|line| line == **row)).collect();
    assert!(missing.is_empty(), "docs/performance.md has to have {missing:#?}");
}

/// `nested / depth 4` and `1080.9` as a row of the page.
fn row(name: &str, count: &str) -> String {
    let (row, case) = name.split_once(" / ").unwrap();
    let (whole, part) = count.split_once('.').unwrap();
    let thousands = whole.len().saturating_sub(3);
    let whole = [&whole[..thousands], &whole[thousands..]].join(" ");
    format!("| {row} | {case} | {}.{part} |", whole.trim_start())
}
