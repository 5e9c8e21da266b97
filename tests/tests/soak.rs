//! A server, a runner of processes, signals, threads and timers side by side, under churn: clients that die, processes
//! that are killed from outside, times without descriptors. Memory, descriptors, children and latency stay bounded.
//!
//! `XIIO_SOAK_SECONDS` says for how long. A process of its own: descriptors, children and their limit belong to all of it.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use xiio::io::{Read, Write, copy};
use xiio::net::{TcpListener, TcpStream};
use xiio::process::{Command, ProcessError, run_process};
use xiio::signal::{self, SIGKILL, SIGUSR1};
use xiio::{in_thread, interval, sleep, task_group, timeout};
use xiio_tests::millis;
use xiio_tests::os::{children, n_fds, send, send_self, wait_until};

const DEFAULT: Duration = Duration::from_secs(3);

/// So many descriptors are enough for all that runs here, and few enough to be used up quickly.
const MAX_FILES: libc::rlim_t = 256;

/// What the least memory of the later looks may have beyond that of the earlier ones. From one look to the next it goes up and down by
/// several times as much, with the heaps of the threads that there are.
const MAX_GROWTH_KIB: usize = 4 * 1024;

/// On a machine that is busy with other things.
const MAX_LATENCY: Duration = Duration::from_secs(10);

#[test]
fn a_long_time_under_churn_leaves_nothing_and_delays_nobody() {
    let seconds = std::env::var("XIIO_SOAK_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let length = seconds.map_or(DEFAULT, Duration::from_secs);
    limit_files();
    xiio::run(async { run_process("true").await.unwrap() });
    let n_fds_before = n_fds();

    let soak = Soak::new(length);
    xiio::run(soak.run());

    eprintln!("{} s: {}", length.as_secs(), soak.figures());
    assert_eq!(n_fds(), n_fds_before, "descriptors are left");
    wait_until("children are reaped", || children().is_empty());
    soak.judge();
}

struct Soak {
    begun: Instant,
    length: Duration,
    counts: RefCell<BTreeMap<&'static str, usize>>,
    latency: Cell<Duration>,
    lateness: Cell<Duration>,
    /// More than buffers hold. One for all, as each of its own would come and go in the memory that is looked at.
    much: Vec<u8>,
    /// One look after the other.
    memory_kib: RefCell<Vec<usize>>,
}

impl Soak {
    fn new(length: Duration) -> Self {
        Self {
            begun: Instant::now(),
            length,
            counts: RefCell::default(),
            latency: Cell::default(),
            lateness: Cell::default(),
            much: vec![b'x'; 4 << 20],
            memory_kib: RefCell::default(),
        }
    }

    async fn run(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        task_group!(|tg| {
            let serving = tg.spawn(self.serve(&listener));
            let churn = async {
                task_group!(|tg| {
                    for n in 0..8 {
                        tg.spawn(self.again(async move || self.visit(server, n).await));
                    }
                    tg.spawn(self.again(async || self.run_and_kill().await));
                    tg.spawn(self.again(async || self.take_all_files().await));
                    tg.spawn(self.again(async || self.tick().await));
                    tg.spawn(self.again(async || self.work().await));
                    tg.spawn(self.signal());
                    tg.spawn(self.again(async || self.probe(server).await));
                    tg.spawn(self.watch_memory());
                });
            };
            churn.await;
            serving.cancel().await;
        });
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.length
    }

    fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    async fn again(&self, round: impl AsyncFn()) {
        while !self.is_over() {
            round().await;
            sleep(millis(2)).await;
        }
    }

    async fn serve(&self, listener: &TcpListener) {
        task_group!(|clients| {
            let mut incoming = listener.incoming();
            while let Some(client) = incoming.next().await {
                let Ok(client) = client else {
                    self.count("clients not taken for want of descriptors");
                    continue;
                };
                clients.spawn(async move {
                    // One that reads nothing does not hold its task for ever.
                    let served = timeout(Duration::from_secs(2), copy(&mut &client, &mut &client)).await;
                    self.count(if matches!(served, Ok(Ok(_))) { "clients served" } else { "clients lost" });
                });
            }
        });
    }

    /// A client, of a kind by turns.
    async fn visit(&self, server: SocketAddr, n: usize) {
        let kind = (n + self.begun.elapsed().subsec_millis() as usize) % 4;
        let visited = async {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_all(&[b'x'; 3000]).await?;
            match kind {
                // Dies: what it was sent is unread, so the server gets a reset.
                0 => stream.set_linger(Some(Duration::ZERO))?,
                // Closes its half and reads to the end.
                1 => {
                    stream.shutdown(Shutdown::Write)?;
                    stream.read_to_end(&mut Vec::new()).await?;
                }
                // Sends more than buffers hold, and hardly reads.
                2 => {
                    let _ = timeout(millis(50), stream.write_all(&self.much)).await;
                    for _ in 0..4 {
                        stream.read_exact(&mut [0; 1000]).await?;
                        sleep(millis(5)).await;
                    }
                }
                // Is cancelled while it waits.
                _ => drop(timeout(millis(5), stream.read_to_end(&mut Vec::new())).await),
            }
            io::Result::Ok(())
        };
        match visited.await {
            Ok(()) => self.count("visits"),
            Err(error) => self.expect_io(&error),
        }
    }

    /// What comes of a lack of descriptors and of resets. Anything else is a fault of ours.
    fn expect_io(&self, error: &io::Error) {
        let is_of_peer = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
        let is_expected = error.raw_os_error() == Some(libc::EMFILE)
            || error.to_string().contains("Too many open files")
            || is_of_peer.contains(&error.kind());
        assert!(is_expected, "{error:?}");
        self.count("errors of descriptors and peers");
    }

    async fn run_and_kill(&self) {
        match run_process("cat").input("text").capture_output(true).await {
            Ok(output) => {
                assert_eq!(output.stdout, b"text");
                self.count("processes run");
            }
            Err(error) => self.expect_process(&error),
        }
        match Command::new("sleep").arg("3600").spawn() {
            Ok(mut child) => {
                assert!(send(child.id(), SIGKILL));
                if let Err(error) = child.wait().await {
                    self.expect_io(&error);
                }
                self.count("processes killed from outside");
            }
            Err(error) => self.expect_io(&error),
        }
        let mut cancelled = Command::new("sleep");
        match timeout(millis(3), cancelled.arg("3600").status()).await {
            Ok(Ok(status)) => panic!("a sleep of an hour ended: {status}"),
            Ok(Err(error)) => self.expect_io(&error),
            Err(_) => self.count("processes cancelled"),
        }
    }

    fn expect_process(&self, error: &ProcessError) {
        assert!(error.to_string().contains("Too many open files"), "{error}");
        self.count("errors of descriptors and peers");
    }

    /// Uses up all descriptors for a moment.
    async fn take_all_files(&self) {
        sleep(millis(300)).await;
        let mut files = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        self.count("times without descriptors");
        sleep(millis(30)).await;
    }

    /// Timers, most of which do not fire.
    async fn tick(&self) {
        task_group!(|tg| {
            for n in 0..50 {
                tg.spawn(async move {
                    let due = xiio::now() + millis(n % 7);
                    assert!(timeout(Duration::from_secs(60), sleep(millis(n % 7))).await.is_ok());
                    self.lateness.set(self.lateness.get().max(xiio::now() - due));
                });
            }
        });
        self.count("rounds of timers");
    }

    async fn work(&self) {
        assert_eq!(in_thread(|| 7).await, 7);
        self.count("thread jobs");
    }

    async fn signal(&self) {
        let mut signals = signal::subscribe(&[SIGUSR1]).unwrap();
        let mut ticks = interval(millis(10));
        while !self.is_over() {
            ticks.tick().await;
            send_self(SIGUSR1);
            match signals.recv().await {
                Ok(signal) => assert_eq!(signal, SIGUSR1),
                Err(error) => self.expect_io(&error),
            }
            self.count("signals");
        }
    }

    /// How long a question and its answer take.
    async fn probe(&self, server: SocketAddr) {
        let Ok(mut stream) = TcpStream::connect(server).await else { return };
        for _ in 0..50 {
            let begun = Instant::now();
            let exchanged = async {
                stream.write_all(b"ping").await?;
                stream.read_exact(&mut [0; 4]).await
            };
            // The server ends each client after a while.
            let Ok(()) = exchanged.await else { return };
            self.latency.set(self.latency.get().max(begun.elapsed()));
            self.count("questions answered");
            sleep(millis(2)).await;
        }
    }

    async fn watch_memory(&self) {
        sleep(self.length / 5).await;
        while !self.is_over() {
            // At times there is no descriptor for a look.
            self.memory_kib.borrow_mut().extend(memory_kib());
            sleep(millis(100)).await;
        }
    }

    /// The least memory that there was in the first half of the looks, and in the second.
    fn early_and_late_kib(&self) -> (usize, usize) {
        let looks = self.memory_kib.borrow();
        let (early, late) = looks.split_at(looks.len() / 2);
        let least = |looks: &[usize]| looks.iter().copied().min().unwrap();
        (least(early), least(late))
    }

    fn figures(&self) -> String {
        let counts = self.counts.borrow();
        let counts: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        let (early, late) = self.early_and_late_kib();
        let (latency, lateness) = (self.latency.get(), self.lateness.get());
        format!(
            "{}; memory {early} KiB, then {late} KiB; slowest answer {latency:?}, latest timer {lateness:?}",
            counts.join(", ")
        )
    }

    fn judge(&self) {
        let (early, late) = self.early_and_late_kib();
        assert!(late < early + MAX_GROWTH_KIB, "{early} KiB, then {late} KiB");
        assert!(self.latency.get() < MAX_LATENCY && self.lateness.get() < MAX_LATENCY, "{}", self.figures());
        let counts = self.counts.borrow();
        for what in [
            "clients served",
            "clients not taken for want of descriptors",
            "processes run",
            "processes killed from outside",
            "processes cancelled",
            "times without descriptors",
            "signals",
            "thread jobs",
            "rounds of timers",
            "questions answered",
            "visits",
        ] {
            assert!(counts.contains_key(what), "no {what}");
        }
    }
}

/// What this process has of the main memory.
fn memory_kib() -> io::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[expect(unsafe_code, reason = "std does not set limits")]
fn limit_files() {
    let limit = libc::rlimit { rlim_cur: MAX_FILES, rlim_max: MAX_FILES };
    // SAFETY: the limit lives until the call returns.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}
