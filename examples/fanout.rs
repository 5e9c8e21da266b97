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
//! Each line is a command for `sh`; empty lines do not count, and one that is longer than 64 KiB is not run. What a command wrote appears
//! when it has ended, stdout and stderr where they belong. The summary is on stderr, and so is a progress line while that is a terminal. The exit code is
//! 1 if a command failed.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use async_lock::{Mutex, Semaphore};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use xiio::io::{BufRead, BufReader, Read, Unchanged};
use xiio::process::{Command, Output, Stdio};
use xiio::{bracket, task_group};

/// How many commands are read before it is their turn. What follows waits where it comes from.
const READ_AHEAD: usize = 100;

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
            complain(format_args!("fanout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says it on standard error. Not by `eprintln!`, which panics when nobody reads.
fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Runs each line of standard input. Says whether all succeeded.
async fn run_all(arguments: &Arguments, board: &Board) -> io::Result<bool> {
    let limit = arguments.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let mut input = BufReader::new(Unchanged(io::stdin()));
    // The `limit` of the group bounds those that run, and not those that wait.
    let places = Semaphore::new(limit + READ_AHEAD);
    task_group!(name = "commands", limit = limit, |tg| {
        loop {
            let place = places.acquire().await;
            let Some(line) = next_line(&mut input).await? else { break };
            if line.as_ref().is_ok_and(|command| command.trim_ascii().is_empty()) {
                continue;
            }
            let entry = board.add(&line);
            tg.spawn(async move {
                run_one(board, entry, line, arguments.grace).await;
                drop(place);
            });
        }
    });
    Ok(board.all_succeeded())
}

/// A command, or the beginning of a line that is too long to be one. The commands that run are not to suffer for it.
type Line = Result<Vec<u8>, Vec<u8>>;

async fn next_line(input: &mut BufReader<impl Read>) -> io::Result<Option<Line>> {
    let (mut line, mut beginning) = (Vec::new(), None);
    loop {
        match input.read_until(b'\n', &mut line).await {
            Ok(n_read) => {
                line.pop_if(|last| *last == b'\n');
                let is_there = n_read > 0 || beginning.is_some();
                return Ok(is_there.then(|| beginning.map_or(Ok(line), Err)));
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                beginning.get_or_insert_with(|| input.buffer()[..40].to_vec());
                input.consume(input.buffer().len());
            }
            Err(error) => return Err(error),
        }
    }
}

async fn run_one(board: &Board, entry: usize, line: Line, grace: Duration) {
    board.start(entry);
    let result = match line {
        Ok(line) => {
            // Standard input is the list of commands, so they do not get it.
            let mut command = Command::new("sh");
            command.arg("-c").arg(OsString::from_vec(line)).stdin(Stdio::null()).grace(grace);
            command.output().await.map_err(|error| format!("`sh`: {error}"))
        }
        Err(_beginning) => Err("a line is longer than 64 KiB".into()),
    };
    board.end(entry, result).await;
}

/// What is known of all commands.
struct Board {
    entries: RefCell<Vec<Entry>>,
    progress: ProgressBar,
    /// Held by the command whose output is written.
    output: Mutex<()>,
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
        Self { entries: RefCell::default(), progress, output: Mutex::new(()) }
    }

    fn add(&self, line: &Line) -> usize {
        let line = match line {
            Ok(line) => String::from_utf8_lossy(line).into_owned(),
            Err(beginning) => format!("{}…", String::from_utf8_lossy(beginning)),
        };
        let mut entries = self.entries.borrow_mut();
        entries.push(Entry { line, state: State::Waiting });
        self.progress.inc_length(1);
        entries.len() - 1
    }

    /// Notes that a command starts.
    fn start(&self, entry: usize) {
        let entry = &mut self.entries.borrow_mut()[entry];
        entry.state = State::Running(Instant::now());
        self.progress.set_message(entry.line.clone());
    }

    /// Notes how a command ended, and prints what it has written, in one piece.
    async fn end(&self, entry: usize, result: Result<Output, String>) {
        let line = self.note_end(entry, &result);
        let _turn = self.output.lock().await;
        // Whoever reads us may have gone; the commands run on.
        let _ = self.print(io::stdout(), format!("==> {line}\n").as_bytes()).await;
        match result {
            Ok(output) => {
                let _ = self.print(io::stdout(), &output.stdout).await;
                let _ = self.print(io::stderr(), &output.stderr).await;
            }
            Err(error) => _ = self.print(io::stderr(), format!("fanout: {error}\n").as_bytes()).await,
        }
        self.progress.inc(1);
    }

    /// Gives the line of the command.
    fn note_end(&self, entry: usize, result: &Result<Output, String>) -> String {
        let entry = &mut self.entries.borrow_mut()[entry];
        let State::Running(started) = entry.state else { unreachable!("it was started") };
        let end = match result.as_ref().map(|output| output.status) {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => End::Exit(code),
                (None, signal) => End::Signal(signal.unwrap_or_default()),
            },
            Err(_) => End::NotRun,
        };
        entry.state = State::Ended(end, started.elapsed());
        entry.line.clone()
    }

    /// Writes to a terminal while the progress line is hidden. Whoever is behind anything else may not read, so the thread does not wait there.
    async fn print(&self, mut to: impl AsFd + IsTerminal + Write, bytes: &[u8]) -> io::Result<()> {
        match to.is_terminal() {
            true => self.progress.suspend(|| to.write_all(bytes).and_then(|()| to.flush())),
            false => xiio::write_all(to, bytes).await,
        }
    }

    fn all_succeeded(&self) -> bool {
        self.entries.borrow().iter().all(|entry| matches!(entry.state, State::Ended(End::Exit(0), _)))
    }

    fn print_summary(self) {
        self.progress.finish_and_clear();
        for entry in self.entries.borrow().iter() {
            complain(format_args!("{:<8} {}", entry.state, entry.line));
        }
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
