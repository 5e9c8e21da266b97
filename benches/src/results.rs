//! All that was found, kept in a file beside the table, so that rows can be measured again one by one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::child::Measurement;
use crate::row::{Case, Entry, Row};
use crate::sample::Sample;

/// Row, case, runtime and metric.
type Key = [String; 4];

#[derive(Default)]
pub struct Results(BTreeMap<Key, Vec<f64>>);

/// What several repetitions found.
#[derive(Clone, Copy)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

pub fn directory() -> PathBuf {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/results"));
    fs::create_dir_all(&directory).expect("the directory of the results can be made");
    directory
}

impl Results {
    pub fn load() -> Self {
        let text = fs::read_to_string(directory().join("samples.tsv")).unwrap_or_default();
        let parse_line = |line: &str| {
            let mut fields = line.split('\t').map(str::to_owned);
            let key = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
            Some((key, fields.filter_map(|field| field.parse().ok()).collect()))
        };
        Results(text.lines().filter_map(parse_line).collect())
    }

    pub fn save(&self) {
        let mut text = String::new();
        for (key, values) in &self.0 {
            let values: Vec<_> = values.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "{}\t{}", key.join("\t"), values.join("\t"));
        }
        fs::write(directory().join("samples.tsv"), text).expect("the results can be written");
    }

    /// Takes out what earlier runs found of the metrics that are meant.
    pub fn forget(&mut self, measurement: &Measurement, is_meant: impl Fn(&str) -> bool) {
        let Measurement { row, case, entry } = measurement;
        let is_it = |key: &Key| key[..3] == [row.name, case.name, entry.name] && is_meant(&key[3]);
        self.0.retain(|key, _| !is_it(key));
    }

    pub fn add(&mut self, measurement: &Measurement, sample: &Sample) {
        for (metric, value) in sample.iter() {
            let Measurement { row, case, entry } = measurement;
            let key = [row.name, case.name, entry.name, metric].map(str::to_owned);
            self.0.entry(key).or_default().push(value);
        }
    }

    pub fn summary(&self, row: &Row, case: &Case, entry: &Entry, metric: &str) -> Option<Summary> {
        let key = [row.name, case.name, entry.name, metric].map(str::to_owned);
        let mut values = self.0.get(&key)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            n if n.is_multiple_of(2) => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Summary { median, min: values[0], max: values[values.len() - 1] })
    }
}
