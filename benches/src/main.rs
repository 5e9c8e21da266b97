//! xiio beside its peers and the raw floor. `README.md` says how to run it and how to read it.

use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::compare::compare;
use crate::extras::{INSTRUCTIONS, count_instructions};
use crate::results::Results;
use crate::sample::Sample;

mod arguments;
mod check;
mod child;
mod clock;
mod compare;
mod extras;
mod floors;
mod load;
mod peers;
mod pin;
mod report;
mod results;
mod row;
mod rows;
mod sample;
mod server;
mod versions;
mod work;

fn main() -> ExitCode {
    floors::descriptors::raise_limit();
    let given: Vec<_> = std::env::args().skip(1).collect();
    match given.first().map(String::as_str) {
        // What this program runs itself as.
        Some("measure") => return child::measure(&given[1..]),
        Some("load") => return load::generate_as_told(&given[1..]),
        Some("serve") => return rows::servers::serve_as_told(&given[1..]),
        _ => {}
    }
    match Arguments::parse(&given) {
        Ok(arguments) => run(&arguments),
        Err(error) => {
            eprintln!("{error}\n\n{}", arguments::USAGE);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let mut results = Results::load();
    match arguments.command.as_str() {
        "compare" => compare(&arguments.plan, &mut results),
        "instructions" => {
            count_instructions(&arguments.plan, |measurement, count| {
                results.forget(measurement, |metric| metric == INSTRUCTIONS);
                results.add(measurement, &Sample::new().with(INSTRUCTIONS, count));
            });
            results.save();
        }
        "check" if arguments.update => return check::update(&arguments.plan),
        "check" => return check::check(&arguments.plan),
        "list" => {
            arguments::list();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    report::table::write(&results);
    report::plot::write(&results);
    report::growth::write(&results);
    ExitCode::SUCCESS
}
