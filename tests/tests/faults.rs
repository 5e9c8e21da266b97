//! Every call into the system that may fail, made to fail: only in a build for faults, see `xiio/src/sys/faults.rs`.
//!
//! A fault is told to a process at its start, so each case is this program once more.
#![cfg(xiio_faults)]
#![allow(missing_docs)]

use std::cell::Cell;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use xiio::io::{BufRead, BufReader, Read, Write, copy};
use xiio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use xiio::process::{Command, Stdio, run_process};
use xiio::signal::{self, SIGUSR1};
use xiio::{gather, in_thread, interval, sleep, timeout, try_join, try_task_group};
use xiio_tests::os::{children, is_running, n_fds, n_sleeps, rerun, send_self, wait_until};
use xiio_tests::{millis, run};

/// What no run ever comes to.
const MANY: usize = 2000;

#[test]
fn with_any_call_out_of_descriptors_it_ends_and_leaves_nothing() {
    fail_one_by_one(libc::EMFILE);
}

#[test]
fn with_any_call_out_of_memory_it_ends_and_leaves_nothing() {
    fail_one_by_one(libc::ENOMEM);
}

/// Runs [`program`] with its first call that fails, with the second, and so on, until there is no such call.
fn fail_one_by_one(errno: i32) {
    for n in 1..MANY {
        let (status, text) = run_with("program", &format!("fail={n}:{errno}"));
        assert!(status.success(), "call {n} fails with {errno}: {status}\n{text}");
        if !text.contains(&format!("call {n} fails")) {
            assert!(n > 20, "only {n} calls may fail\n{text}");
            return;
        }
    }
    panic!("there is no end of calls");
}

/// How a test of this program ends, and what it says. A file takes that: who is left of its children would keep a pipe open.
fn run_with(test: &str, faults: &str) -> (ExitStatus, String) {
    let path = std::env::temp_dir().join(format!("xiio-{faults}-{}", std::process::id()));
    let file = fs::File::create(&path).unwrap();
    let status =
        rerun(test).env("XIIO_FAULTS", faults).stdout(std::process::Stdio::null()).stderr(file).status().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    (status, text)
}

#[test]
#[ignore = "run by those above"]
fn program() {
    let n_fds_before = n_fds();
    let descendant = Cell::new(None);
    match catch_unwind(AssertUnwindSafe(|| tree(&descendant))) {
        Ok(Ok(())) => eprintln!("no error"),
        Ok(Err(error)) => eprintln!("an error: {error}"),
        Err(panic) => {
            let text = panic.downcast::<String>().expect("a text");
            // What has no error to come out as.
            let is_expected = ["cannot start a runtime: ", "cannot start a thread: "];
            assert!(is_expected.iter().any(|start| text.starts_with(start)), "{text}");
        }
    }
    wait_until("children are reaped", || children().is_empty());
    assert_eq!(n_fds(), n_fds_before, "descriptors are left");
    if let Some(pid) = descendant.get() {
        wait_until("the child of the child is killed", || !is_running(pid));
    }
}

/// A little of everything that calls into the system.
fn tree(descendant: &Cell<Option<u32>>) -> io::Result<()> {
    let mut signals = signal::subscribe(&[SIGUSR1])?;
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        try_task_group!(error = io::Error, |tg| {
            tg.spawn(async move {
                let (client, _) = listener.accept().await?;
                copy(&mut &client, &mut &client).await?;
                Ok(())
            });
            tg.spawn(async move {
                let mut stream = TcpStream::connect(addr).await?;
                stream.set_linger(None)?;
                stream.write_all(b"text").await?;
                stream.shutdown(std::net::Shutdown::Write)?;
                let mut echoed = String::new();
                stream.read_to_string(&mut echoed).await?;
                assert_eq!(echoed, "text");
                Ok(())
            });
            tg.spawn(unix());
            tg.spawn(udp());
            tg.spawn(processes(descendant));
            tg.spawn(async {
                send_self(SIGUSR1);
                assert_eq!(signals.recv().await?, SIGUSR1);
                Ok(())
            });
            tg.spawn(async { in_thread(|| Ok(())).await });
            tg.spawn(async {
                let mut ticks = interval(millis(2));
                ticks.tick().await;
                ticks.tick().await;
                Ok(())
            });
        })
    })
}

/// A file that goes with the test, also when that is cancelled: a later process may have its number, and so its name.
struct Path(PathBuf);

impl Drop for Path {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn unix() -> io::Result<()> {
    let path = Path(std::env::temp_dir().join(format!("xiio-faults-{}", std::process::id())));
    let listener = UnixListener::bind(&path.0);
    let connected = match &listener {
        Ok(listener) => try_join!(UnixStream::connect(&path.0), listener.accept()),
        Err(_) => Ok((UnixStream::pair()?.0, listener?.accept().await?)),
    };
    let (mut client, (mut server, _)) = connected?;
    let mut word = [0; 4];
    try_join!(client.write_all(b"text"), server.read_exact(&mut word))?;
    assert_eq!(&word, b"text");
    Ok(())
}

async fn udp() -> io::Result<()> {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    let (to, mut buf) = (b.local_addr()?, [0; 8]);
    let (n_bytes, _) = try_join!(b.recv_from(&mut buf), a.send_to(b"text", to))?.0;
    assert_eq!(&buf[..n_bytes], b"text");
    Ok(())
}

async fn processes(descendant: &Cell<Option<u32>>) -> io::Result<()> {
    let output = run_process("cat").input("text").capture_output(true).await.map_err(io::Error::other)?;
    assert_eq!(output.stdout, b"text");
    let _ = timeout(millis(1), Command::new("sleep").arg("3600").status()).await;
    // The child ends when it is told to; its own child does not, and is killed with the group after the grace.
    let script = "trap '' TERM; sleep 3600 & trap - TERM; echo $!; wait";
    let mut child = Command::new("sh").args(["-c", script]).grace(millis(50)).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let told = lines.next().await.transpose();
    if let Ok(Some(line)) = &told {
        descendant.set(line.parse().ok());
    }
    drop(lines);
    child.stop().await?;
    told.map(drop)
}

#[test]
fn a_clock_that_stands_still_delays_and_no_more() {
    let (status, text) = run_with("sleepers", "stall=100");
    assert!(status.success(), "{status}\n{text}");
}

#[test]
#[ignore = "run by the one above"]
fn sleepers() {
    let (start, waits_before) = (std::time::Instant::now(), n_sleeps());
    run(async {
        let sleeper = async |n: u64| {
            let (begun, length) = (xiio::now(), millis(n * 7));
            sleep(length).await;
            assert!(xiio::now() - begun >= length, "woken too early");
            n
        };
        let order = gather((1..=100).map(sleeper)).await;
        assert_eq!(order, (1..=100).collect::<Vec<_>>());
        let begun = xiio::now();
        assert!(timeout(millis(150), std::future::pending::<()>()).await.is_err());
        assert!(xiio::now() - begun >= millis(150), "elapsed too early");
        let mut ticks = interval(millis(1));
        for _ in 0..300 {
            ticks.tick().await;
        }
    });
    // No wait is shorter than a tick of the timers while the clock stands.
    let n_waits = n_sleeps() - waits_before;
    let millis = start.elapsed().as_millis();
    eprintln!("{n_waits} waits in {millis} ms");
    assert!(u128::from(n_waits) < 2 * millis, "{n_waits} waits in {millis} ms");
    assert!(start.elapsed() < Duration::from_secs(30), "took {millis} ms");
}
