//! Several processes use one descriptor, and one of them is always faster: nobody stands still, nothing is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xiio::io::Read as _;
use xiio_tests::os::{
    give_way_always, pseudo_terminal, refuse_system_call, rerun, state_of, stay_on_this_processor, thread_id,
    wait_until,
};

const N_PROCESSES: usize = 4;
/// Nothing comes, and nothing is taken, for so long at the end.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the loop of a process may stand still on a busy machine.
const GAP: Duration = Duration::from_millis(1500);

/// How long the descriptor is in use before. `XIIO_SHARED_SECONDS` makes it longer.
fn busy() -> Duration {
    let seconds = std::env::var("XIIO_SHARED_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(Duration::from_millis(500), Duration::from_secs)
}

/// Watches the loop of this process until the silence is over, and says on standard error how long it has stood still, and
/// what `work` has moved.
fn report_gap<W: Future<Output = ()>>(work: impl FnOnce(&'static std::cell::Cell<usize>) -> W) {
    if std::env::var_os("XIIO_SHARED_OLD").is_some() {
        refuse_system_call(libc::SYS_preadv2, libc::ENOSYS);
        refuse_system_call(libc::SYS_pwritev2, libc::ENOSYS);
    }
    // One that stands still for ever says so, too.
    std::thread::spawn(|| {
        sleep(busy() + SILENCE + 2 * GAP);
        eprintln!("gap {} bytes 0", GAP.as_millis());
        std::process::exit(1);
    });
    let n_bytes: &std::cell::Cell<usize> = Box::leak(Box::default());
    let mut longest = Duration::ZERO;
    xiio::run(async {
        let end = Instant::now() + busy() + SILENCE;
        xiio::task_group!(|tg| {
            tg.spawn(work(n_bytes));
            let mut ticks = xiio::interval(Duration::from_millis(20));
            let mut last = Instant::now();
            while last < end {
                ticks.tick().await;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            tg.cancel();
        });
    });
    eprintln!("gap {} bytes {}", longest.as_millis(), n_bytes.get());
}

#[test]
#[ignore = "a program for the tests below"]
fn program_that_reads() {
    report_gap(async |n_bytes| {
        let mut buf = [0; 64];
        while let Ok(n) = xiio::read(io::stdin(), &mut buf).await {
            n_bytes.set(n_bytes.get() + n);
        }
    });
}

#[test]
#[ignore = "a program for the tests below"]
fn program_that_writes() {
    report_gap(async |n_bytes| {
        while let Ok(n) = xiio::write(io::stdin(), &[b'x'; 10_000]).await {
            n_bytes.set(n_bytes.get() + n);
        }
    });
}

struct Programs(Vec<Child>);

impl Programs {
    fn start(program: &str, is_kernel_old: bool, shared: &OwnedFd) -> Self {
        let start = |_| {
            let mut command = rerun(program);
            command.stdin(shared.try_clone().unwrap()).stdout(Stdio::null()).stderr(Stdio::piped());
            if is_kernel_old {
                command.env("XIIO_SHARED_OLD", "1");
            }
            command.spawn().unwrap()
        };
        Self((0..N_PROCESSES).map(start).collect())
    }

    /// Waits for their end. Gives how many bytes they have moved together.
    #[track_caller]
    fn end(self) -> usize {
        let mut sum = 0;
        for mut child in self.0 {
            let lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let said = lines.map(Result::unwrap).find(|line| line.starts_with("gap ")).expect("it says how it went");
            child.wait().unwrap();
            let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
            assert!(Duration::from_millis(numbers[0]) < GAP, "a loop stood still: {said}");
            sum += numbers[1] as usize;
        }
        sum
    }
}

/// Gives one line after the other to four processes that read, then none.
#[track_caller]
fn four_read(reading: impl Into<OwnedFd>, writing: impl Into<OwnedFd>, is_kernel_old: bool) {
    let (reading, mut writing) = (reading.into(), File::from(writing.into()));
    let programs = Programs::start("program_that_reads", is_kernel_old, &reading);
    let (start, mut n_sent) = (Instant::now(), 0);
    while start.elapsed() < busy() {
        sleep(Duration::from_millis(1));
        writing.write_all(b"line\n").unwrap();
        n_sent += 5;
    }
    // They have all begun to read while there was something, or there is something when they begin.
    assert_eq!(programs.end(), n_sent);
}

/// Takes what four processes write, then nothing.
#[track_caller]
fn four_write(writing: impl Into<OwnedFd>, reading: impl Into<OwnedFd>, is_kernel_old: bool) {
    let (writing, mut reading) = (writing.into(), File::from(reading.into()));
    let programs = Programs::start("program_that_writes", is_kernel_old, &writing);
    let (start, mut n_read, mut buf) = (Instant::now(), 0, [0; 4096]);
    while start.elapsed() < busy() {
        sleep(Duration::from_millis(1));
        n_read += reading.read(&mut buf).unwrap();
    }
    let n_written = programs.end();
    drop(writing);
    // The end of a terminal is an error.
    while let Ok(n @ 1..) = reading.read(&mut buf) {
        n_read += n;
    }
    assert_eq!(n_read, n_written);
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let (master, terminal) = pseudo_terminal();
    (terminal, master)
}

/// The two ends of a named pipe. It is opened for both first, as each waits for the other otherwise.
fn named_pipe(name: &str) -> (File, File) {
    let path = std::env::temp_dir().join(format!("xiio-shared-{name}-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let blocking = File::open(&path).unwrap();
    drop(reader);
    fs::remove_file(&path).unwrap();
    (blocking, writer)
}

#[test]
fn four_read_from_a_pipe() {
    let (reader, writer) = io::pipe().unwrap();
    four_read(reader, writer, false);
}

#[test]
fn four_read_from_a_pipe_on_an_old_kernel() {
    let (reader, writer) = io::pipe().unwrap();
    four_read(reader, writer, true);
}

#[test]
fn four_read_from_a_named_pipe() {
    let (reader, writer) = named_pipe("read");
    four_read(reader, writer, false);
}

#[test]
fn four_read_from_a_socket() {
    let (reader, writer) = UnixStream::pair().unwrap();
    four_read(reader, writer, false);
}

#[test]
fn four_read_from_a_terminal() {
    let (terminal, master) = terminal();
    four_read(terminal, master, false);
}

#[test]
fn four_write_to_a_pipe() {
    let (reader, writer) = io::pipe().unwrap();
    four_write(writer, reader, false);
}

#[test]
fn four_write_to_a_pipe_on_an_old_kernel() {
    let (reader, writer) = io::pipe().unwrap();
    four_write(writer, reader, true);
}

#[test]
fn four_write_to_a_named_pipe() {
    let (reader, writer) = named_pipe("write");
    four_write(writer, reader, false);
}

#[test]
fn four_write_to_a_socket() {
    let (reader, writer) = UnixStream::pair().unwrap();
    four_write(writer, reader, false);
}

#[test]
fn four_write_to_a_terminal() {
    let (terminal, master) = terminal();
    four_write(terminal, master, false);
}

/// Another reader waits in its read, and takes one byte late: until then the terminal keeps all others out.
#[track_caller]
fn read_beside_one_that_is_late(read: impl AsyncFn(File, &mut [u8]) -> io::Result<usize> + Send + Sync) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on_this_processor();
            for _ in 0..10 {
                let (terminal, master) = terminal();
                let (terminal, mut master) = (File::from(terminal), File::from(master));
                let (mut others, (sender, receiver)) = (terminal.try_clone().unwrap(), mpsc::channel());
                let other = std::thread::spawn(move || {
                    give_way_always();
                    sender.send(thread_id()).unwrap();
                    // The end, when it had nothing.
                    let _ = others.read(&mut [0]);
                });
                let other_id = receiver.recv().unwrap();
                wait_until("the other one waits", || state_of(other_id) == Some('S'));
                xiio::run(async {
                    let (buf, write) = (&mut [0; 64], async { master.write_all(b"hello\n").unwrap() });
                    let (n, ()) = xiio::join!(xiio::timeout(Duration::from_secs(10), read(terminal, buf)), write);
                    assert!(n.expect("there is something to read").unwrap() >= 5);
                });
                drop(master);
                other.join().unwrap();
            }
        });
    });
}

#[test]
fn what_a_late_reader_leaves_of_a_terminal_is_read() {
    read_beside_one_that_is_late(async |terminal, buf| xiio::read(&terminal, buf).await);
    // Opened anew, so that the other one waits in its read.
    read_beside_one_that_is_late(async |terminal, buf| {
        let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
        let anew = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(path)?;
        xiio::io::Async::new(anew)?.read(buf).await
    });
}
