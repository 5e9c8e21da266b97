//! Recordings: asked for by the program, or by `XIIO_RECORD`.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::recording::{self, On, Recorder};
use crate::sys::fork::Process;
use crate::sys::stderr::say;

/// Names the file of a recording.
const VARIABLE: &str = "XIIO_RECORD";

/// So many runs of one process are written at the most: a server may run each of its jobs by itself, and would fill the disk.
const MAX_SAVED: u32 = 1000;

/// Tells the recordings of several runs in one process apart.
static N_SAVED: AtomicU32 = AtomicU32::new(0);

/// Records what the groups do that begin on this thread from now on, and the newest `capacity` events of it, until the result is dropped.
///
/// An event takes 40 bytes. Events are: a task is spawned, polled, woken (and by whom), cancelled (and why), and ends; a cleanup begins and ends;
/// a report. Their time is the system's; in a test with virtual time it passes as [`now`](crate::now()) does while all tasks wait. Tasks on the workers of a group are recorded with it. Of several recordings on one thread the newest gets the events.
///
/// The environment asks for the same with `XIIO_RECORD=FILE`. That file is written when `run` ends, also by a panic or a deadlock; `%p` in its name
/// stands for the number of the process, and a later run of the same process adds its own number to the name. Of one process the first thousand runs are
/// written.
///
/// # Examples
/// ```
/// let recording = xiio::inspect::record(10_000);
/// xiio::run(async {
///     xiio::task_group!(|tg| {
///         tg.spawn_named("worker", xiio::yield_now());
///     });
/// });
/// assert!(recording.to_json().contains("worker"));
/// ```
pub fn record(capacity: usize) -> Recording {
    let recorder = Recorder::new(capacity);
    Recording { _on: recording::begin(Arc::clone(&recorder)), recorder, capacity }
}

/// What has happened since [`record`] was called.
#[must_use = "the recording ends when this is dropped"]
pub struct Recording {
    recorder: Arc<Recorder>,
    /// A run may want more of the recorder.
    capacity: usize,
    _on: On,
}

impl Recording {
    /// The recording so far, as a trace of Chrome's, which Perfetto and `xiio-inspect view` read.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.recorder.newest(self.capacity.max(1)).write(None)
    }

    /// The recording so far, as a page that needs nothing but a browser.
    #[must_use]
    pub fn to_html(&self) -> String {
        recording::page(&self.to_json())
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

/// Whether the environment asks for a recording of each run.
pub(crate) fn is_asked() -> bool {
    // One that is too many says so. Those after it are not even recorded.
    let are_too_many = N_SAVED.load(Ordering::Relaxed) > MAX_SAVED;
    !are_too_many && std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
}

/// Has a recording written when the result is dropped.
pub(crate) fn save(recorder: Arc<Recorder>) -> Box<dyn Any> {
    let number = N_SAVED.fetch_add(1, Ordering::Relaxed);
    if number >= MAX_SAVED {
        if number == MAX_SAVED {
            say(&format!("xiio: {MAX_SAVED} runs of this process are recorded in files; those that come now are not"));
        }
        return Box::new(());
    }
    let mut name = with_pid(&std::env::var_os(VARIABLE).unwrap_or_default());
    if number > 0 {
        name.push(format!(".{number}"));
    }
    Box::new(Saved { recorder, path: name.into(), of: Process::this() })
}

/// The name with the number of the process for each `%p`. It may be no text.
fn with_pid(name: &OsStr) -> OsString {
    let (mut left, mut whole) = (name.as_bytes(), Vec::new());
    while let Some(at) = left.windows(2).position(|pair| pair == b"%p") {
        whole.extend_from_slice(&left[..at]);
        whole.extend_from_slice(process::id().to_string().as_bytes());
        left = &left[at + 2..];
    }
    whole.extend_from_slice(left);
    OsString::from_vec(whole)
}

struct Saved {
    recorder: Arc<Recorder>,
    path: PathBuf,
    /// The process that is recorded. What it forks off would write the same file.
    of: Process,
}

impl Drop for Saved {
    fn drop(&mut self) {
        if !self.of.is_this() {
            return;
        }
        if let Err(error) = fs::write(&self.path, self.recorder.trace(None)) {
            let path = self.path.display();
            say(&format!("xiio: cannot write the recording {path}: {error}"));
        }
    }
}
