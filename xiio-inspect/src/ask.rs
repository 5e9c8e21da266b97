//! The sockets of programs, and what comes from them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::complain;

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

/// The sockets there are of programs that live, with the number of the process.
fn sockets() -> Result<Vec<(u32, PathBuf)>, String> {
    let mut found = Vec::new();
    let directories = directories()?;
    for directory in directories.found {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.split_once('.')).and_then(|(pid, _)| pid.parse().ok());
            let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
            if let Some(pid) = pid.filter(|_| is_socket && !is_stale(&entry.path())) {
                found.push((pid, entry.path()));
            }
        }
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

/// Whether a socket has lost its process: one of datagrams is refused by such a one, and is the wrong type for one that lives.
fn is_stale(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

pub(crate) fn pids() -> Result<Vec<u32>, String> {
    let mut pids: Vec<u32> = sockets()?.into_iter().map(|(pid, _)| pid).collect();
    pids.dedup();
    Ok(pids)
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

/// What each run in a process answers: JSON. One that gives no answer, as it has ended meanwhile, hides none of the others.
pub(crate) fn answers(pid: u32, request: Request) -> Result<Vec<String>, String> {
    let sockets: Vec<PathBuf> = sockets()?.into_iter().filter(|(of, _)| *of == pid).map(|(_, path)| path).collect();
    if sockets.is_empty() {
        return Err(format!(
            "process {pid} has no socket: it must be a program of xiio, of this user, started with XIIO_INSPECT=1"
        ));
    }
    let (answers, errors): (Vec<_>, Vec<_>) = sockets.iter().map(|path| answer(path, request)).partition(Result::is_ok);
    let errors: Vec<String> = errors.into_iter().filter_map(Result::err).collect();
    if answers.is_empty() {
        return Err(errors.join("; "));
    }
    errors.iter().for_each(|error| complain(error));
    answers.into_iter().collect()
}

fn answer(path: &Path, request: Request) -> Result<String, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut stream = UnixStream::connect(path).map_err(|error| named(&error))?;
    let asked = stream.write_all(request.word()).and_then(|()| stream.shutdown(Shutdown::Write));
    let bytes = asked.and_then(|()| read(stream)).map_err(|error| named(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| named(&"the answer is no text"))?;
    if text.is_empty() {
        return Err(named(&"the program ended, or gives this user no answer"));
    }
    if !text.ends_with('\n') {
        return Err(named(&"the answer was cut off; the program may have ended"));
    }
    Ok(text)
}

/// All that comes, within bounds of size and time.
fn read(mut stream: UnixStream) -> io::Result<Vec<u8>> {
    let (end, mut bytes, mut part) = (Instant::now() + PATIENCE, Vec::new(), vec![0; 1 << 16]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer within ten seconds"));
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
