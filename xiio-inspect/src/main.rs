//! Looks at the tree of tasks of a running xiio program that was started with `XIIO_INSPECT=1`, and at recordings.

mod answer;
mod ask;
mod text;
mod view;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use answer::Answer;
use ask::{Request, Run};
use text::Look;

/// For the deepest answer, without optimization too.
const STACK: usize = 64 << 20;

/// Between two looks. Each of them has the program poll all that waits.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Looks at the tree of tasks of a running xiio program that was started with `XIIO_INSPECT=1`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the programs of this user that can be looked at.
    List,
    /// Prints the tree of a program.
    Tree(Tree),
    /// Says in a few sentences what a program waits for, and who does not stop.
    Why {
        /// The number of the process.
        pid: u32,
    },
    /// Writes down what a program has done last, as a trace that `view` and Perfetto read.
    Record {
        /// The number of the process.
        pid: u32,
        /// The file to write. A second run in the process has its number behind the name.
        file: PathBuf,
    },
    /// Makes a page of a recording, for a browser.
    View {
        /// What `record`, `XIIO_RECORD` or the program has written.
        file: PathBuf,
        /// The page: that file with the ending `html`, in place of `json`, if it is not given.
        #[arg(short, long)]
        out: Option<PathBuf>,
    },
    /// Prints the tree again and again.
    Watch {
        #[command(flatten)]
        tree: Tree,
        /// How many seconds lie between two looks: 0.01 or more.
        #[arg(long, default_value_t = 1.0)]
        every: f64,
    },
}

#[derive(Debug, Args)]
struct Tree {
    /// The number of the process.
    pid: u32,
    /// Prints each task, however many are alike.
    #[arg(long)]
    all: bool,
    /// Prints what the program has answered, as JSON.
    #[arg(long, conflicts_with = "dot")]
    json: bool,
    /// Prints the tree in the language of Graphviz.
    #[arg(long)]
    dot: bool,
}

impl Tree {
    fn render(&self) -> Result<String, String> {
        ask::answers(self.pid, Request::Tree)?.iter().map(|(_, line)| self.form(line)).collect()
    }

    /// An answer as it is asked for.
    fn form(&self, line: &str) -> Result<String, String> {
        let answer = Answer::parse(line)?;
        Ok(match () {
            () if self.json => text::json(line),
            () if self.dot => text::dot(&answer),
            () => text::tree(&answer, self.all),
        })
    }

    /// Prints the tree again and again: for who reads it with the busiest and the stuck above, each in the place of the one before.
    fn watch(&self, pause: Duration) -> Result<(), String> {
        let (mut looks, mut looked_at) = (BTreeMap::<Run, Look>::new(), Instant::now());
        let mut answers = ask::answers(self.pid, Request::Tree)?;
        loop {
            if self.json || self.dot {
                print(&answers.iter().map(|(_, line)| self.form(line)).collect::<Result<String, _>>()?)?;
            } else {
                let seconds = looked_at.elapsed().as_secs_f64();
                looked_at = Instant::now();
                print(&self.marked(&answers, &mut looks, seconds)?)?;
            }
            thread::sleep(pause);
            // It was there a moment ago, so how it must be started is known.
            let has_ended = |_| format!("process {} has ended, or gives no answer any more", self.pid);
            answers = ask::answers(self.pid, Request::Tree).map_err(has_ended)?;
        }
    }

    fn marked(
        &self,
        answers: &[(Run, String)],
        looks: &mut BTreeMap<Run, Look>,
        seconds: f64,
    ) -> Result<String, String> {
        let mut text = start_of_a_look();
        let before = mem::take(looks);
        for (run, line) in answers {
            let nothing = Look::new();
            let (marks, now) = text::marks(&Answer::parse(line)?, before.get(run).unwrap_or(&nothing), seconds);
            looks.insert(run.clone(), now);
            text.push_str(&marks);
            text.push_str(&self.form(line)?);
        }
        Ok(text)
    }
}

/// What stands before each look: to the top left, and nothing below. A file, or a terminal that knows no such thing, has them one below the other.
fn start_of_a_look() -> String {
    let obeys = |terminal: OsString| !terminal.is_empty() && terminal != "dumb";
    let is_cleared = io::stdout().is_terminal() && env::var_os("TERM").is_some_and(obeys);
    if is_cleared { "\x1b[H\x1b[2J" } else { "\n" }.into()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let thread = thread::Builder::new().stack_size(STACK).spawn(move || run(&arguments.command));
    let done = thread.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
    match done.unwrap_or_else(|error| Err(format!("cannot start a thread: {error}"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Not `eprintln!`, which panics when nobody reads.
fn complain(error: &str) {
    let _ = writeln!(io::stderr(), "xiio-inspect: {}", text::harmless(error));
}

fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List => print(&list()?),
        Command::Tree(tree) => print(&tree.render()?),
        Command::Why { pid } => {
            for (_, line) in ask::answers(*pid, Request::Tree)? {
                print(&text::why(&Answer::parse(&line)?))?;
            }
            Ok(())
        }
        Command::Record { pid, file } => record(*pid, file),
        Command::View { file, out } => {
            let out = out.clone().unwrap_or_else(|| page_of(file));
            print(&write(&out, &view::page(file)?)?)
        }
        Command::Watch { tree, every } => {
            let pause = Duration::try_from_secs_f64(*every).map_err(|error| format!("--every {every}: {error}"))?;
            if pause < SHORTEST_PAUSE {
                return Err(format!("--every {every}: expected at least {}", SHORTEST_PAUSE.as_secs_f64()));
            }
            tree.watch(pause)
        }
    }
}

/// A file for each run in a program. Of several each has the same name every time, also if others have ended meanwhile.
fn record(pid: u32, file: &Path) -> Result<(), String> {
    let mut said = String::new();
    let answers = ask::answers(pid, Request::Recording)?;
    let is_one = answers.len() == 1;
    for (run, trace) in answers {
        let mut name = file.as_os_str().to_owned();
        if run.number > 0 && !is_one {
            name.push(format!(".{}", run.number));
        }
        said.push_str(&write(Path::new(&name), &text::json(&trace))?);
    }
    print(&said)
}

/// Where the page of a recording goes: a name of its own for each, and none of theirs.
fn page_of(file: &Path) -> PathBuf {
    let mut name = match file.extension() {
        Some(ending) if ending == "json" => file.with_extension(""),
        _ => file.to_owned(),
    }
    .into_os_string();
    name.push(".html");
    name.into()
}

/// Whether a file is the standard output, which gets the text then and nothing else.
fn is_stdout(file: &Path) -> bool {
    let stdout = io::stdout().as_fd().try_clone_to_owned().and_then(|stdout| File::from(stdout).metadata());
    let of = |found: Metadata| (found.dev(), found.ino());
    fs::metadata(file).ok().zip(stdout.ok()).is_some_and(|(file, stdout)| of(file) == of(stdout))
}

/// Writes a file, and gives what is to be said of it.
fn write(file: &Path, text: &str) -> Result<String, String> {
    if is_stdout(file) {
        return Ok(text.to_owned());
    }
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(format!("{}\n", file.display()))
}

/// A line for each program, also for those that do not answer.
fn list() -> Result<String, String> {
    let mut text = String::new();
    let runs = ask::runs()?;
    let processes: Vec<&[Run]> = runs.chunk_by(|one, other| one.pid == other.pid).collect();
    let answered = ask::at_once(&processes, |runs| ask::answers_of(runs, Request::Tree));
    for (runs, lines) in processes.into_iter().zip(answered) {
        // Not on the threads that ask, which have small stacks.
        match lines.and_then(|lines| lines.iter().map(|(_, line)| Answer::parse(line)).collect::<Result<Vec<_>, _>>()) {
            Ok(answers) => answers.iter().for_each(|answer| text.push_str(&text::head(answer))),
            Err(error) => text.push_str(&format!("{} does not answer: {}\n", runs[0].pid, text::harmless(&error))),
        }
    }
    Ok(if text.is_empty() {
        "no program of this user can be inspected; start one with XIIO_INSPECT=1\n".into()
    } else {
        text
    })
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| format!("cannot write: {error}")),
    }
}
