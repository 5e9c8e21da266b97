//! Signals: which there are, and how they are caught, counted and raised. See `sigaction(2)`, `signal-safety(7)`.
//!
//! ```text
//!   kernel ──▶ on_signal ──▶ count of each listener, one byte into its socket ──▶ reactor ──▶ who subscribed
//!                  │
//!                  └───────▶ the handler that was there before
//! ```
//!
//! The handler walks a list of listeners without a lock. Listeners are linked and unlinked under [`REGISTRY`], and freed when
//! they are unlinked and no handler is walking ([`WALKERS`] is zero); a handler that begins later does not find them.
//!
//! One request to stop is often delivered twice: by a terminal and by the wrapper that forwards it, say. So a subscription
//! that ends within [`ECHO`] of what it received leaves our handler where it is. The handler swallows the echo, and gives
//! way to the default action with the first signal after that.
//!
//! A process that is forked off has a copy of the counts, but the sockets are those of the process before. It gets its own under their
//! numbers when it first asks for them ([`Subscription::be_in_this_process`]): otherwise each would read the bytes that the other is to wake by.
//!
//! What does not work: a lock in the handler, as the thread it interrupts may hold it; one socket for all listeners, as
//! the first who reads takes the wake of the others.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use libc::{c_int, c_void, siginfo_t};

use super::fork::Process;
use super::{Call, call, check, fork, retry};

/// One more than the highest number of a signal.
const N_SIGNALS: usize = 65;

/// What comes so soon after a signal belongs to the same request.
pub(crate) const ECHO: Duration = Duration::from_secs(1);

/// The first listener.
static HEAD: AtomicPtr<Listener> = AtomicPtr::new(ptr::null_mut());
/// How many handlers walk the list now.
static WALKERS: AtomicUsize = AtomicUsize::new(0);
static REGISTRY: Mutex<Registry> = Mutex::new(Registry { installed: [const { None }; N_SIGNALS] });
/// The handlers to be called after ours.
static PREVIOUS: [Previous; N_SIGNALS] = [const { Previous::new() }; N_SIGNALS];

/// Until when our handler swallows what nobody listens to any more, by signal and in nanoseconds of [`monotonic`].
static SWALLOWED_UNTIL: [AtomicU64; N_SIGNALS] = [const { AtomicU64::new(0) }; N_SIGNALS];

/// When the terminal's keyboard last sent a signal to this process, in nanoseconds of [`monotonic`], and which.
static KEY_AT: AtomicU64 = AtomicU64::new(0);
static KEY: AtomicU32 = AtomicU32::new(0);

fn registry() -> MutexGuard<'static, Registry> {
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    fork::lock(&REGISTRY, &IS_HELD)
}

/// Which signals end the process, whatever its threads are busy with, if they come so long after the first.
#[derive(Debug, Clone)]
pub(crate) struct Impatience {
    /// `None` is never.
    pub(crate) after: Option<Duration>,
    pub(crate) signals: Vec<c_int>,
}

impl Default for Impatience {
    fn default() -> Self {
        Self { after: Some(ECHO), signals: vec![libc::SIGINT, libc::SIGQUIT] }
    }
}

impl Impatience {
    pub(crate) fn never() -> Self {
        Self { after: None, signals: Vec::new() }
    }
}

/// What the handler knows of one subscription.
struct Listener {
    /// Bit `n` for signal `n + 1`.
    mask: u64,
    /// Deliveries that nobody has taken yet, by signal.
    counts: [AtomicU32; N_SIGNALS],
    n_delivered: AtomicU32,
    /// When the first and the last delivery came, in nanoseconds of [`monotonic`]; 0 before the first.
    first: AtomicU64,
    last: AtomicU64,
    /// Those of `mask` that end the process so many nanoseconds after the first delivery.
    ending: u64,
    ends_after: u64,
    socket: RawFd,
    /// The other end of the socket.
    reader: RawFd,
    next: AtomicPtr<Listener>,
}

/// Where our handler is installed, who uses it, and what comes back afterwards.
struct Registry {
    installed: [Option<Installed>; N_SIGNALS],
}

struct Installed {
    n_users: usize,
    before: libc::sigaction,
}

/// Each type of handler has its own place, so that one is called as what it is. Ours may run on another thread while they are written.
struct Previous {
    /// One that was installed without `SA_SIGINFO`.
    plain: AtomicUsize,
    /// One that was installed with it; the other does not count then.
    informed: AtomicUsize,
}

impl Previous {
    const fn new() -> Self {
        Self { plain: AtomicUsize::new(libc::SIG_DFL), informed: AtomicUsize::new(libc::SIG_DFL) }
    }

    fn set(&self, action: &libc::sigaction) {
        let is_informed = action.sa_flags & libc::SA_SIGINFO != 0;
        let (place, other) = if is_informed { (&self.informed, &self.plain) } else { (&self.plain, &self.informed) };
        // In this order, so that there is one at any time.
        place.store(action.sa_sigaction, SeqCst);
        other.store(libc::SIG_DFL, SeqCst);
    }

    /// A change may come between two looks: from the one last looked at to the one before it.
    fn is_default(&self) -> bool {
        [&self.informed, &self.plain, &self.informed].iter().all(|handler| handler.load(SeqCst) == libc::SIG_DFL)
    }
}

/// Runs in the middle of anything: atomics, `write`, `raise` and `_exit` only, and `errno` is put back.
extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = errno();
    // SAFETY: the address of this thread's `errno`, which lives as long as the thread.
    let saved = unsafe { errno.read() };
    // SAFETY: with SA_SIGINFO the kernel hands over one that lives until the handler returns.
    let code = unsafe { (*info).si_code };
    note_key(signal, code);
    let delivery = deliver(signal);
    let is_ending = delivery == Delivery::Ending;
    if is_ending || delivery == Delivery::Unheard && is_left_behind(signal) {
        // Blocked until this handler returns, and then it has the action that is there by then.
        let _ = set_default(signal);
        if !is_ending && is_listened_to(signal) {
            // It has come on another thread since, and may have found our handler in its place. One that comes after this look finds the default action.
            let _ = set_disposition(signal, &own_action(&default_action()));
        }
        raise(signal);
    }
    call_previous(signal, info, context);
    if is_ending {
        drop(Unblocked::here(&[signal]));
        // The default action of this signal is not death, or the kernel spares us, as the first process of a namespace.
        // SAFETY: takes a number, and may be called in a handler.
        unsafe { libc::_exit(128 + signal) };
    }
    // SAFETY: as above.
    unsafe { errno.write(saved) };
}

fn errno() -> *mut c_int {
    #[cfg(any(target_os = "linux", target_os = "emscripten"))]
    // SAFETY: has no contract.
    unsafe {
        libc::__errno_location()
    }
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    // SAFETY: has no contract.
    unsafe {
        libc::__error()
    }
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    // SAFETY: has no contract.
    unsafe {
        libc::__errno()
    }
}

/// Forgets the handlers that walk the list on other threads: a process that was forked off has none of them. The thread that forks does not
/// walk the list.
pub(super) fn forget_walkers() {
    WALKERS.store(0, SeqCst);
}

/// Who has heard of a signal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Delivery {
    Unheard,
    Heard,
    /// By one who wants the process to end.
    Ending,
}

/// Tells every listener.
fn deliver(signal: c_int) -> Delivery {
    let mut delivery = Delivery::Unheard;
    visit_listeners(|listener| delivery = delivery.max(listener.note(signal)));
    delivery
}

fn is_listened_to(signal: c_int) -> bool {
    let mut mask = 0;
    visit_listeners(|listener| mask |= listener.mask);
    mask & bit(signal) != 0
}

/// In a handler.
fn visit_listeners(mut visit: impl FnMut(&Listener)) {
    WALKERS.fetch_add(1, SeqCst);
    let mut at = HEAD.load(SeqCst);
    while !at.is_null() {
        // SAFETY: made from a `Box`, and not freed while a handler walks.
        let listener = unsafe { &*at };
        visit(listener);
        at = listener.next.load(SeqCst);
    }
    WALKERS.fetch_sub(1, SeqCst);
}

/// Whether our handler is there only for the sake of echoes, and this is none.
fn is_left_behind(signal: c_int) -> bool {
    let signal_idx = signal.unsigned_abs() as usize;
    PREVIOUS[signal_idx].is_default()
        && monotonic() >= SWALLOWED_UNTIL[signal_idx].load(SeqCst)
        // One that was installed over ours has called it.
        && disposition(signal).is_ok_and(|now| now.sa_sigaction == own_handler())
}

/// What the kernel says of itself as the sender. Those of Apple do not say.
#[cfg(any(target_os = "linux", target_os = "android"))]
const FROM_KERNEL: Option<c_int> = Some(libc::SI_KERNEL);
#[cfg(target_os = "freebsd")]
const FROM_KERNEL: Option<c_int> = Some(0x10006);
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const FROM_KERNEL: Option<c_int> = None;

/// What a terminal sends comes from the kernel, what `kill(2)` sends from a process.
fn note_key(signal: c_int, code: c_int) {
    if Some(code) == FROM_KERNEL && matches!(signal, libc::SIGINT | libc::SIGQUIT) {
        KEY.store(signal.unsigned_abs(), SeqCst);
        KEY_AT.store(monotonic(), SeqCst);
    }
}

/// The last signal of the terminal's keyboard that this process has caught, and how long ago.
pub(crate) fn last_key() -> Option<(c_int, Duration)> {
    let at = KEY_AT.load(SeqCst);
    let signal = c_int::try_from(KEY.load(SeqCst)).ok()?;
    (at > 0).then(|| (signal, Duration::from_nanos(monotonic().saturating_sub(at))))
}

/// The clock, in nanoseconds and never 0. May be asked in a handler.
fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let (seconds, nanos) = (now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0));
    to_nanos(Duration::new(seconds, nanos)).max(1)
}

fn to_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn call_previous(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let previous = &PREVIOUS[signal.unsigned_abs() as usize];
    let call_informed = || {
        let handler = function(previous.informed.load(SeqCst));
        if let Some(handler) = handler {
            // SAFETY: it was installed with SA_SIGINFO, so it is a function of this type.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler.is_some()
    };
    let call_plain = || {
        let handler = function(previous.plain.load(SeqCst));
        if let Some(handler) = handler {
            // SAFETY: it was installed without SA_SIGINFO, so it is a function of this type.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
        handler.is_some()
    };
    // The new one is stored before the old one is taken out. With a look on both sides of the other, a change in either direction is seen.
    let _ = call_informed() || call_plain() || call_informed();
}

/// The function that a handler is, if it is one.
fn function(handler: libc::sighandler_t) -> Option<*const ()> {
    (handler != libc::SIG_DFL && handler != libc::SIG_IGN).then(|| std::ptr::with_exposed_provenance(handler))
}

impl Listener {
    /// Counts a delivery and wakes the reader.
    fn note(&self, signal: c_int) -> Delivery {
        if self.mask & bit(signal) == 0 {
            return Delivery::Unheard;
        }
        let now = monotonic();
        let first = self.first.compare_exchange(0, now, SeqCst, SeqCst);
        self.last.store(now, SeqCst);
        self.counts[signal.unsigned_abs() as usize].fetch_add(1, SeqCst);
        self.n_delivered.fetch_add(1, SeqCst);
        // SAFETY: one byte of a constant. The socket is open: a listener is unlinked before its socket is closed. A
        // full one is readable already.
        unsafe { libc::write(self.socket, b"!".as_ptr().cast(), 1) };
        let is_late = first.is_err_and(|first| now.saturating_sub(first) >= self.ends_after);
        if is_late && self.ending & bit(signal) != 0 { Delivery::Ending } else { Delivery::Heard }
    }
}

fn mask(signals: &[c_int]) -> u64 {
    signals.iter().fold(0, |mask, &signal| mask | bit(signal))
}

fn bit(signal: c_int) -> u64 {
    1_u64.checked_shl(signal.unsigned_abs() - 1).unwrap_or(0)
}

/// Some signals, caught and counted until this is dropped.
pub(crate) struct Subscription {
    signals: Vec<c_int>,
    listener: *mut Listener,
    reader: UnixStream,
    /// The listener writes to it.
    writer: UnixStream,
    /// The process that the sockets are of, see [`Process::n_forks`].
    process: AtomicU32,
}

// SAFETY: the listener is shared with handlers on all threads already, and all that changes in it is atomic.
unsafe impl Send for Subscription {}
// SAFETY: as above.
unsafe impl Sync for Subscription {}

impl Subscription {
    /// Catches `signals` from now on.
    ///
    /// # Errors
    /// For a signal that cannot be caught, and when there are no descriptors left.
    pub(crate) fn new(signals: &[c_int], impatience: &Impatience) -> io::Result<Self> {
        signals.iter().chain(&impatience.signals).try_for_each(|&signal| catchable(signal))?;
        let (reader, writer) = new_pair()?;
        let listener = Box::into_raw(Box::new(Listener {
            mask: mask(signals),
            counts: [const { AtomicU32::new(0) }; N_SIGNALS],
            n_delivered: AtomicU32::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            ending: if impatience.after.is_some() { mask(&impatience.signals) } else { 0 },
            ends_after: impatience.after.map_or(u64::MAX, to_nanos),
            socket: writer.as_raw_fd(),
            reader: reader.as_raw_fd(),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let process = AtomicU32::new(Process::this().n_forks());
        let mut subscription = Self { signals: Vec::new(), listener, reader, writer, process };
        subscription.link();
        for &signal in signals {
            if !subscription.signals.contains(&signal) {
                install(signal)?;
                subscription.signals.push(signal);
            }
        }
        Ok(subscription)
    }

    pub(crate) fn signals(&self) -> &[c_int] {
        &self.signals
    }

    /// Takes one delivery, the lowest number first.
    ///
    /// The socket is emptied first: a delivery in between makes it readable again, and so does what is left to be taken.
    pub(crate) fn take(&self) -> Option<c_int> {
        // Where the socket is still that of another process, its bytes are as well.
        if self.be_in_this_process().is_ok() {
            let mut bytes = [0; 64];
            while matches!((&self.reader).read(&mut bytes), Ok(n_read) if n_read == bytes.len()) {}
        }
        let taken = self.first_waiting()?;
        self.listener().counts[taken].fetch_sub(1, SeqCst);
        self.remind();
        c_int::try_from(taken).ok()
    }

    /// The lowest signal that was delivered and not taken.
    fn first_waiting(&self) -> Option<usize> {
        self.listener().counts.iter().position(|count| count.load(SeqCst) > 0)
    }

    /// Makes the socket readable if there is something to take.
    fn remind(&self) {
        if self.first_waiting().is_some() {
            let _ = (&self.writer).write(b"!");
        }
    }

    /// Has the sockets be of this process, which may have been forked off that of the subscription.
    ///
    /// # Errors
    /// When there are no descriptors left. Then they are those of the other one.
    pub(crate) fn be_in_this_process(&self) -> io::Result<()> {
        if Process::after(self.process.load(SeqCst)).is_this() { Ok(()) } else { self.renew_sockets() }
    }

    /// Puts new sockets in the place of those that another process has as well, under the same numbers: the handler may run meanwhile.
    #[cold]
    fn renew_sockets(&self) -> io::Result<()> {
        let _registry = registry();
        let process = Process::this();
        if self.process.load(SeqCst) == process.n_forks() {
            return Ok(());
        }
        let (reader, writer) = new_pair()?;
        replace(&self.reader, &reader)?;
        replace(&self.writer, &writer)?;
        self.process.store(process.n_forks(), SeqCst);
        // Of what came before, the bytes are in the sockets of the other process.
        self.remind();
        Ok(())
    }

    /// Ends the subscription, and takes the first of what was delivered until then. What comes later finds what was there before.
    pub(crate) fn end(mut self) -> Option<c_int> {
        self.uninstall();
        self.take()
    }

    fn uninstall(&mut self) {
        let last = self.listener().last.load(SeqCst);
        let echoes_until = if last > 0 { last.saturating_add(to_nanos(ECHO)) } else { 0 };
        self.signals.drain(..).for_each(|signal| uninstall(signal, echoes_until));
    }

    /// How many were delivered since the subscription, taken or not.
    pub(crate) fn n_delivered(&self) -> u32 {
        self.listener().n_delivered.load(SeqCst)
    }

    fn listener(&self) -> &Listener {
        // SAFETY: made from a `Box` by `new` and freed by `drop`.
        unsafe { &*self.listener }
    }

    fn link(&mut self) {
        let _registry = registry();
        self.listener().next.store(HEAD.load(SeqCst), SeqCst);
        HEAD.store(self.listener, SeqCst);
    }

    fn unlink(&mut self) {
        let _registry = registry();
        let next = self.listener().next.load(SeqCst);
        let mut link = &HEAD;
        while link.load(SeqCst) != self.listener {
            // SAFETY: linked listeners are freed only by whoever holds the registry and has unlinked them.
            link = unsafe { &(*link.load(SeqCst)).next };
        }
        link.store(next, SeqCst);
        // On this thread a handler has returned before we go on, so those that walk are on others, and short.
        while WALKERS.load(SeqCst) > 0 {
            std::thread::yield_now();
        }
    }
}

impl AsFd for Subscription {
    /// Readable when there may be something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // Otherwise the next call tries again.
        let _ = self.be_in_this_process();
        self.reader.as_fd()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.uninstall();
        self.unlink();
        // SAFETY: made by `Box::into_raw`; unlinked, so no handler finds it, and those that had found it have left.
        drop(unsafe { Box::from_raw(self.listener) });
    }
}

/// Whether a descriptor is that of a subscription. What comes to it comes from outside, although both of its ends are here.
pub(crate) fn is_of_subscription(fd: RawFd) -> bool {
    let _registry = registry();
    let mut at = HEAD.load(SeqCst);
    // SAFETY: linked listeners are freed only by whoever holds the registry and has unlinked them.
    while let Some(listener) = unsafe { at.as_ref() } {
        if listener.reader == fd {
            return true;
        }
        at = listener.next.load(SeqCst);
    }
    false
}

/// Two connected sockets. Neither blocks.
fn new_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (reader, writer) = call(Call::Make, UnixStream::pair)?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    Ok((reader, writer))
}

/// Has the number of `socket` lead to what `by` leads to.
fn replace(socket: &UnixStream, by: &UnixStream) -> io::Result<()> {
    let (from, to) = (by.as_raw_fd(), socket.as_raw_fd());
    #[cfg(not(any(target_vendor = "apple", target_os = "android")))]
    // SAFETY: takes numbers. Both are open, and of sockets that live until the call returns; what `to` led to is closed, and it stays open.
    retry(|| check(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }))?;
    #[cfg(any(target_vendor = "apple", target_os = "android"))]
    {
        // SAFETY: as above.
        retry(|| check(unsafe { libc::dup2(from, to) }))?;
        // SAFETY: takes numbers, of which `to` is open.
        check(unsafe { libc::fcntl(to, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    Ok(())
}

fn catchable(signal: c_int) -> io::Result<()> {
    let refuse = |why| Err(refuse(signal, why));
    match signal {
        libc::SIGKILL | libc::SIGSTOP => refuse("the kernel lets nobody catch it"),
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => {
            refuse("the instruction that caused it would run again for ever")
        }
        signal if signal < 1 || signal.unsigned_abs() as usize >= N_SIGNALS => refuse("there is no such signal"),
        _ => Ok(()),
    }
}

/// One user more for our handler of this signal.
///
/// What is to come back afterwards is what the kernel has now. Only under our own handler it is what that one has replaced.
fn install(signal: c_int) -> io::Result<()> {
    let mut registry = registry();
    let slot = &mut registry.installed[signal.unsigned_abs() as usize];
    let now = disposition(signal).map_err(|error| cannot_subscribe(signal, error))?;
    let before = match slot {
        Some(installed) if now.sa_sigaction == own_handler() => installed.before,
        Some(installed) if ![libc::SIG_DFL, libc::SIG_IGN].contains(&now.sa_sigaction) => {
            if installed.n_users > 0 {
                installed.n_users += 1;
                return Ok(());
            }
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "cannot subscribe to {} again: a handler was installed over the one before, and may call it",
                    name(signal)
                ),
            ));
        }
        // Put back by somebody who had read it while we were there.
        None if now.sa_sigaction == own_handler() => default_action(),
        _ => now,
    };
    let n_users = slot.as_ref().map_or(0, |installed| installed.n_users);
    PREVIOUS[signal.unsigned_abs() as usize].set(&before);
    set_disposition(signal, &own_action(&before)).map_err(|error| cannot_subscribe(signal, error))?;
    *slot = Some(Installed { n_users: n_users + 1, before });
    Ok(())
}

/// One user less; the last one brings the previous disposition back, but for the default action while echoes may come.
fn uninstall(signal: c_int, echoes_until: u64) {
    let mut registry = registry();
    let signal_idx = signal.unsigned_abs() as usize;
    let slot = &mut registry.installed[signal_idx];
    let Some(installed) = slot else { return };
    installed.n_users -= 1;
    SWALLOWED_UNTIL[signal_idx].fetch_max(echoes_until, SeqCst);
    if installed.n_users > 0 {
        return;
    }
    let may_echo = monotonic() < SWALLOWED_UNTIL[signal_idx].load(SeqCst);
    let is_ours = disposition(signal).is_ok_and(|now| now.sa_sigaction == own_handler());
    // A handler that was installed over ours stays, and may go on calling ours.
    if is_ours && !(may_echo && installed.before.sa_sigaction == libc::SIG_DFL) {
        let _ = set_disposition(signal, &installed.before);
        *slot = None;
    }
}

fn refuse(signal: c_int, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("cannot subscribe to {}: {why}", name(signal)))
}

fn cannot_subscribe(signal: c_int, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // The only answer that the manual knows, and one about the argument.
        Some(libc::EINVAL) => refuse(signal, "the C library keeps it for itself"),
        _ => error,
    }
}

fn own_handler() -> usize {
    on_signal as *const () as usize
}

/// Our handler, with what the previous one wants blocked while it runs, and for the children that it wants to hear of.
fn own_action(before: &libc::sigaction) -> libc::sigaction {
    let of_children = before.sa_flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT);
    let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK | of_children;
    // Not made from its parts: on s390x some of them are private.
    let mut action = *before;
    action.sa_sigaction = own_handler();
    action.sa_flags = flags;
    action
}

fn disposition(signal: c_int) -> io::Result<libc::sigaction> {
    let mut now = default_action();
    // SAFETY: null changes nothing; `now` is ours to be written to.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut now) })?;
    Ok(now)
}

fn set_disposition(signal: c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: `action` lives until the call returns, and its handler is safe to be called in the middle of anything: it
    // is ours, the default, or the one that was there before.
    check(unsafe { libc::sigaction(signal, action, ptr::null_mut()) })?;
    Ok(())
}

fn default_action() -> libc::sigaction {
    // SAFETY: numbers, a set of bits and an optional function: all zero is the default action without flags.
    unsafe { std::mem::zeroed() }
}

fn set_default(signal: c_int) -> io::Result<()> {
    set_disposition(signal, &default_action())
}

/// Whether a signal is ignored now, as under `nohup`.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    disposition(signal).is_ok_and(|now| now.sa_sigaction == libc::SIG_IGN)
}

/// Whether a signal has its default action, as nobody in this process wants it.
pub(crate) fn is_unwanted(signal: c_int) -> bool {
    let registry = registry();
    let installed = registry.installed.get(signal.unsigned_abs() as usize).and_then(Option::as_ref);
    let is_left_behind =
        installed.is_some_and(|installed| installed.n_users == 0 && installed.before.sa_sigaction == libc::SIG_DFL);
    let handler = disposition(signal).map(|now| now.sa_sigaction);
    handler.is_ok_and(|handler| handler == libc::SIG_DFL || is_left_behind && handler == own_handler())
}

fn raise(signal: c_int) {
    // SAFETY: takes a number. What is installed for it is safe to be called anywhere.
    unsafe { libc::raise(signal) };
}

/// Ends the process by the default action of a signal, so that its parent sees it die by that signal.
pub(crate) fn die_by(signal: c_int) -> ! {
    let _ = set_default(signal);
    let unblocked = Unblocked::here(&[signal]);
    raise(signal);
    drop(unblocked);
    // The default action of this signal is not death.
    std::process::exit(128 + signal)
}

/// Signals that this thread does not block until this is dropped, whatever mask it has inherited.
pub(crate) struct Unblocked {
    before: libc::sigset_t,
}

impl Unblocked {
    pub(crate) fn here(signals: &[c_int]) -> Self {
        let (mut set, mut before) = (default_action().sa_mask, default_action().sa_mask);
        // SAFETY: `set` is ours and initialized.
        unsafe { libc::sigemptyset(&raw mut set) };
        for &signal in signals {
            // SAFETY: as above; an invalid number changes nothing.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: both sets live until the call returns.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, &raw mut before) };
        Self { before }
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        // SAFETY: the set lives until the call returns; the set before is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// The `n`th real-time signal, if there is one.
#[cfg(target_os = "linux")]
pub(crate) fn real_time(n: c_int) -> Option<c_int> {
    let signal = libc::SIGRTMIN().checked_add(n)?;
    (n >= 0 && signal <= libc::SIGRTMAX()).then_some(signal)
}

const NAMES: &[(c_int, &str)] = &[
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGSYS, "SIGSYS"),
];

/// Whether the system knows this signal. It may be one that nobody can catch.
pub(crate) fn exists(signal: c_int) -> bool {
    disposition(signal).is_ok()
}

/// `SIGINT` for 2, `signal 40` for one without a name.
pub(crate) fn name(signal: c_int) -> String {
    NAMES
        .iter()
        .find(|(number, _)| *number == signal)
        .map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{bit, catchable, name};

    #[test]
    fn every_signal_has_its_own_bit() {
        let all = (1..=64).fold(0, |all, signal| all | bit(signal));
        assert_eq!(all, u64::MAX);
        assert_eq!(bit(65), 0);
    }

    #[test]
    fn what_cannot_be_caught_is_refused_by_name() {
        for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGFPE, 0, -1, 65, i32::MIN, i32::MAX] {
            assert!(catchable(signal).unwrap_err().to_string().contains(&name(signal)), "{signal}");
        }
        assert!(catchable(libc::SIGUSR1).is_ok());
    }
}
