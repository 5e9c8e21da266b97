//! Processes, signals and descriptors as the kernel sees them. The one place of the tests with foreign functions.
#![allow(unsafe_code)]
#![allow(missing_docs, reason = "the names of helpers say what they do")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// So many bytes, each page of which is there and by itself: it takes a fork some time to share them.
#[must_use]
pub fn pages(n_bytes: usize) -> Vec<u8> {
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    vec![1; n_bytes]
}

/// Sends a signal to a process. Gives whether there is such a process.
pub fn send(pid: u32, signal: i32) -> bool {
    let pid = i32::try_from(pid).unwrap();
    assert!(pid > 0);
    // SAFETY: takes numbers; what the signal does is the point of the test.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Sends a signal to the thread of a process that has this name.
pub fn send_to_thread(pid: u32, name: &str, signal: i32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path());
    let mut named =
        threads.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim_end() == name));
    let thread: i32 = named.next().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
    // SAFETY: takes numbers; what the signal does is the point of the test.
    assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, pid.cast_signed(), thread, signal) }, 0);
}

/// Sends a signal to this thread. If it does not block it, it has handled it afterwards; of a signal to the process as a whole
/// another thread may be told later.
pub fn send_self(signal: i32) {
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// What handles a signal now: 0 for the default action, 1 for none, or the address of a function.
pub fn handler_of(signal: i32) -> usize {
    // SAFETY: numbers, a set of bits and an optional function: all zero is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing; `action` is ours to be written to.
    assert_eq!(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) }, 0);
    action.sa_sigaction
}

static N_HANDLED: AtomicUsize = AtomicUsize::new(0);

/// How often the handler of [`install_counter`] has run.
pub fn n_handled() -> usize {
    N_HANDLED.load(Ordering::SeqCst)
}

/// Installs a handler of the simple kind, as another library might.
pub fn install_counter(signal: i32) {
    extern "C" fn count(_signal: i32) {
        N_HANDLED.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the address of this thread's `errno`.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above. A rude handler does not put it back.
        unsafe { errno.write(libc::EDOM) };
    }
    set_handler(signal, count as *const () as usize);
}

/// Sets the disposition of a signal, as code that knows of nobody else would.
pub fn set_handler(signal: i32, handler: usize) {
    // SAFETY: the handlers of this file and those `handler_of` gave are safe to be called anywhere.
    assert_ne!(unsafe { libc::signal(signal, handler) }, libc::SIG_ERR);
}

/// Adds flags to the disposition of a signal.
pub fn add_flags(signal: i32, flags: i32) {
    // SAFETY: numbers, a set of bits and an optional function: all zero is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing; `action` is ours to be written to.
    assert_eq!(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) }, 0);
    action.sa_flags |= flags;
    // SAFETY: it is as before, but for the flags, of which none says what kind of function the handler is.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
}

/// What a program finds that is started so: a signal that is ignored, as `nohup` does, or blocked.
#[derive(Clone, Copy)]
pub enum Inherited {
    Ignored,
    Blocked,
}

/// Starts a command with a signal in a state that the program has not chosen.
pub fn start_with(command: &mut Command, signal: i32, state: Inherited) {
    let set_up = move || {
        if matches!(state, Inherited::Ignored) {
            set_handler(signal, libc::SIG_IGN);
            return Ok(());
        }
        // SAFETY: integers, for which zero is a value.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours and initialized.
        unsafe { libc::sigaddset(&raw mut set, signal) };
        // SAFETY: `set` lives until the call returns.
        assert_eq!(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) }, 0);
        Ok(())
    };
    // SAFETY: it makes system calls that are safe between `fork` and `exec`, and allocates nothing.
    unsafe { command.pre_exec(set_up) };
}

/// Lets the signals of a terminal end a command as usual, also where this test was started with them ignored.
pub fn with_usual_signals(mut command: Command) -> Command {
    let set_up = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM] {
            set_handler(signal, libc::SIG_DFL);
        }
        Ok(())
    };
    // SAFETY: it makes system calls that are safe between `fork` and `exec`, and allocates nothing.
    unsafe { command.pre_exec(set_up) };
    command
}

/// Sets `errno`, raises a signal in this thread, which handles it at once, and gives `errno`.
pub fn errno_after_raise(errno: i32, signal: i32) -> i32 {
    // SAFETY: the address of this thread's `errno`.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.write(errno) };
    // SAFETY: takes a number.
    unsafe { libc::raise(signal) };
    // SAFETY: as above.
    unsafe { place.read() }
}

/// An output that nobody reads: whoever writes to it fails.
pub fn nobody_reads() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

/// A pipe in which there is no room.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let set_nonblocking = |writer: &PipeWriter, mut is_on: libc::c_int| {
        // SAFETY: the request reads one `int`, which lives until the call returns.
        assert_eq!(unsafe { libc::ioctl(writer.as_raw_fd(), libc::FIONBIO, &raw mut is_on) }, 0);
    };
    set_nonblocking(&writer, 1);
    while writer.write(&[b'x'; 4096]).is_ok() {}
    set_nonblocking(&writer, 0);
    (reader, writer)
}

/// How many descriptors this process has open.
pub fn n_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What the threads of this process have used of the processor; the first number of each `schedstat`.
pub fn cpu_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.map(|thread| {
        let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

/// What this thread has used of the processor.
pub fn thread_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// State, parent and process group of a process, if there is one: `('S', 1, 1)`.
fn stat(pid: u32) -> Option<(char, u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// What this process has in memory, in kilobytes.
pub fn resident_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How often this thread has gone to sleep, see `proc_pid_status(5)`.
pub fn n_sleeps() -> u64 {
    n_sleeps_of(Path::new("/proc/thread-self"))
}

/// How often a thread has gone to sleep. Its directory in `/proc` is what `/proc/thread-self` leads to there.
pub fn n_sleeps_of(thread: &Path) -> u64 {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Whether a process runs: it is neither gone nor a zombie.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, ..)| !matches!(state, 'Z' | 'X'))
}

pub fn group_of(pid: u32) -> Option<u32> {
    stat(pid).map(|(.., group)| group)
}

pub fn parent_of(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, parent, _)| parent)
}

/// Chooses the number of the next process in this namespace, if the system allows that to this user. Somebody else may be faster.
pub fn choose_next_number(pid: u32) -> std::io::Result<()> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
}

/// Moves this process into the process group of its parent.
pub fn join_group_of_parent() {
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
    // SAFETY: takes a number.
    let group = unsafe { libc::getpgid(parent) };
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::setpgid(0, group) }, 0);
}

/// The children of this process, zombies included.
pub fn children() -> Vec<u32> {
    children_of(std::process::id())
}

pub fn children_of(pid: u32) -> Vec<u32> {
    let is_child = |&child: &u32| stat(child).is_some_and(|(_, parent, _)| parent == pid);
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

/// Waits for any child and reaps it, as code that knows of nobody else would.
pub fn reap_any() -> u32 {
    // SAFETY: the status is not asked for.
    let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
    u32::try_from(pid).unwrap()
}

/// Forks off a process that has only this thread, and goes on in both. The new one gets `None`; the old one gets its number.
pub fn fork() -> Option<i32> {
    // SAFETY: has no contract. No other thread is in the middle of anything that the new process needs.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: takes a number. It ends a process that hangs.
        unsafe { libc::alarm(20) };
        return None;
    }
    assert!(pid > 0, "no process: {}", std::io::Error::last_os_error());
    Some(pid)
}

/// Ends a process that was forked off, at once: what the threads of its parent have is left behind in it, and would be found as leaked.
pub fn end_fork(is_well: bool) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(i32::from(!is_well)) }
}

/// Waits for a process that was forked off; says whether it ended well.
pub fn has_ended_well(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: the status is ours to be written to.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

/// Forks off a process that has only this thread, as a daemon does; says whether what it does there comes to an end.
pub fn ends_in_a_fork(work: impl FnOnce()) -> bool {
    let Some(pid) = fork() else { end_fork(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()) };
    has_ended_well(pid)
}

/// Waits until a descriptor is readable, for ten seconds at most.
pub fn becomes_readable(fd: &impl AsFd) -> bool {
    let mut ask = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives until the call returns.
    unsafe { libc::poll(&raw mut ask, 1, 10_000) == 1 }
}

/// Waits until a condition holds that nothing tells of.
#[track_caller]
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many descriptors this process may have.
pub fn limit_fds(n_fds: u64) {
    let limit = libc::rlimit { rlim_cur: n_fds, rlim_max: n_fds };
    // SAFETY: the limit lives until the call returns.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// All descriptors that there still are, until they are dropped.
#[must_use]
pub fn take_all_fds() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// This test program once more, to run one test that is marked `#[ignore]`, with its stdout piped.
pub fn rerun(test: &str) -> Command {
    let mut command = with_usual_signals(Command::new(std::env::current_exe().unwrap()));
    command.args(["--exact", test, "--ignored", "--nocapture"]).stdout(Stdio::piped());
    command
}

/// [`rerun`] as the first process of a namespace of processes, in the session and group of this one. `None` where that is not allowed, or there is
/// no `unshare`; this says so then.
pub fn rerun_in_namespace(test: &str) -> Option<Command> {
    let unshare = || {
        let mut command = with_usual_signals(Command::new("unshare"));
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
        command
    };
    let is_allowed = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_allowed {
        let _ = writeln!(std::io::stderr(), "skipped: `{test}`, as there may be no namespace of processes here");
        return None;
    }
    let mut command = unshare();
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored", "--nocapture"]);
    command.stdout(Stdio::piped());
    Some(command)
}

/// Starts a command and reads its output up to a line that ends in `word`.
pub fn start_until(command: &mut Command, word: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.trim_end().ends_with(word) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the program ended without saying `{word}`");
    }
    (child, output)
}

/// Makes one system call fail for this thread and those it starts: with `ENOSYS` as on a kernel that does not know it, with
/// `EPERM` as in a sandbox.
pub fn refuse_system_call(number: libc::c_long, errno: i32) {
    refuse(&mut [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), u32::try_from(number).unwrap()),
        statement(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        statement(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Makes `kill(2)` of a group fail with `EPERM` for this thread and those it starts, as where all of the group run as another user.
pub fn refuse_to_signal_groups() {
    /// Of `seccomp_data`, whose arguments have eight bytes: the half with the number of a process.
    const FIRST_ARGUMENT: u32 = 16 + if cfg!(target_endian = "big") { 4 } else { 0 };
    refuse(&mut [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 3), u32::try_from(libc::SYS_kill).unwrap()),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), FIRST_ARGUMENT),
        // The sign: negative numbers mean groups.
        statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, (0, 1), 1 << 31),
        statement(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        statement(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW),
    ]);
}

fn statement(code: u32, jump: (u8, u8), k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt: jump.0, jf: jump.1, k }
}

fn refuse(filter: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its filter live until the call returns.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
}

/// Has a command trace a process, of which it takes no notice: as a debugger that is busy. An error to start it where that is forbidden.
pub fn trace(command: &mut Command, pid: u32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: with this request the call takes numbers.
    let trace = move || match unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0_usize, 0_usize) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: one system call, which is safe between `fork` and `exec`.
    unsafe { command.pre_exec(trace) };
}

/// A descriptor that is closed, as a bug elsewhere leaves it behind.
pub fn closed_fd() -> BorrowedFd<'static> {
    /// Above what a process of ours ever opens.
    const CLOSED: i32 = 900_000;
    // SAFETY: that it is open is the promise, and breaking it is the point. Nobody owns the number, so the system calls
    // that get it fail and take nothing from anybody.
    unsafe { BorrowedFd::borrow_raw(CLOSED) }
}

/// Two connected sockets that keep the bounds of packets.
pub fn packet_pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for two descriptors.
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }, 0);
    // SAFETY: both are fresh and owned by no one else.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

/// Makes each write to a pipe one packet, of which a read gives one at a time.
pub fn write_packets(pipe: impl AsFd) {
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::fcntl(pipe.as_fd().as_raw_fd(), libc::F_SETFL, libc::O_DIRECT) }, 0);
}

/// Sends a byte of urgent data (`MSG_OOB`).
pub fn send_urgent(stream: impl AsFd) {
    // SAFETY: the buffer may be read for its whole length.
    let n_sent = unsafe { libc::send(stream.as_fd().as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(n_sent, 1);
}

/// Takes the byte of urgent data that has arrived.
pub fn fetch_urgent(stream: impl AsFd) {
    let mut byte = 0_u8;
    // SAFETY: the buffer is one byte long, and so is what is asked for.
    let n_read = unsafe { libc::recv(stream.as_fd().as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_OOB) };
    assert_eq!((n_read, byte), (1, b'!'));
}

/// Whether urgent data has arrived and was not read.
pub fn has_urgent(stream: impl AsFd) -> bool {
    is_reported(stream, libc::POLLPRI)
}

/// Whether `poll(2)` tells of one of these events.
fn is_reported(fd: impl AsFd, events: libc::c_short) -> bool {
    let mut ask = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 };
    // SAFETY: one `pollfd`, which lives until the call returns.
    unsafe { libc::poll(&raw mut ask, 1, 0) == 1 && ask.revents & events != 0 }
}

/// The times of the probes of a TCP stream, and their number: `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`.
pub fn keepalive_times(stream: impl AsFd) -> [i32; 3] {
    [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT].map(|name| {
        let mut value: libc::c_int = 0;
        let (fd, mut len) = (stream.as_fd().as_raw_fd(), size_of_val(&value) as libc::socklen_t);
        // SAFETY: the option is written to `value`, which is as long as `len` says.
        let asked = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, name, (&raw mut value).cast(), &raw mut len) };
        assert_eq!(asked, 0);
        value
    })
}

/// Leaves a notice in the queue of errors of a TCP stream, which no read fetches: a byte that was sent need not stay any more.
pub fn leave_notice(stream: impl AsFd) {
    let fd = stream.as_fd().as_raw_fd();
    let is_on: libc::c_int = 1;
    let len = size_of_val(&is_on) as libc::socklen_t;
    // SAFETY: the value lives until the call returns, and is as long as it says.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, (&raw const is_on).cast(), len) };
    assert_eq!(set, 0);
    // SAFETY: the byte may be read, and stays.
    assert_eq!(unsafe { libc::send(fd, c"x".as_ptr().cast(), 1, libc::MSG_ZEROCOPY) }, 1);
    wait_until("a notice", || is_reported(&stream, libc::POLLERR));
}

/// A new terminal: the side that a user types at, and the side that programs read from. Both are closed on exec.
pub fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    // SAFETY: takes flags.
    let master = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    assert!(master >= 0);
    // SAFETY: a fresh descriptor owned by no one else.
    let master = unsafe { OwnedFd::from_raw_fd(master) };
    // SAFETY: takes an open descriptor.
    assert_eq!(unsafe { libc::unlockpt(master.as_raw_fd()) }, 0);
    let mut number: libc::c_uint = 0;
    // SAFETY: the request writes one `unsigned int`.
    assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }, 0);
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let terminal = options.open(format!("/dev/pts/{number}")).unwrap();
    (master, terminal.into())
}

/// Keeps this thread, and those it starts, on the processor that it is on.
pub fn stay_on_this_processor() {
    // SAFETY: integers, for which zero is a value: the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: takes nothing.
    let number = unsafe { libc::sched_getcpu() };
    // SAFETY: the set is ours, and the number that of a processor.
    unsafe { libc::CPU_SET(number as usize, &mut set) };
    // SAFETY: the set lives until the call returns, and is as long as it says.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }, 0);
}

/// Lets all other threads run before this one.
pub fn give_way_always() {
    // SAFETY: integers, for which zero is a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the parameters live until the call returns.
    assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) }, 0);
}

/// The number of this thread, as [`state_of`] takes it.
pub fn thread_id() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// A terminal with a program on it, as a user starts one: its session, its foreground, its three streams.
pub struct OnTerminal {
    pub child: Child,
    /// Closed, it hangs up.
    pub keyboard: Option<File>,
    said: String,
}

impl OnTerminal {
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let (master, terminal) = pseudo_terminal();
        let stream = || Stdio::from(terminal.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        start_session(command);
        let take_terminal = || {
            // SAFETY: takes numbers; stdin is the terminal.
            match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: one system call, which is safe between `fork` and `exec`.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().unwrap();
        // The command would keep the other end open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child, keyboard: Some(master.into()), said: String::new() }
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until something is said, and gives what follows it on its line.
    pub fn read_until(&mut self, word: &str) -> String {
        loop {
            if let Some((_, rest)) = self.said.split_once(word)
                && let Some((line, after)) = rest.split_once("\r\n")
            {
                let line = line.trim().to_owned();
                self.said = after.to_owned();
                return line;
            }
            let mut bytes = [0; 1024];
            match self.keyboard.as_mut().unwrap().read(&mut bytes) {
                Ok(n_read) if n_read > 0 => self.said.push_str(&String::from_utf8_lossy(&bytes[..n_read])),
                end => panic!("no `{word}` in {:?}: {end:?}", self.said),
            }
        }
    }

    /// Everything that is said until nobody has the terminal any more.
    pub fn read_to_end(&mut self) -> String {
        let mut bytes = [0; 1024];
        // Its end is an error.
        while let Ok(n_read) = self.keyboard.as_mut().unwrap().read(&mut bytes) {
            self.said.push_str(&String::from_utf8_lossy(&bytes[..n_read]));
        }
        std::mem::take(&mut self.said)
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a command lead a session of its own.
pub fn start_session(command: &mut Command) {
    // SAFETY: one system call, which is safe between `fork` and `exec`.
    let set_up = || if unsafe { libc::setsid() } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: as above.
    unsafe { command.pre_exec(set_up) };
}

/// The state of a process as `ps` shows it: `T` for one that is stopped.
pub fn state_of(pid: u32) -> Option<char> {
    stat(pid).map(|(state, ..)| state)
}

/// The processes that have this argument.
pub fn processes_with(argument: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let has_argument = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|&byte| byte == 0).any(|one| one == argument.as_bytes())
    };
    pids.filter(has_argument).collect()
}
