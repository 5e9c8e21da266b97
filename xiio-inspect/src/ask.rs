//! The sockets of programs, and what comes from them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::{complain, view};

/// No answer is longer.
const MAX_BYTES: usize = 256 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directories in which programs of this user have their sockets.
struct Directories {
    found: Vec<PathBuf>,
    /// In a directory that others can change a socket may be anybody's.
    refused: Vec<PathBuf>,
}

fn directories() -> Result<Directories, String> {
    let uid = fs::metadata("/proc/self").map_err(|error| format!("cannot tell who the user is: {error}"))?.uid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let all =
        [runtime.map(|dir| PathBuf::from(dir).join("xiio")), Some(std::env::temp_dir().join(format!("xiio-{uid}")))];
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for directory in all.into_iter().flatten() {
        let Ok(file) = fs::symlink_metadata(&directory) else { continue };
        let is_ours = file.is_dir() && file.uid() == uid && file.mode() & 0o077 == 0;
        if is_ours { found.push(directory) } else { refused.push(directory) }
    }
    Ok(Directories { found, refused })
}

/// Where a run answers. In the order of processes, and of the runs in each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) pid: u32,
    /// Of the run in its process.
    pub(crate) number: u32,
    path: PathBuf,
}

impl Run {
    /// The run of a socket, which is called `PID.NUMBER`.
    fn at(path: PathBuf) -> Option<Self> {
        let (pid, number) = path.file_name()?.to_str()?.split_once('.')?;
        Some(Self { pid: pid.parse().ok()?, number: number.parse().ok()?, path })
    }
}

/// The runs of programs that live, those of a process one behind the other.
pub(crate) fn runs() -> Result<Vec<Run>, String> {
    let mut found = Vec::new();
    let directories = directories()?;
    for directory in directories.found {
        found.extend(runs_in(&directory).map_err(|error| format!("{}: {error}", directory.display()))?);
    }
    if found.is_empty() && !directories.refused.is_empty() {
        let paths: Vec<String> = directories.refused.iter().map(|path| path.display().to_string()).collect();
        return Err(format!(
            "{}: not looked at, as it is no directory of this user with mode 0700, or a link; have it removed",
            paths.join(", ")
        ));
    }
    found.sort();
    Ok(found)
}

fn runs_in(directory: &Path) -> io::Result<Vec<Run>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        found.extend(Run::at(entry.path()).filter(|run| is_socket && !is_stale(&run.path)));
    }
    Ok(found)
}

/// Whether a socket has lost its process: one of datagrams is refused by such a one, and is the wrong type for one that lives.
fn is_stale(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// What a program is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    Tree,
    Recording,
}

impl Request {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Tree => b"",
            Self::Recording => b"recording",
        }
    }
}

/// What each run in a process answers: JSON.
pub(crate) fn answers(pid: u32, request: Request) -> Result<Vec<(Run, String)>, String> {
    let runs: Vec<Run> = runs()?.into_iter().filter(|run| run.pid == pid).collect();
    if runs.is_empty() {
        return Err(format!(
            "process {pid} has no socket: it must be a program of xiio, of this user, started with XIIO_INSPECT=1"
        ));
    }
    answers_of(&runs, request)
}

/// What each of these runs answers. One that gives no answer, as it has ended meanwhile, hides none of the others.
pub(crate) fn answers_of(runs: &[Run], request: Request) -> Result<Vec<(Run, String)>, String> {
    let (mut answers, mut errors) = (Vec::new(), Vec::new());
    let asked = at_once(runs, |run| answer(&run.path, request, PATIENCE));
    for (run, answered) in runs.iter().zip(asked) {
        match answered {
            Ok(text) => answers.push((run.clone(), text)),
            Err(error) => errors.push(error),
        }
    }
    if answers.is_empty() {
        return Err(errors.join("; "));
    }
    errors.iter().for_each(|error| complain(error));
    Ok(answers)
}

/// Asks all of them at the same time, so that those who do not answer are waited for once.
pub(crate) fn at_once<T: Sync, A: Send>(all: &[T], ask: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let ask = &ask;
    thread::scope(|scope| {
        let start = |one| thread::Builder::new().spawn_scoped(scope, move || ask(one));
        let asking: Vec<_> = all.iter().map(|one| (one, start(one))).collect();
        let answer = |(one, asking): (_, io::Result<ScopedJoinHandle<'_, A>>)| match asking {
            Ok(asking) => asking.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // There are too many threads.
            Err(_) => ask(one),
        };
        asking.into_iter().map(answer).collect()
    })
}

fn answer(path: &Path, request: Request, patience: Duration) -> Result<String, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let end = Instant::now() + patience;
    let mut stream = connect(path, end).map_err(|error| named(&error))?;
    let asked = stream.write_all(request.word()).and_then(|()| stream.shutdown(Shutdown::Write));
    let bytes = asked.and_then(|()| read(stream, end)).map_err(|error| named(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| named(&"the answer is no text"))?;
    if text.is_empty() {
        return Err(named(&"the program ended, or gives this user no answer"));
    }
    if !text.ends_with('\n') {
        return Err(named(&"the answer was cut off; the program may have ended"));
    }
    // It has several lines. A tree has one, and is looked at where the stack is large.
    if let Request::Recording = request {
        view::check(&text).map_err(|error| named(&error))?;
    }
    Ok(text)
}

/// Connects to a program, which may have stopped and accept nobody: that is waited for on a thread, which is left behind then.
fn connect(path: &Path, end: Instant) -> io::Result<UnixStream> {
    let (sender, receiver) = sync_channel(1);
    let path = path.to_owned();
    thread::Builder::new().spawn(move || drop(sender.send(UnixStream::connect(path))))?;
    receiver.recv_timeout(end.saturating_duration_since(Instant::now())).unwrap_or_else(|_| Err(late()))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no whole answer within ten seconds")
}

/// All that comes, within bounds of size and time.
fn read(mut stream: UnixStream, end: Instant) -> io::Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(n) if bytes.len() + n > MAX_BYTES => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is longer than 256 MiB"));
            }
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use xiio::net::UnixSocket;

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_read_is_an_error_and_not_empty() {
        let file = env::current_exe().unwrap();
        assert_eq!(runs_in(&file).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn who_accepts_nobody_is_not_waited_for_longer_than_who_does_not_answer() {
        let path = env::temp_dir().join(format!("xiio-deaf-{}", process::id()));
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        // One client is all that may wait to be accepted.
        let _listener = xiio::run(async { socket.listen(0) }).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let error = answer(&path, Request::Tree, Duration::from_millis(50)).unwrap_err();
        assert!(error.ends_with("no whole answer within ten seconds"), "{error}");
        fs::remove_file(path).unwrap();
    }
}
