//! Faults on purpose: what the system may answer, and hardly ever does.
//!
//! Only in a build with `--cfg xiio_faults`, which the tests of this project make. The environment variable `XIIO_FAULTS`
//! says what happens then:
//!
//! | | |
//! |---|---|
//! | `seed=7` | what nobody may notice, drawn from the seed: calls are interrupted, find nothing although there is something, and move less than they could; readiness is reported that is not there. With an odd seed the self-check of the reactor fails |
//! | `fail=17:24` | the 17th call that may fail with the error 24 does, and says so on standard error |
//! | `stall=50` | the clock stands still for 50 ms of every 100 |
//!
//! What is pretended must be possible. A descriptor that is watched for edges and "has nothing", or gives less than it
//! has, would never be reported again. So its registration is armed anew, as if the rest came in the next moment.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Call, epoll};

enum Plan {
    Nothing,
    Unnoticed { seed: u64 },
    Fail { at: u64, errno: i32 },
    Stall(Duration),
}

impl Plan {
    fn get() -> &'static Self {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| match std::env::var("XIIO_FAULTS") {
            Ok(text) => Self::parse(&text).unwrap_or_else(|| panic!("`XIIO_FAULTS` is `{text}`")),
            Err(_) => Self::Nothing,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        match name {
            "seed" => Some(Self::Unnoticed { seed: value.parse().ok()? }),
            "fail" => {
                let (at, errno) = value.split_once(':')?;
                Some(Self::Fail { at: at.parse().ok()?, errno: errno.parse().ok()? })
            }
            "stall" => Some(Self::Stall(Duration::from_millis(value.parse().ok()?))),
            _ => None,
        }
    }
}

/// The fault of a call that is about to be made, if it has one.
pub(super) fn strike(call: Call<'_>) -> io::Result<()> {
    match *Plan::get() {
        Plan::Unnoticed { seed } => strike_unnoticed(call, seed),
        Plan::Fail { at, errno } => strike_once(call, at, errno),
        Plan::Nothing | Plan::Stall(_) => Ok(()),
    }
}

fn strike_unnoticed(call: Call<'_>, seed: u64) -> io::Result<()> {
    let errno = match call {
        Call::Wait if draw(seed, 4) == 0 => libc::EINTR,
        Call::Attempt(fd) => match draw(seed, 8) {
            0 => libc::EINTR,
            // The portable reactor cannot be armed anew from here.
            1 if !is_portable(seed) && Kind::of(fd) != Kind::Other => {
                arm_anew(fd);
                libc::EAGAIN
            }
            _ => return Ok(()),
        },
        Call::SelfCheck if is_portable(seed) => libc::EPERM,
        _ => return Ok(()),
    };
    Err(io::Error::from_raw_os_error(errno))
}

fn strike_once(call: Call<'_>, at: u64, errno: i32) -> io::Result<()> {
    static N_CALLS: AtomicU64 = AtomicU64::new(0);
    let may_fail = match call {
        Call::Make => true,
        Call::Change | Call::Attempt(_) => errno == libc::ENOMEM,
        Call::Wait | Call::Look | Call::SelfCheck => false,
    };
    if !may_fail || N_CALLS.fetch_add(1, Ordering::SeqCst) + 1 != at {
        return Ok(());
    }
    eprintln!("call {at} fails: {call:?}");
    Err(io::Error::from_raw_os_error(errno))
}

fn is_portable(seed: u64) -> bool {
    seed % 2 == 1 || std::env::var_os("XIIO_PORTABLE_REACTOR").is_some()
}

/// A number below `below`; the next one of the seed.
fn draw(seed: u64, below: u64) -> u64 {
    static N_DRAWN: AtomicU64 = AtomicU64::new(0);
    // The generator SplitMix64, of which each number can be had by its place.
    let place = seed.wrapping_add(N_DRAWN.fetch_add(1, Ordering::Relaxed));
    let mut mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % below
}

/// What is asked for in one piece is moved in one: tests, and programs, take a word for granted.
const WORD: usize = 64;

/// How much of `len` bytes a transfer may move: never nothing, which would be the end.
pub(super) fn portion(fd: BorrowedFd<'_>, len: usize) -> usize {
    match *Plan::get() {
        Plan::Unnoticed { seed } if len > WORD && draw(seed, 4) == 0 && Kind::of(fd) == Kind::Stream => {
            arm_anew(fd);
            1 + draw(seed, len as u64 - 1) as usize
        }
        _ => len,
    }
}

/// What a descriptor can do.
#[derive(PartialEq, Eq)]
enum Kind {
    /// Gives and takes bytes in any portion, and may block: a socket of streams, a pipe.
    Stream,
    /// May block: another socket.
    Packets,
    Other,
}

impl Kind {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let mut socket: libc::c_int = 0;
        let mut len = std::mem::size_of_val(&socket) as libc::socklen_t;
        let place = (&raw mut socket).cast();
        // SAFETY: the option is written to `socket`, which is as long as `len` says.
        let asked = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TYPE, place, &raw mut len) };
        if asked == 0 {
            return if socket == libc::SOCK_STREAM { Self::Stream } else { Self::Packets };
        }
        // SAFETY: made of integers, for which zero is a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is ours to be written to.
        let asked = unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) };
        if asked == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFIFO { Self::Stream } else { Self::Other }
    }
}

/// What is registered, with its key and the events it asks for, by the descriptors of epoll and of what is watched. Some of
/// it may be gone.
static WATCHED: Mutex<Watched> = Mutex::new(BTreeMap::new());

type Watched = BTreeMap<(RawFd, RawFd), libc::epoll_event>;

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a registration.
pub(super) fn note_watched(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>, key: u64, interest: u32) {
    // The notifier is nobody's to be reported.
    if interest == epoll::NOTIFIER_EDGES {
        return;
    }
    watched().insert((epoll.as_raw_fd(), fd.as_raw_fd()), libc::epoll_event { events: interest, u64: key });
}

/// Has a descriptor reported anew by whoever watches it.
fn arm_anew(fd: BorrowedFd<'_>) {
    for ((epoll, _), event) in watched().iter_mut().filter(|((_, watched), _)| *watched == fd.as_raw_fd()) {
        // SAFETY: `event` lives until the call returns. The first descriptor may have been closed: then the call fails, or
        // `fd` is not registered with what has its number now.
        unsafe { libc::epoll_ctl(*epoll, libc::EPOLL_CTL_MOD, fd.as_raw_fd(), event) };
    }
}

/// Adds a report of readiness that nothing is the reason of.
///
/// It also says that the other end has closed: after an event that tells of nothing but data, a reader believes more.
pub(super) fn add_report(epoll: BorrowedFd<'_>, reports: &mut Vec<libc::epoll_event>) {
    let Plan::Unnoticed { seed } = *Plan::get() else { return };
    let keys: Vec<u64> =
        watched().iter().filter(|((of, _), _)| *of == epoll.as_raw_fd()).map(|(_, event)| event.u64).collect();
    if keys.is_empty() || reports.len() == reports.capacity() || draw(seed, 4) != 0 {
        return;
    }
    let key = keys[draw(seed, keys.len() as u64) as usize];
    let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP) as u32;
    reports.push(libc::epoll_event { events, u64: key });
}

/// What a clock says that may stand still.
pub(super) fn stand_still(now: Instant) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    let Plan::Stall(length) = *Plan::get() else { return now };
    let since_start = now.saturating_duration_since(*START.get_or_init(|| now));
    let in_round = since_start.as_nanos() % (2 * length.as_nanos());
    let stands = in_round.saturating_sub(length.as_nanos());
    now - Duration::from_nanos(stands as u64)
}
