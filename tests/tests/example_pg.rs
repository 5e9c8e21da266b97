//! `examples/others/pg.rs`, on a Postgres server of its own, where there is one to be had.
#![allow(missing_docs)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use xiio_tests::example::{example, find_program};
use xiio_tests::os::{send, wait_until};

/// The user `nobody`: the server refuses to run as root.
const NOBODY: u32 = 65_534;

/// A server that listens on a Unix socket in its own directory, and is gone with the test.
struct Postgres {
    directory: PathBuf,
    child: Child,
}

impl Postgres {
    /// `None` if there is none here.
    fn start(test: &str) -> Option<Self> {
        // Where Debian keeps them.
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let program = find_program("postgres", versions.map(|version| version.unwrap().path().join("bin")))?;
        let directory = std::env::temp_dir().join(format!("xiio-pg-{test}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        if is_root() {
            chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut initdb = unprivileged(&program.with_file_name("initdb"), &directory);
        let initdb = initdb.args(["--username", "postgres", "--auth", "trust", "--no-sync"]).output().unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let mut server = unprivileged(&program, &directory);
        let server = server.args(["-h", "", "-c", "fsync=off", "-c", "log_statement=all", "-k"]).arg(&directory);
        let log = File::create(directory.join("log")).unwrap();
        let child = server.stderr(log).spawn().unwrap();
        let postgres = Self { directory, child };
        wait_until("the server is ready", || postgres.has_logged("ready to accept connections"));
        Some(postgres)
    }

    fn has_logged(&self, text: &str) -> bool {
        fs::read_to_string(self.directory.join("log")).unwrap().contains(text)
    }

    /// The example, told to move `amount` from Ada to Grace.
    fn pg(&self, amount: &str) -> Command {
        let mut command = example("pg");
        command.arg(format!("host={} user=postgres", self.directory.display())).args(["Ada", "Grace", amount]);
        command
    }

    #[track_caller]
    fn assert_balances(&self, wanted: &str) {
        assert_eq!(text_of(&self.pg("0").output().unwrap()), wanted);
    }

    /// Starts the example, which pauses in the middle of its transaction.
    fn start_paused(&self, amount: &str) -> Child {
        let mut command = self.pg(amount);
        let mut child =
            command.args(["--pause", "3600"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The server's log has the first half before the program has the answer.
        let (stderr, mut said) = (child.stderr.as_mut().unwrap(), Vec::new());
        while said.last() != Some(&b'\n') {
            let mut byte = [0];
            stderr.read_exact(&mut byte).unwrap();
            said.extend(byte);
        }
        assert_eq!(String::from_utf8(said).unwrap(), "pg: half of it is done, the rest in 3600 s\n");
        child
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, and its children with it.
        send(self.child.id(), libc::SIGQUIT);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A program of the server's, for a database in `directory`.
fn unprivileged(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir(directory).arg("-D").arg(directory.join("data")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn money_moves_or_nothing_does() {
    let Some(postgres) = Postgres::start("moves") else { return };
    assert_eq!(text_of(&postgres.pg("25").output().unwrap()), "Ada has 75, Grace has 125\n");
    let refused = postgres.pg("76").output().unwrap();
    let text = text_of(&refused);
    assert!(text.starts_with("rolled back\npg: ") && text.contains("accounts_balance_check"), "{text}");
    assert_eq!(refused.status.code(), Some(1));
    postgres.assert_balances("Ada has 75, Grace has 125\n");
}

#[test]
fn a_cancelled_transaction_is_rolled_back_before_the_program_ends() {
    let Some(postgres) = Postgres::start("cancelled") else { return };
    let child = postgres.start_paused("11");
    assert!(!postgres.has_logged("rollback"));
    assert!(send(child.id(), libc::SIGINT));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGINT));
    assert_eq!(text_of(&output), "rolled back\n");
    // Not the server on its own, when the connection was lost.
    assert!(postgres.has_logged("statement: rollback"));
    // None of the accounts is there: they were opened in the same transaction.
    postgres.assert_balances("Ada has 100, Grace has 100\n");
}

#[test]
fn so_is_one_that_takes_too_long() {
    let Some(postgres) = Postgres::start("late") else { return };
    let output = postgres.pg("11").args(["--pause", "3600", "--time", "5"]).output().unwrap();
    let text = text_of(&output);
    assert_eq!(text, "rolled back\npg: half of it is done, the rest in 3600 s\npg: time limit is over\n");
    assert_eq!(output.status.code(), Some(1));
    postgres.assert_balances("Ada has 100, Grace has 100\n");
}

#[test]
fn a_server_that_goes_away_ends_the_program() {
    let Some(postgres) = Postgres::start("gone") else { return };
    let child = postgres.start_paused("11");
    drop(postgres);
    assert!(send(child.id(), libc::SIGINT));
    let output = child.wait_with_output().unwrap();
    let text = text_of(&output);
    assert!(text.starts_with("pg: cannot roll back: "), "{text}");
    assert_eq!(output.status.signal(), Some(libc::SIGINT));
}

#[test]
fn times_that_are_none_are_refused_before_anything_is_done() {
    for time in ["--time=-1", "--pause=inf"] {
        let output = example("pg").args(["host=/nowhere", "Ada", "Grace", "1", time]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let output = example("pg").args(["host=/nowhere user=postgres", "Ada", "Grace", "1"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "pg: cannot connect to /nowhere/.s.PGSQL.5432: No such file or directory (os error 2)\n"
    );
}
