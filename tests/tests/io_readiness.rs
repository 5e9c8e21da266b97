//! Readiness of descriptors that are only borrowed, and reading and writing through them.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::process::{Command, Stdio};

use xiio::{read, readable, sleep, task_group, timeout, writable, write, write_all};
use xiio_tests::os::{closed_fd, has_urgent, leave_notice, pseudo_terminal, send_urgent, wait_until};
use xiio_tests::{LONG, Trace, assert_cancels_cleanly, millis, rounds, run};

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A stream whose buffer is full, and its other end.
fn full_pair() -> (UnixStream, UnixStream) {
    let (mut a, b) = pair();
    a.set_nonblocking(true).unwrap();
    while a.write(&[0; 4096]).is_ok() {}
    (a, b)
}

fn drain(stream: &mut UnixStream) {
    while stream.read(&mut [0; 65536]).unwrap() == 65536 {}
}

#[test]
fn readable_ends_when_there_is_data_and_takes_none() {
    let (a, b) = pair();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                sleep(millis(2)).await;
                (&b).write_all(b"x").unwrap();
            });
            readable(&a).await.unwrap();
        });
    });
    assert_eq!((&a).read(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn readable_ends_at_the_end_of_the_file() {
    let (a, b) = pair();
    run(async {
        task_group!(|tg| {
            tg.spawn(async move {
                sleep(millis(2)).await;
                drop(b);
            });
            readable(&a).await.unwrap();
            assert_eq!(read(&a, &mut [0; 8]).await.unwrap(), 0);
        });
    });
}

#[test]
fn writable_ends_when_there_is_room() {
    let (a, mut b) = full_pair();
    run(async {
        assert!(timeout(millis(2), writable(&a)).await.is_err());
        drain(&mut b);
        writable(&a).await.unwrap();
    });
}

#[test]
fn read_gives_what_is_there_and_not_more() {
    let (a, b) = pair();
    (&b).write_all(b"hello").unwrap();
    let mut buf = [0; 3];
    assert_eq!(run(read(&a, &mut buf)).unwrap(), 3);
    assert_eq!(&buf, b"hel");
    let mut buf = [0; 8];
    assert_eq!(run(read(&a, &mut buf)).unwrap(), 2);
    assert_eq!(&buf[..2], b"lo");
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (a, listener.accept().unwrap().0)
}

#[test]
fn urgent_data_alone_is_nothing_to_read() {
    let (mut a, b) = tcp_pair();
    send_urgent(&a);
    wait_until("urgent data", || has_urgent(&b));
    run(async {
        // A read would stop the thread, as this descriptor blocks.
        assert!(timeout(millis(5), readable(&b)).await.is_err());
        a.write_all(b"text").unwrap();
        assert_eq!(read(&b, &mut [0; 8]).await.unwrap(), 4);
    });
}

/// Waits a little in vain, and asserts that hardly anything was done meanwhile.
async fn assert_rests(waiting: impl Future) {
    let (n_polls, mut waiting) = (Cell::new(0), pin!(waiting));
    let counted = poll_fn(|cx| {
        n_polls.set(n_polls.get() + 1);
        waiting.as_mut().poll(cx)
    });
    assert!(timeout(millis(20), counted).await.is_err());
    // `poll(2)` tells of an error again and again.
    assert!(n_polls.get() < 50 || cfg!(polling_test_poll_backend), "polled {} times", n_polls.get());
}

#[test]
fn a_read_rests_while_there_is_an_error_that_it_does_not_fetch() {
    let (a, b) = tcp_pair();
    leave_notice(&a);
    run(async {
        assert_rests(async { read(&a, &mut [0; 8]).await }).await;
        task_group!(|tg| {
            let reading = tg.spawn(async { read(&a, &mut [0; 8]).await.unwrap() });
            sleep(millis(2)).await;
            (&b).write_all(b"text").unwrap();
            assert_eq!(reading.await, 4);
            let reading = tg.spawn(async { read(&a, &mut [0; 8]).await.unwrap() });
            sleep(millis(2)).await;
            b.shutdown(Shutdown::Write).unwrap();
            assert_eq!(reading.await, 0);
        });
    });
}

#[test]
fn a_write_rests_while_there_is_an_error_that_it_does_not_fetch() {
    let (a, b) = tcp_pair();
    leave_notice(&a);
    run(async {
        while timeout(millis(20), write(&a, &[0; 65536])).await.is_ok() {}
        // A little room may come when what was sent is acknowledged.
        assert_rests(async { while write(&a, &[0; 65536]).await.is_ok() {} }).await;
        task_group!(|tg| {
            let writing = tg.spawn(async { write_all(&a, &[0; 1 << 22]).await.unwrap() });
            sleep(millis(2)).await;
            while !writing.is_finished() {
                read(&b, &mut [0; 65536]).await.unwrap();
            }
            writing.await;
        });
    });
}

#[test]
fn write_all_writes_more_than_any_buffer_holds() {
    let (a, b) = pair();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let received = run(async {
        task_group!(|tg| {
            let sending = a;
            let sent = &sent;
            tg.spawn(async move {
                write_all(&sending, sent).await.unwrap();
            });
            let mut received = Vec::new();
            let mut buf = vec![0; 10_000];
            loop {
                match read(&b, &mut buf).await.unwrap() {
                    0 => break received,
                    n => received.extend_from_slice(&buf[..n]),
                }
            }
        })
    });
    assert!(received == sent);
}

#[test]
fn a_blocking_pipe_written_in_full_blocks_nobody() {
    let (reader, writer) = io::pipe().unwrap();
    let ticks = Trace::new();
    run(async {
        task_group!(|tg| {
            let full = tg.spawn(async {
                // Its descriptor is in blocking mode: a write without room for it would stop the whole thread.
                write_all(&writer, &[7; 300_000]).await.unwrap();
                drop(writer);
            });
            sleep(millis(3)).await;
            ticks.note("the thread goes on");
            let mut n_read = 0;
            let mut buf = [0; 5_000];
            while n_read < 300_000 {
                n_read += read(&reader, &mut buf).await.unwrap();
            }
            full.await;
        });
    });
    ticks.assert(&["the thread goes on"]);
}

#[test]
fn writing_to_a_pipe_nobody_reads_is_an_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(write(&writer, b"x")).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn reading_what_is_only_written_is_an_error() {
    let (_reader, writer) = io::pipe().unwrap();
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    assert!(run(read(&null, &mut [0; 8])).is_err());
    run(async {
        // The writing end is never readable, or an error; it never hangs the runtime.
        if let Ok(result) = timeout(millis(5), read(&writer, &mut [0; 8])).await {
            assert!(result.is_err());
        }
    });
}

#[test]
fn two_tasks_that_wait_to_read_one_descriptor_are_both_woken() {
    let (a, b) = pair();
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            for name in ["first", "second"] {
                let (a, trace) = (&a, &trace);
                tg.spawn(async move {
                    let mut buf = [0; 1];
                    assert_eq!(read(a, &mut buf).await.unwrap(), 1);
                    trace.note(format!("{name} {}", buf[0]));
                });
            }
            rounds(2).await;
            sleep(millis(2)).await;
            (&b).write_all(&[1, 2]).unwrap();
        });
    });
    let mut events = trace.take();
    events.sort_unstable();
    assert!(events == ["first 1", "second 2"] || events == ["first 2", "second 1"], "{events:?}");
}

#[test]
fn two_tasks_that_wait_for_opposite_directions_are_each_woken_by_their_own() {
    let (a, mut b) = full_pair();
    let trace = Trace::new();
    run(async {
        task_group!(|tg| {
            tg.spawn(async {
                readable(&a).await.unwrap();
                trace.note("readable");
            });
            tg.spawn(async {
                writable(&a).await.unwrap();
                trace.note("writable");
            });
            sleep(millis(2)).await;
            trace.note("writes to it");
            b.write_all(b"x").unwrap();
            sleep(millis(5)).await;
            trace.note("reads from it");
            drain(&mut b);
        });
    });
    trace.assert(&["writes to it", "readable", "reads from it", "writable"]);
}

#[test]
fn a_cancelled_waiter_leaves_the_other_one_watching() {
    let (a, b) = pair();
    run(async {
        task_group!(|tg| {
            let first = tg.spawn(readable(&a));
            let second = tg.spawn(readable(&a));
            sleep(millis(1)).await;
            assert!(first.cancel().await.is_none());
            (&b).write_all(b"x").unwrap();
            second.await.unwrap();
        });
    });
}

#[test]
fn a_cancelled_read_has_taken_nothing() {
    let (a, b) = pair();
    run(async {
        task_group!(|tg| {
            let task = tg.spawn(async { read(&a, &mut [0; 8]).await.unwrap() });
            sleep(millis(1)).await;
            (&b).write_all(b"x").unwrap();
            assert_eq!(task.cancel().await, None);
        });
        assert_eq!(read(&a, &mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn a_descriptor_closed_and_opened_again_between_waits_is_watched_anew() {
    run(async {
        let mut last = None;
        for _ in 0..20 {
            let (a, b) = pair();
            assert!(timeout(millis(1), readable(&a)).await.is_err());
            let is_reused = last.replace(a.as_raw_fd()) == Some(a.as_raw_fd());
            task_group!(|tg| {
                tg.spawn(async {
                    sleep(millis(1)).await;
                    (&b).write_all(b"x").unwrap();
                });
                readable(&a).await.unwrap();
            });
            let _ = is_reused;
        }
    });
}

#[test]
fn waiting_for_a_descriptor_cancels_cleanly() {
    let (a, _b) = pair();
    let (full, _other) = full_pair();
    assert_cancels_cleanly(|| readable(&a));
    assert_cancels_cleanly(|| async { read(&a, &mut [0; 8]).await });
    assert_cancels_cleanly(|| writable(&full));
    assert_cancels_cleanly(|| write(&full, b"x"));
    assert_cancels_cleanly(|| write_all(&full, b"x"));
}

#[test]
fn a_closed_descriptor_is_an_error_with_its_number() {
    let fd = closed_fd();
    run(async {
        for error in [
            readable(fd).await.unwrap_err(),
            writable(fd).await.unwrap_err(),
            read(fd, &mut [0; 8]).await.unwrap_err(),
            write(fd, b"x").await.unwrap_err(),
            write_all(fd, b"x").await.unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    });
}

#[test]
fn regular_files_are_always_ready() {
    let path = std::env::temp_dir().join(format!("xiio-readiness-{}", std::process::id()));
    run(async {
        let file = File::create(&path).unwrap();
        writable(&file).await.unwrap();
        write_all(&file, b"in a file").await.unwrap();
        let file = File::open(&path).unwrap();
        readable(&file).await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(read(&file, &mut buf).await.unwrap(), 9);
        assert_eq!(&buf[..9], b"in a file");
        assert_eq!(read(&file, &mut buf).await.unwrap(), 0);
    });
    fs::remove_file(&path).unwrap();
}

#[test]
fn devices_are_ready_and_dev_null_is_at_its_end() {
    run(async {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(read(&null, &mut [0; 8]).await.unwrap(), 0);
        write_all(&null, &[0; 100_000]).await.unwrap();
        let zero = File::open("/dev/zero").unwrap();
        assert_eq!(read(&zero, &mut [7; 8]).await.unwrap(), 8);
    });
}

/// The flags of the open file behind a descriptor, `O_NONBLOCK` among them.
fn flags(fd: impl AsFd) -> String {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = fs::read_to_string(path).unwrap();
    text.lines().find(|line| line.starts_with("flags:")).unwrap().to_owned()
}

#[test]
fn the_flags_of_a_descriptor_stay_as_they_are() {
    let (a, b) = pair();
    let (reader, writer) = io::pipe().unwrap();
    let before = (flags(&a), flags(&reader), flags(&writer));
    run(async {
        task_group!(|tg| {
            tg.spawn(readable(&a));
            tg.spawn(async { read(&reader, &mut [0; 8]).await.unwrap() });
            rounds(2).await;
            sleep(millis(1)).await;
            assert_eq!((flags(&a), flags(&reader), flags(&writer)), before);
            write_all(&b, b"x").await.unwrap();
            write_all(&writer, b"x").await.unwrap();
        });
    });
    assert_eq!((flags(&a), flags(&reader), flags(&writer)), before);
}

#[test]
fn a_flood_on_one_descriptor_starves_no_other_and_no_timer() {
    let zeros = File::open("/dev/zero").unwrap();
    let (a, b) = pair();
    run(async {
        task_group!(|tg| {
            let flood = tg.spawn(async {
                loop {
                    read(&zeros, &mut [0; 64]).await.unwrap();
                }
            });
            tg.spawn(async {
                sleep(millis(3)).await;
                write_all(&b, b"x").await.unwrap();
            });
            let mut buf = [0; 1];
            read(&a, &mut buf).await.unwrap();
            let _: Option<()> = flood.cancel().await;
        });
    });
}

// Standard input, in a child that is this very test binary.

/// What the child does: reads its standard input to the end, and says how much there was and whether the flags stayed.
#[test]
fn stdin_of_the_child() {
    if std::env::var_os("XIIO_TEST_STDIN").is_none() {
        return;
    }
    let before = flags(io::stdin());
    let n_bytes = run(async {
        let (mut n_bytes, mut buf) = (0, [0; 4096]);
        loop {
            let reading = timeout(LONG, read(io::stdin(), &mut buf)).await.unwrap();
            match reading.unwrap() {
                0 => break n_bytes,
                n => n_bytes += n,
            }
        }
    });
    assert_eq!(flags(io::stdin()), before);
    println!("[{n_bytes} bytes]");
}

fn child_with_stdin(stdin: Stdio, feed: impl FnOnce(Option<std::process::ChildStdin>)) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stdin_of_the_child", "--nocapture", "--test-threads=1"])
        .env("XIIO_TEST_STDIN", "1")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    feed(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn stdin_may_be_a_pipe() {
    let said = child_with_stdin(Stdio::piped(), |stdin| {
        let mut stdin = stdin.unwrap();
        stdin.write_all(&[b'x'; 10_000]).unwrap();
    });
    assert!(said.contains("[10000 bytes]"), "{said}");
}

#[test]
fn stdin_may_be_dev_null() {
    assert!(child_with_stdin(Stdio::null(), |_| ()).contains("[0 bytes]"));
}

#[test]
fn stdin_may_be_a_regular_file() {
    let path = std::env::temp_dir().join(format!("xiio-stdin-{}", std::process::id()));
    fs::write(&path, [b'x'; 5_000]).unwrap();
    let said = child_with_stdin(File::open(&path).unwrap().into(), |_| ());
    fs::remove_file(&path).unwrap();
    assert!(said.contains("[5000 bytes]"), "{said}");
}

#[test]
fn stdin_may_be_a_terminal() {
    let (master, terminal) = pseudo_terminal();
    let said = child_with_stdin(terminal.into(), move |_| {
        let mut master = File::from(master);
        // A line, and then the end of the input as a user types it.
        master.write_all(b"hello\n\x04").unwrap();
        // Kept open until the child has read it.
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(20));
            drop(master);
        });
    });
    assert!(said.contains("[6 bytes]"), "{said}");
}
