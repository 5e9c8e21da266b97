//! Runs commands from standard input, several at a time, and keeps their output apart.
//!
//! Shows: a group with a limit, whose tasks are child processes; a `bracket` that prints the summary whatever happens; and
//! an orderly end: Ctrl-C stops all commands with their own children, and then the program dies by that signal.
//!
//! ```text
//! $ printf 'sleep 1; echo one\necho two; exit 3\n' | cargo run --release --example fanout -- -j 2
//! ==> echo two; exit 3
//! two
//! ==> sleep 1; echo one
//! one
//! ok             1.0 s  sleep 1; echo one
//! exit 3         0.0 s  echo two; exit 3
//! ```
//!
//! Each line is a command for `sh`; empty lines do not count. What a command wrote appears when it has ended, stdout and
//! stderr where they belong. The summary is on stderr, and so is a progress line while that is a terminal. The exit code is
//! 1 if a command failed.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use xiio::io::{BufRead, BufReader, Unchanged};
use xiio::process::{Command, Output, Stdio};
use xiio::{bracket, task_group};

/// Runs commands from standard input, several at a time.
#[derive(Parser)]
struct Arguments {
    /// How many commands run at once; as many as there are processors if it is not given
    #[arg(short, long)]
    jobs: Option<NonZeroUsize>,
    /// How many seconds a command may take to stop until it is killed
    #[arg(long, default_value = "5", value_parser = seconds)]
    grace: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), name = "fanout")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = async |board: &mut Board| run_all(&arguments, board).await;
    let outcome = bracket(Board::new(), run, async |board| board.print_summary()).await;
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs each line of standard input. Says whether all succeeded.
async fn run_all(arguments: &Arguments, board: &Board) -> io::Result<bool> {
    let limit = arguments.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let mut lines = BufReader::new(Unchanged(io::stdin())).lines();
    task_group!(name = "commands", limit = limit, |tg| {
        while let Some(line) = lines.next().await {
            let line = line?;
            if !line.trim().is_empty() {
                let entry = board.add(line);
                tg.spawn(run_one(board, entry, arguments.grace));
            }
        }
    });
    Ok(board.all_succeeded())
}

async fn run_one(board: &Board, entry: usize, grace: Duration) {
    let line = board.start(entry);
    // Standard input is the list of commands, so they do not get it.
    let mut command = Command::new("sh");
    let result = command.arg("-c").arg(line).stdin(Stdio::null()).grace(grace).output().await;
    board.end(entry, result);
}

/// What is known of all commands.
struct Board {
    entries: RefCell<Vec<Entry>>,
    progress: ProgressBar,
}

struct Entry {
    line: String,
    state: State,
}

enum State {
    Waiting,
    Running(Instant),
    Ended(End, Duration),
}

enum End {
    Exit(i32),
    Signal(i32),
    NotRun,
}

impl Board {
    fn new() -> Self {
        // Draws to stderr, and nothing if that is no terminal.
        let progress = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}") {
            progress.set_style(style);
        }
        progress.enable_steady_tick(Duration::from_millis(200));
        Self { entries: RefCell::default(), progress }
    }

    fn add(&self, line: String) -> usize {
        let mut entries = self.entries.borrow_mut();
        entries.push(Entry { line, state: State::Waiting });
        self.progress.inc_length(1);
        entries.len() - 1
    }

    /// Notes that a command starts, and gives its line.
    fn start(&self, entry: usize) -> String {
        let entry = &mut self.entries.borrow_mut()[entry];
        entry.state = State::Running(Instant::now());
        self.progress.set_message(entry.line.clone());
        entry.line.clone()
    }

    /// Prints what a command has written, in one piece, and notes how it ended.
    fn end(&self, entry: usize, result: io::Result<Output>) {
        let entry = &mut self.entries.borrow_mut()[entry];
        self.progress.suspend(|| print_output(&entry.line, &result));
        self.progress.inc(1);
        let State::Running(started) = entry.state else { return };
        let end = match result.map(|output| output.status) {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => End::Exit(code),
                (None, signal) => End::Signal(signal.unwrap_or_default()),
            },
            Err(_) => End::NotRun,
        };
        entry.state = State::Ended(end, started.elapsed());
    }

    fn all_succeeded(&self) -> bool {
        self.entries.borrow().iter().all(|entry| matches!(entry.state, State::Ended(End::Exit(0), _)))
    }

    fn print_summary(self) {
        self.progress.finish_and_clear();
        for entry in self.entries.borrow().iter() {
            eprintln!("{:<8} {}", entry.state, entry.line);
        }
    }
}

fn print_output(line: &str, result: &io::Result<Output>) {
    let mut stdout = io::stdout().lock();
    // Whoever reads us may have gone; the commands run on.
    let _ = writeln!(stdout, "==> {line}");
    match result {
        Ok(output) => {
            let _ = stdout.write_all(&output.stdout).and_then(|()| stdout.flush());
            let _ = io::stderr().write_all(&output.stderr);
        }
        Err(error) => eprintln!("fanout: {error}"),
    }
}

impl fmt::Display for State {
    /// How it ended and how long it took, in columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, took) = match self {
            Self::Waiting => ("not started".into(), Duration::ZERO),
            Self::Running(started) => ("stopped".into(), started.elapsed()),
            Self::Ended(End::Exit(0), took) => ("ok".into(), *took),
            Self::Ended(End::Exit(code), took) => (format!("exit {code}"), *took),
            Self::Ended(End::Signal(signal), took) => (format!("signal {signal}"), *took),
            Self::Ended(End::NotRun, took) => ("not run".into(), *took),
        };
        write!(f, "{how:<11} {:>6.1} s ", took.as_secs_f64())
    }
}
