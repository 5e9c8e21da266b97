//! The programs of `examples/`, as children of a test.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::os::{nobody_reads, with_usual_signals};

/// More than an example takes to answer on a machine that is busy with something else.
const LONG: Duration = Duration::from_secs(60);

/// The example `name`, as built for the profile of this test.
///
/// # Panics
/// When it is not built: `cargo test` builds it, `cargo test -p xiio-tests` does not.
#[must_use]
pub fn example(name: &str) -> Command {
    let path = examples_dir().join(name);
    assert!(path.exists(), "{} is missing; build it with `cargo build --examples`", path.display());
    with_usual_signals(Command::new(path))
}

/// Runs a program with `input` on its standard input, to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that ends without reading all of it may do so.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// An example that serves, and is killed when the test has ended.
pub struct Server {
    pub child: Child,
    /// `127.0.0.1:…`, as it says itself.
    pub address: String,
}

impl Server {
    /// Starts the example `name`, which takes an address and says where it listens. Nobody reads its standard error.
    ///
    /// # Panics
    /// When it does not say so.
    #[must_use]
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_at(name, "127.0.0.1:0", arguments)
    }

    /// The same, at an address.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_at(name: &str, address: &str, arguments: &[&str]) -> Self {
        let mut command = example(name);
        let command = command.arg(address).args(arguments).stdout(Stdio::piped()).stderr(nobody_reads());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").expect("it says where it listens").to_owned();
        Self { child, address }
    }

    /// A connection that fails rather than wait for ever.
    ///
    /// # Panics
    /// When it cannot connect.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        assert!(crate::os::send(self.child.id(), libc::SIGTERM));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is such a program here, see [`find_program`].
#[must_use]
pub fn has_program(name: &str) -> bool {
    find_program(name, []).is_some()
}

/// Finds a program in the `PATH` or in one of the directories `elsewhere`. If there is none the test that needs it is
/// skipped, and this says so.
#[must_use]
pub fn find_program(name: &str, elsewhere: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).chain(elsewhere).map(|directory| directory.join(name));
    let found = candidates.find(|candidate| candidate.is_file());
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by `eprintln!`, which the harness keeps to itself when the test passes.
        let _ = writeln!(io::stderr(), "skipped: `{test}`, as there is no `{name}` here");
    }
    found
}

/// `target/<profile>/examples`, seen from `target/<profile>/deps/<test>`.
fn examples_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples")
}
