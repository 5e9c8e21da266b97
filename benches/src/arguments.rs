//! The command line.

use crate::compare::Plan;
use crate::row::Family;
use crate::rows::ROWS;

pub const USAGE: &str = "\
usage: cargo run --release [-- <command> [<options>]]

commands
  compare        measure every row and write results/table.md and results/plot.svg (the default)
  build          the same for the row of cold builds, which is slow
  instructions   count instructions with callgrind
  check          compare xiio's instruction counts with instructions.toml; --update records them
  report         write table and plot again from results/samples.tsv
  list           the names of rows, cases and runtimes

options
  --rows a,b           only these rows
  --runtimes a,b       only these runtimes
  --repetitions n      how often each is measured (5)
  --quick              one repetition of a tenth of the work: only to see that everything runs";

pub struct Arguments {
    pub command: String,
    pub plan: Plan,
    pub update: bool,
}

impl Arguments {
    pub fn parse(given: &[String]) -> Result<Self, String> {
        let mut rest = given.iter().map(String::as_str).peekable();
        let command = rest.next_if(|first| !first.starts_with('-')).unwrap_or("compare");
        let mut arguments = Arguments {
            command: command.to_owned(),
            update: false,
            plan: Plan { rows: Vec::new(), runtimes: Vec::new(), repetitions: 5, is_quick: false },
        };
        let plan = &mut arguments.plan;
        while let Some(option) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("`{option}` needs a value"));
            match option {
                "--rows" => plan.rows = split(value()?),
                "--runtimes" => plan.runtimes = split(value()?),
                "--repetitions" => {
                    let value = value()?;
                    let n = value.parse().ok().filter(|&n| n > 0);
                    plan.repetitions = n.ok_or_else(|| format!("`{value}` is no number of repetitions"))?;
                }
                "--quick" => (plan.is_quick, plan.repetitions) = (true, 1),
                "--update" => arguments.update = true,
                _ => return Err(format!("unknown option `{option}`")),
            }
        }
        match command {
            "build" => {
                arguments.command = "compare".to_owned();
                plan.rows = vec!["build".to_owned()];
            }
            "check" => plan.runtimes = runtimes_of(Family::Xiio),
            "compare" | "instructions" | "report" | "list" => {}
            _ => return Err(format!("unknown command `{command}`")),
        }
        for name in &plan.rows {
            if !ROWS.iter().any(|row| row.name == name) {
                return Err(format!("unknown row `{name}`; `list` names them"));
            }
        }
        Ok(arguments)
    }
}

fn split(names: &str) -> Vec<String> {
    names.split(',').map(str::to_owned).collect()
}

fn runtimes_of(family: Family) -> Vec<String> {
    let entries = ROWS.iter().flat_map(|row| row.entries);
    entries.filter(|entry| entry.family == family).map(|entry| entry.name.to_owned()).collect()
}

pub fn list() {
    for row in ROWS {
        let cases: Vec<_> = row.cases.iter().map(|case| case.name).collect();
        let runtimes: Vec<_> = row.entries.iter().map(|entry| entry.name).collect();
        println!("{}: {}\n    {}\n    {}", row.name, row.title, cases.join(", "), runtimes.join(", "));
    }
}
