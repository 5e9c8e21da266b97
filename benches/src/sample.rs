//! What one measurement found, and how it travels from the child process that measured to the parent that reports.

/// Values by name, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<(String, f64)>);

impl Sample {
    pub fn new() -> Self {
        Sample::default()
    }

    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.0.push((name.to_owned(), value));
        self
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|&(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// One line `name=value` for each value.
    pub fn print(&self) {
        for (name, value) in &self.0 {
            println!("{name}={value}");
        }
    }

    /// Reads what [`print`](Self::print) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let parse_line = |line: &str| {
            let (name, value) = line.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().map(parse_line).collect::<Option<_>>().map(Sample)
    }
}
