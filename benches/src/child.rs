//! Each measurement happens in a fresh process of this very program, so that no allocator, cache or thread of one
//! runtime is there when the next one is measured.

use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use crate::row::{Case, Entry, Row};
use crate::rows::ROWS;
use crate::sample::Sample;

/// Enough for the slowest, on a machine with other things to do.
const LONGEST: Duration = Duration::from_secs(120);

/// One measurement that can be made.
#[derive(Clone, Copy)]
pub struct Measurement {
    pub row: &'static Row,
    pub case: Case,
    pub entry: Entry,
}

impl Measurement {
    pub fn name(&self) -> String {
        format!("{} / {} / {}", self.row.name, self.case.name, self.entry.name)
    }

    /// The arguments that make this program [measure] it.
    pub fn arguments(&self) -> [String; 5] {
        let rounds = self.case.rounds.to_string();
        ["measure", self.row.name, self.case.name, self.entry.name, &rounds].map(str::to_owned)
    }

    /// Measures in a child process; `Err` is what the child said before it failed.
    pub fn run(&self) -> Result<Sample, String> {
        let program = std::env::current_exe().expect("the program has a path");
        let child = Command::new(program)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let output = wait(child.map_err(|error| error.to_string())?)?;
        let text = String::from_utf8_lossy(&output.stdout);
        match Sample::parse(&text) {
            Some(sample) if output.status.success() => Ok(sample),
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("{}: {}", output.status, said.trim().lines().next().unwrap_or("")))
            }
        }
    }
}

/// Waits for a child that says little, and kills it when it takes too long.
fn wait(mut child: Child) -> Result<Output, String> {
    let began = Instant::now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if began.elapsed() > LONGEST {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("not done after {} s", LONGEST.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().map_err(|error| error.to_string())
}

/// The child: `measure <row> <case> <runtime> <rounds>`.
pub fn measure(arguments: &[String]) -> ExitCode {
    let [row, case, entry, rounds] = arguments else {
        panic!("measure <row> <case> <runtime> <rounds>");
    };
    let row = ROWS.iter().find(|candidate| candidate.name == row).expect("a row");
    let case = row.cases.iter().find(|candidate| candidate.name == case).expect("a case");
    let entry = row.entries.iter().find(|candidate| candidate.name == entry).expect("a runtime");
    let rounds = rounds.parse().expect("a number of rounds");
    (entry.measure)(&Case { rounds, ..*case }).print();
    ExitCode::SUCCESS
}
