//! The tree for other programs of the same user: a socket, and a thread that answers on it while its run lasts.

use std::any::Any;
use std::cell::Cell;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::drawing::{Drawing, json_string};
use crate::recording::{Busy, Recorder, program};
use crate::runtime::Requests;
use crate::sys::fork::Process;
use crate::sys::socket::{self, setup};
use crate::sys::stderr::say;
use crate::sys::{self, user};

/// How long the loop may take to draw, or be in one poll while it does, before it is said to be busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long it may take to draw at all: many short polls. Who asks waits for ten seconds.
const TIME_TO_DRAW: Duration = Duration::from_secs(5);

/// No request has more bytes.
const MAX_REQUEST: usize = 64;

/// How long who asks may take to ask, and to read. The next one waits for it.
const TIME_TO_READ: Duration = Duration::from_secs(2);

/// So much of an answer is sent at a time.
const PORTION: usize = 16 << 10;

/// More than a tree needs that is written or dropped: a drawing has no more than a thousand levels.
const STACK: usize = 8 << 20;

/// Tells the sockets of several runs in one process apart.
static N_SERVED: AtomicU32 = AtomicU32::new(0);

/// Opens the socket of a run; the result removes it.
pub(crate) fn serve(requests: Arc<Requests>, recorder: Arc<Recorder>) -> Box<dyn Any> {
    match Served::open(requests, recorder) {
        Ok(served) => Box::new(served),
        Err(error) => {
            // Not worth the end of a program that works otherwise.
            say(&format!("xiio: this program cannot be inspected: {error}"));
            Box::new(())
        }
    }
}

/// A socket that is answered, until this is dropped.
struct Served {
    path: PathBuf,
    listener: Arc<UnixListener>,
    has_ended: Arc<AtomicBool>,
    /// The process that serves. What it forks off has no part in it.
    of: Process,
}

impl Served {
    fn open(requests: Arc<Requests>, recorder: Arc<Recorder>) -> io::Result<Self> {
        let directory = directory()?;
        remove_stale(&directory);
        let (path, listener) = listen_in(&directory)?;
        let (listener, has_ended) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let served =
            Self { path, listener: Arc::clone(&listener), has_ended: Arc::clone(&has_ended), of: Process::this() };
        fs::set_permissions(&served.path, Permissions::from_mode(0o600))?;
        let answering = Answering { requests, recorder, has_ended, started: sys::now(), asked: Cell::default() };
        let thread = thread::Builder::new().name("xiio-inspect".into()).stack_size(STACK);
        thread.spawn(move || answering.run(&listener))?;
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.of.is_this() {
            return;
        }
        self.has_ended.store(true, Ordering::Release);
        // The thread waits in `accept`. It is not waited for: it may be busy with somebody who does not read.
        // A client takes descriptors, of which there may be none, so there is one only where the system does not end listening.
        if socket::end_listening(self.listener.as_fd()).is_err() {
            drop(UnixStream::connect(&self.path));
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the directory of the sockets is, or is to be: in one in which nobody else can put another in its place.
///
/// `XDG_RUNTIME_DIR` may be that of somebody else, who has become this user with his environment.
fn place_for_directory() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let is_of_user = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|found| found.uid() == user() && !is_open(&found));
    if let Some(runtime) = runtime.filter(is_of_user) {
        return Ok(runtime.join("xiio"));
    }
    let temporary = std::env::temp_dir();
    let found = fs::metadata(&temporary).map_err(|error| named(&temporary, &error))?;
    let is_sticky = found.mode() & 0o1000 != 0;
    if ![0, user()].contains(&found.uid()) || (is_open(&found) && !is_sticky) {
        let text = "others can replace what is in it; set `XDG_RUNTIME_DIR`";
        return Err(named(&temporary, &io::Error::new(io::ErrorKind::PermissionDenied, text)));
    }
    Ok(temporary.join(format!("xiio-{}", user())))
}

/// An error that says which file it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Whether others may write there.
fn is_open(found: &Metadata) -> bool {
    found.mode() & 0o022 != 0
}

/// The directory of this user's sockets, which nobody else can change.
fn directory() -> io::Result<PathBuf> {
    let directory = place_for_directory()?;
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(&directory, &error)),
        _ => {}
    }
    let found = fs::symlink_metadata(&directory).map_err(|error| named(&directory, &error))?;
    if !found.is_dir() || found.uid() != user() || found.mode() & 0o077 != 0 {
        let text = "expected a directory of this user with mode 0700, and no link; have it removed";
        return Err(named(&directory, &io::Error::new(io::ErrorKind::PermissionDenied, text)));
    }
    Ok(directory)
}

/// Listens at the first path that is free. Another program has the same number where containers share a directory.
fn listen_in(directory: &Path) -> io::Result<(PathBuf, UnixListener)> {
    loop {
        let number = N_SERVED.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{}.{number}", process::id()));
        match UnixListener::bind(&path) {
            Ok(listener) => return Ok((path, listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                let text = format!("cannot listen at {}: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
}

/// Removes the sockets of processes that were killed.
fn remove_stale(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.split_once('.')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if pid.is_some() && is_socket && is_stale(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a socket has lost its process, which may be one of another container, with a number that means nothing here.
///
/// A socket of datagrams is refused by such a one, and is the wrong type for one that lives. So nobody is disturbed, and nobody is waited for.
fn is_stale(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// What somebody may ask for.
enum Request {
    /// Said by silence.
    Tree,
    Recording,
}

/// How long it is until then. A socket takes no time for all time.
fn left_until(end: Instant) -> io::Result<Duration> {
    let left = end.checked_duration_since(sys::now()).filter(|left| !left.is_zero());
    left.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// What a client asks for, who says it in one word or closes its side.
fn request(mut client: &UnixStream) -> io::Result<Request> {
    let (mut word, end) = ([0; MAX_REQUEST], sys::now() + TIME_TO_READ);
    let n_bytes = loop {
        client.set_read_timeout(Some(left_until(end)?))?;
        match client.read(&mut word) {
            // With a limit of time any signal does that.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            n_bytes => break n_bytes?,
        }
    };
    match &word[..n_bytes] {
        b"" => Ok(Request::Tree),
        b"recording" => Ok(Request::Recording),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The run has ended while it was asked.
struct Ended;

/// What the loop was asked for.
struct Asked {
    drawn: Receiver<Drawing>,
    /// Nobody keeps a tree that is for nobody.
    is_awaited: Arc<AtomicBool>,
}

impl Asked {
    /// Whether the loop has still to come to it. What has come since nobody waits is old.
    fn is_open(&self) -> bool {
        matches!(self.drawn.try_recv(), Err(TryRecvError::Empty))
    }
}

/// What the thread needs.
struct Answering {
    requests: Arc<Requests>,
    recorder: Arc<Recorder>,
    has_ended: Arc<AtomicBool>,
    started: Instant,
    /// What the loop was asked for and has not come to in time.
    asked: Cell<Option<Asked>>,
}

impl Answering {
    fn run(&self, listener: &UnixListener) {
        for client in listener.incoming() {
            if self.has_ended.load(Ordering::Acquire) {
                return;
            }
            match client {
                // A client that does not read, or belongs to another user, gets no answer.
                Ok(client) => drop(self.answer(&client)),
                // No descriptors are left, for example.
                Err(_) => thread::sleep(PATIENCE),
            }
        }
    }

    /// One client after the other: a thousand cost no more than one at a time.
    fn answer(&self, client: &UnixStream) -> io::Result<()> {
        let uid = setup::peer(client.as_fd())?.uid;
        if uid != user() && uid != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let request = request(client)?;
        // A tree costs the loop a poll of each task, which is not for somebody who has gone: nothing can be sent to him.
        socket::send(client.as_fd(), &[])?;
        let text = match request {
            // Nothing, where the run has ended meanwhile.
            Request::Tree => self.text().unwrap_or_default(),
            Request::Recording => self.recorder.trace(None),
        };
        let (mut left, end) = (text.as_bytes(), sys::now() + TIME_TO_READ);
        while !left.is_empty() {
            // The limit of a socket begins anew with each call, and with each of its buffers.
            client.set_write_timeout(Some(left_until(end)?))?;
            // No signal comes of who has gone.
            match socket::send_patiently(client.as_fd(), &left[..left.len().min(PORTION)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                n_sent => left = &left[n_sent?..],
            }
        }
        Ok(())
    }

    /// One line of JSON; `None` if the run has ended.
    fn text(&self) -> Option<String> {
        let mut text = format!("{{\"version\":1,\"pid\":{},\"program\":{}", process::id(), json_string(&program()));
        let age = sys::now().saturating_duration_since(self.started).as_millis();
        text.push_str(&format!(",\"milliseconds_old\":{age}"));
        match self.draw().ok()? {
            Some(drawing) => text.push_str(&format!(",\"tree\":{}", drawing.to_json())),
            None => text.push_str(&self.recorder.busy().map(|busy| busy_text(&busy)).unwrap_or_default()),
        }
        text.push_str("}\n");
        Some(text)
    }

    /// `None` if the loop does not come to it.
    ///
    /// The loop is asked once, however many give up: a blocked one would have a drawing for each of them when it goes on.
    fn draw(&self) -> Result<Option<Drawing>, Ended> {
        let asked = self.asked.take().filter(Asked::is_open);
        // Who comes behind one who has waited in vain need not do the same.
        let mut is_given_up = asked.is_some() && self.is_kept_from_drawing();
        let mut asked = asked.unwrap_or_else(|| self.ask_loop());
        let end = sys::now() + TIME_TO_DRAW;
        while !is_given_up {
            asked.is_awaited.store(true, Ordering::Release);
            match asked.drawn.recv_timeout(PATIENCE) {
                Ok(drawing) => return Ok(Some(drawing)),
                // Nobody takes what came behind the last look of its loop.
                Err(_) if self.has_ended.load(Ordering::Acquire) => return Err(Ended),
                // It was drawn while nobody waited.
                Err(RecvTimeoutError::Disconnected) => asked = self.ask_loop(),
                Err(RecvTimeoutError::Timeout) => is_given_up = self.is_stuck() || sys::now() >= end,
            }
        }
        asked.is_awaited.store(false, Ordering::Release);
        self.asked.set(Some(asked));
        Ok(None)
    }

    fn ask_loop(&self) -> Asked {
        let (sender, drawn) = sync_channel(1);
        let is_awaited = Arc::new(AtomicBool::new(true));
        let asked = Asked { drawn, is_awaited: Arc::clone(&is_awaited) };
        self.requests.draw(Box::new(move |drawing| {
            if is_awaited.load(Ordering::Acquire) {
                let _ = sender.send(drawing);
            }
        }));
        asked
    }

    /// Whether one poll keeps the loop, or it does not come to what is wanted.
    fn is_stuck(&self) -> bool {
        self.recorder.busy().map_or_else(|| self.requests.is_any(), |busy| is_long(&busy))
    }

    /// Whether one poll keeps the loop. A loop that has taken what is wanted waits for a worker in a long poll for a moment only.
    fn is_kept_from_drawing(&self) -> bool {
        let keeps_it = |busy: &Busy| is_long(busy) && (!busy.is_worker || self.requests.is_any());
        self.recorder.busy().is_some_and(|busy| keeps_it(&busy))
    }
}

fn is_long(busy: &Busy) -> bool {
    sys::now().saturating_duration_since(busy.since) >= PATIENCE
}

/// What the loop is busy with.
fn busy_text(busy: &Busy) -> String {
    let since = sys::now().saturating_duration_since(busy.since).as_millis();
    let mut text = format!(",\"busy\":{{\"milliseconds\":{since}");
    text.push_str(if busy.is_worker { ",\"worker\":true" } else { "" });
    if let Some((place, name)) = &busy.task {
        text.push_str(&format!(",\"file\":{},\"line\":{}", json_string(place.file()), place.line()));
        if let Some(name) = name {
            text.push_str(&format!(",\"name\":{}", json_string(name)));
        }
    }
    text.push('}');
    text
}
