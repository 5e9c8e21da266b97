//! Owned descriptors: `io::Async`, the traits of `io`, buffered reading and copying.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xiio::io::{Async, BufRead, BufReader, BufWriter, Read, Unchanged, Write, copy};
use xiio::{Promise, join, task_group, timeout, yield_now};

const LONG: Duration = Duration::from_secs(60);

fn pipe() -> (Async<PipeReader>, Async<PipeWriter>) {
    let (reader, writer) = io::pipe().unwrap();
    (Async::new(reader).unwrap(), Async::new(writer).unwrap())
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    // `fdinfo` shows the flags in octal.
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    u32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK.cast_unsigned() != 0
}

#[test]
fn a_read_waits_for_a_write_in_another_task() {
    let (mut reader, mut writer) = pipe();
    let trace = RefCell::new(Vec::new());
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(async {
                trace.borrow_mut().push("reads");
                let mut buf = [0; 8];
                assert_eq!(reader.read(&mut buf).await.unwrap(), 2);
                trace.borrow_mut().push("has read");
            });
            tg.spawn(async {
                trace.borrow_mut().push("writes");
                writer.write_all(b"hi").await.unwrap();
            });
        });
    });
    assert_eq!(*trace.borrow(), ["reads", "writes", "has read"]);
}

#[test]
fn a_descriptor_is_non_blocking_from_the_start_and_stays_so() {
    let (reader, _writer) = io::pipe().unwrap();
    assert!(!is_nonblocking(&reader));
    let reader = Async::new(reader).unwrap();
    assert!(is_nonblocking(&reader));
    assert!(is_nonblocking(reader.into_inner()));
}

#[test]
fn an_unchanged_descriptor_keeps_its_flags() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"hi").unwrap();
    let mut buf = [0; 8];
    assert_eq!(xiio::run(Unchanged(&reader).read(&mut buf)).unwrap(), 2);
    assert!(!is_nonblocking(&reader));
}

#[test]
fn what_does_not_block_is_never_registered() {
    // The system refuses to register a regular file.
    let mut file = Async::new(std::fs::File::open("/proc/self/cmdline").unwrap()).unwrap();
    let mut text = Vec::new();
    assert!(xiio::run(file.read_to_end(&mut text)).unwrap() > 0);
}

#[test]
fn what_cannot_be_watched_is_an_error_with_its_number() {
    let file = Async::new(std::fs::File::open("/proc/self/cmdline").unwrap()).unwrap();
    let blocked = file.read_with(|_| Err::<(), _>(ErrorKind::WouldBlock.into()));
    let error = xiio::run(blocked).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_descriptor_is_used_under_one_run_after_another() {
    let (mut reader, mut writer) = pipe();
    for round in 0..3 {
        xiio::run(async {
            let mut byte = [0];
            join!(async { reader.read_exact(&mut byte).await.unwrap() }, async {
                yield_now().await;
                writer.write_all(&[round]).await.unwrap();
            });
            assert_eq!(byte, [round]);
        });
    }
}

#[test]
fn one_that_waits_is_moved_to_another_run() {
    let (mut reader, mut writer) = pipe();
    let mut byte = [0];
    let mut read = Box::pin(reader.read_exact(&mut byte));
    xiio::run(async {
        assert!(timeout(Duration::from_millis(1), &mut read).await.is_err());
    });
    xiio::run(async {
        join!(async { read.await.unwrap() }, async {
            yield_now().await;
            writer.write_all(b"x").await.unwrap();
        });
    });
}

#[test]
fn all_tasks_that_read_from_one_descriptor_are_woken() {
    let (reader, mut writer) = pipe();
    let n_read = Cell::new(0);
    xiio::run(async {
        task_group!(|tg| {
            for _ in 0..5 {
                tg.spawn(async {
                    (&reader).read_exact(&mut [0]).await.unwrap();
                    n_read.set(n_read.get() + 1);
                });
            }
            yield_now().await;
            writer.write_all(b"12345").await.unwrap();
        });
    });
    assert_eq!(n_read.get(), 5);
}

#[test]
fn both_directions_of_one_descriptor_wait_for_themselves() {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let (a, b) = (Async::new(a).unwrap(), Async::new(b).unwrap());
    let sent = vec![7; 1 << 20];
    let mut received = Vec::new();
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(async { (&a).read_exact(&mut [0; 2]).await.unwrap() });
            tg.spawn(async { (&a).write_all(&sent).await.unwrap() });
            // The writer has filled the socket by now, the reader waits.
            yield_now().await;
            received.resize(sent.len(), 0);
            (&b).read_exact(&mut received).await.unwrap();
            (&b).write_all(b"ok").await.unwrap();
        });
    });
    assert_eq!(received, sent);
}

#[test]
fn a_spurious_poll_calls_the_operation_no_more_than_needed() {
    let (a, b) = UnixDatagram::pair().unwrap();
    let a = Async::new(a).unwrap();
    let n_calls = Cell::new(0);
    xiio::run(async {
        let mut buf = [0; 8];
        let mut read = pin!(a.read_with(|socket| {
            n_calls.set(n_calls.get() + 1);
            socket.recv(&mut buf)
        }));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(read.as_mut().poll(&mut cx).is_pending());
            assert_eq!(n_calls.get(), 1);
        }
        b.send(b"x").unwrap();
        assert_eq!(read.await.unwrap(), 1);
        assert_eq!(n_calls.get(), 2);
    });
}

#[test]
fn an_interrupted_operation_is_repeated() {
    let (reader, _writer) = pipe();
    let n_calls = Cell::new(0);
    let value = xiio::run(reader.read_with(|_| {
        n_calls.set(n_calls.get() + 1);
        if n_calls.get() < 3 { Err(ErrorKind::Interrupted.into()) } else { Ok("done") }
    }));
    assert_eq!((value.unwrap(), n_calls.get()), ("done", 3));
}

#[test]
fn an_operation_may_use_its_descriptor() {
    let (a, b) = UnixDatagram::pair().unwrap();
    let a = Async::new(a).unwrap();
    b.send(b"1").unwrap();
    b.send(b"2").unwrap();
    xiio::run(async {
        let both = a.read_with(|socket| {
            let mut inner = pin!(a.read_with(|socket| socket.recv(&mut [0; 8])));
            let first = inner.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(first, Poll::Ready(Ok(1))));
            socket.recv(&mut [0; 8])
        });
        assert_eq!(both.await.unwrap(), 1);
    });
}

#[test]
fn a_panic_in_an_operation_leaves_the_descriptor_usable() {
    let (mut reader, mut writer) = pipe();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        xiio::run(reader.read_with(|_| -> io::Result<()> { panic!("in the operation") }))
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "in the operation");
    xiio::run(async {
        writer.write_all(b"x").await.unwrap();
        reader.read_exact(&mut [0]).await.unwrap();
    });
}

#[test]
fn a_cancelled_read_takes_nothing() {
    let (mut reader, mut writer) = pipe();
    xiio::run(async {
        let mut buf = [0; 8];
        assert!(timeout(Duration::ZERO, reader.read(&mut buf)).await.is_err());
        assert!(timeout(Duration::from_millis(1), reader.read(&mut buf)).await.is_err());
        task_group!(|tg| {
            let task = tg.spawn(async { (&reader).read(&mut [0; 8]).await.map(|_| ()) });
            yield_now().await;
            writer.write_all(b"hello").await.unwrap();
            assert!(task.cancel().await.is_none());
        });
        assert_eq!(reader.read(&mut buf).await.unwrap(), 5);
    });
}

#[test]
fn a_descriptor_is_open_until_it_is_dropped_and_no_longer() {
    let (reader, mut writer) = pipe();
    xiio::run(async {
        assert!(timeout(Duration::from_millis(1), (&reader).read(&mut [0])).await.is_err());
        drop(reader);
        assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn another_descriptor_may_take_the_place() {
    let (mut reader, _writer) = pipe();
    xiio::run(async {
        assert!(timeout(Duration::from_millis(1), reader.read(&mut [0])).await.is_err());
        let (other, mut writer) = pipe();
        let before = std::mem::replace(reader.get_mut(), other.into_inner());
        drop(before);
        join!(async { reader.read_exact(&mut [0]).await.unwrap() }, async {
            yield_now().await;
            writer.write_all(b"x").await.unwrap();
        });
    });
}

/// A descriptor that notes when it is closed.
struct Noted<'a>(io::PipeReader, &'a RefCell<Vec<&'static str>>);

impl AsFd for Noted<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl io::Read for &Noted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buf)
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let fd = self.0.as_raw_fd();
        // The epoll descriptors of this process show what they watch.
        let is_watched = std::fs::read_dir("/proc/self/fdinfo").unwrap().any(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            text.lines().any(|line| line.split_whitespace().take(2).eq(["tfd:", &fd.to_string()]))
        });
        self.1.borrow_mut().push(if is_watched { "closed while watched" } else { "closed" });
    }
}

#[test]
fn a_registration_ends_before_its_descriptor_is_closed() {
    let trace = RefCell::new(Vec::new());
    let (reader, _writer) = io::pipe().unwrap();
    xiio::run(async {
        let io = Async::new(Noted(reader, &trace)).unwrap();
        let read = io.read_with(|Noted(reader, _)| (&*reader).read(&mut [0]));
        assert!(timeout(Duration::from_millis(1), read).await.is_err());
        drop(io);
        trace.borrow_mut().push("dropped");
    });
    assert_eq!(*trace.borrow(), ["closed", "dropped"]);
}

#[cfg(feature = "futures")]
#[test]
fn a_registration_ends_before_another_descriptor_takes_the_place() {
    let trace = RefCell::new(Vec::new());
    let ((reader, _writer), (other, _other_writer)) = (io::pipe().unwrap(), io::pipe().unwrap());
    xiio::run(async {
        let mut io = Async::new(Noted(reader, &trace)).unwrap();
        // A poll without a future of its own leaves its place in line behind.
        assert!(futures::poll!(futures::AsyncReadExt::read(&mut &io, &mut [0])).is_pending());
        *io.get_mut() = Noted(other, &trace);
        assert_eq!(trace.take(), ["closed"]);
    });
}

#[test]
fn waiting_outside_of_a_runtime_panics_with_advice() {
    let (mut reader, _writer) = pipe();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut buf = [0];
        let polled = pin!(reader.read(&mut buf)).poll(&mut Context::from_waker(Waker::noop()));
        drop(polled);
    }));
    let text = *panicked.unwrap_err().downcast::<&str>().unwrap();
    assert!(text.contains("xiio::run"), "{text}");
}

#[test]
fn read_exact_tells_how_much_was_missing() {
    let (mut reader, mut writer) = pipe();
    let error = xiio::run(async {
        writer.write_all(b"abc").await.unwrap();
        drop(writer);
        reader.read_exact(&mut [0; 8]).await.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("5 bytes"), "{error}");
}

#[test]
fn read_to_end_keeps_what_it_has_when_it_is_cancelled() {
    let (mut reader, mut writer) = pipe();
    let mut body = b"before ".to_vec();
    xiio::run(async {
        writer.write_all(b"after").await.unwrap();
        assert!(timeout(Duration::from_millis(5), reader.read_to_end(&mut body)).await.is_err());
    });
    assert_eq!(body, b"before after");
}

#[test]
fn read_to_end_leaves_a_buffer_with_enough_room_as_large_as_it_is() {
    for len in [1, 100, 4096, 5000, 1 << 20] {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        for spare in [0, 1, 100] {
            let mut body = Vec::with_capacity(3 + len + spare);
            body.extend_from_slice(b"abc");
            let capacity = body.capacity();
            assert_eq!(xiio::run(Read::read_to_end(&mut &data[..], &mut body)).unwrap(), len);
            assert_eq!((&body[..3], body[3..] == data, body.capacity()), (&b"abc"[..], true, capacity));
        }
        let mut too_small = Vec::with_capacity(len - 1);
        assert_eq!(xiio::run(Read::read_to_end(&mut &data[..], &mut too_small)).unwrap(), len);
        assert!(too_small == data);
    }
}

#[test]
fn read_to_end_reads_more_than_a_pipe_holds() {
    let (mut reader, mut writer) = pipe();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let mut received = Vec::new();
    xiio::run(async {
        join!(async { reader.read_to_end(&mut received).await.unwrap() }, async {
            writer.write_all(&sent).await.unwrap();
            drop(writer);
        });
    });
    assert_eq!(received, sent);
}

#[test]
fn vectored_writes_arrive_in_order_and_whole() {
    let (mut reader, mut writer) = pipe();
    let long = vec![b'x'; 200_000];
    let mut received = Vec::new();
    xiio::run(async {
        join!(async { reader.read_to_end(&mut received).await.unwrap() }, async {
            let mut bufs = [IoSlice::new(b""), IoSlice::new(b"<"), IoSlice::new(&long), IoSlice::new(b">")];
            writer.write_all_vectored(&mut bufs).await.unwrap();
            drop(writer);
        });
    });
    assert_eq!(received.len(), long.len() + 2);
    assert_eq!((received[0], received[received.len() - 1]), (b'<', b'>'));
}

#[test]
fn copy_moves_everything_and_waits_for_the_writer() {
    let (mut reader, mut writer) = pipe();
    let (mut copied_reader, mut copied_writer) = pipe();
    let sent: Vec<u8> = (0..500_000_u32).map(|n| (n / 3) as u8).collect();
    let mut received = vec![0; sent.len()];
    xiio::run(async {
        let (_, n_copied, _) = join!(
            async {
                writer.write_all(&sent).await.unwrap();
                drop(writer);
            },
            async { copy(&mut reader, &mut copied_writer).await.unwrap() },
            async { copied_reader.read_exact(&mut received).await.unwrap() },
        );
        assert_eq!(n_copied, sent.len() as u64);
    });
    assert!(received == sent);
}

#[test]
fn copy_holds_no_more_than_it_says() {
    let (mut reader, _writer) = pipe();
    let (_full_reader, mut full_writer) = pipe();
    let n_taken = Cell::new(0);
    struct Counted<'a>(&'a Cell<usize>);
    impl Read for Counted<'_> {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + buf.len());
            Ok(buf.len())
        }
    }
    xiio::run(async {
        let mut source = Counted(&n_taken);
        let endless = copy(&mut source, &mut full_writer);
        assert!(timeout(Duration::from_millis(20), endless).await.is_err());
        // A pipe holds 64 KiB, and so does `copy`.
        assert!(n_taken.get() <= 3 * 64 * 1024, "{} bytes were read", n_taken.get());
        assert!(timeout(Duration::from_millis(1), reader.read(&mut [0])).await.is_err());
    });
}

#[test]
fn a_cancelled_line_is_given_whole_next_time() {
    let (reader, mut writer) = pipe();
    let mut lines = BufReader::new(reader).lines();
    xiio::run(async {
        writer.write_all(b"first ").await.unwrap();
        assert!(timeout(Duration::from_millis(5), lines.next()).await.is_err());
        writer.write_all(b"line\nrest").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), "first line");
        drop(writer);
        assert_eq!(lines.next().await.unwrap().unwrap(), "rest");
        assert!(lines.next().await.is_none());
    });
}

#[test]
fn a_line_beyond_the_bound_is_an_error_and_the_end() {
    let text = [vec![b'x'; 100], b"\nshort\n".to_vec()].concat();
    let mut lines = BufReader::new(&text[..]).max_line(50).lines();
    xiio::run(async {
        let error = lines.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("longer than 50 bytes"), "{error}");
        assert!(lines.next().await.is_none());
    });
}

#[test]
fn a_line_as_long_as_the_bound_is_none_too_long() {
    let mut lines = BufReader::new(&b"1234\n12345\n"[..]).max_line(5).lines();
    xiio::run(async {
        assert_eq!(lines.next().await.unwrap().unwrap(), "1234");
        assert!(lines.next().await.unwrap().is_err());
    });
}

#[test]
fn an_endless_line_is_cut_off_at_the_bound() {
    struct Endless;
    impl Read for Endless {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            buf.fill(b'x');
            Ok(buf.len())
        }
    }
    let mut reader = BufReader::new(Endless);
    let error = xiio::run(reader.read_line(&mut String::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(reader.buffer().len() <= 80 * 1024, "{}", reader.buffer().len());
}

#[test]
fn a_line_that_is_not_text_is_skipped() {
    let mut lines = BufReader::new(&b"\xff\xfe\ngood\n"[..]).lines();
    xiio::run(async {
        assert_eq!(lines.next().await.unwrap().unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(lines.next().await.unwrap().unwrap(), "good");
        assert!(lines.next().await.is_none());
    });
}

#[test]
fn long_lines_and_short_reads_make_the_same_lines() {
    struct Trickle<'a>(&'a [u8], usize);
    impl Read for Trickle<'_> {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n_read = buf.len().min(self.1).min(self.0.len());
            buf[..n_read].copy_from_slice(&self.0[..n_read]);
            self.0 = &self.0[n_read..];
            Ok(n_read)
        }
    }
    let text: String = (0..2000).map(|n| "x".repeat(n % 97 * n % 311) + "\n").collect();
    for step in [1, 7, 8191, 100_000] {
        let mut lines = BufReader::new(Trickle(text.as_bytes(), step)).lines();
        let mut found = String::new();
        xiio::run(async {
            while let Some(line) = lines.next().await {
                found.push_str(&line.unwrap());
                found.push('\n');
            }
        });
        assert!(found == text, "step {step}");
    }
}

#[test]
fn buffered_bytes_come_before_the_rest() {
    let mut reader = BufReader::new(&b"line\nand the rest"[..]);
    let mut rest = String::new();
    xiio::run(async {
        reader.read_line(&mut String::new()).await.unwrap();
        reader.read_to_string(&mut rest).await.unwrap();
    });
    assert_eq!(rest, "and the rest");
}

#[test]
fn a_reader_that_is_always_ready_starves_nobody() {
    let mut zero = Async::new(std::fs::File::open("/dev/zero").unwrap()).unwrap();
    let promise = Promise::<()>::new();
    let other_ran = Cell::new(false);
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn(async {
                let mut buf = [0; 64];
                while !promise.is_set() {
                    zero.read_exact(&mut buf).await.unwrap();
                }
            });
            tg.spawn(async {
                for _ in 0..3 {
                    yield_now().await;
                }
                other_ran.set(true);
                promise.set(()).unwrap();
            });
        });
    });
    assert!(other_ran.get());
}

#[test]
fn readable_is_true_when_it_returns() {
    let (a, b) = UnixDatagram::pair().unwrap();
    let a = Async::new(a).unwrap();
    xiio::run(async {
        for _ in 0..3 {
            join!(async { timeout(LONG, a.readable()).await.unwrap().unwrap() }, async {
                yield_now().await;
                b.send(b"x").unwrap();
            });
            assert_eq!(a.get_ref().recv(&mut [0; 8]).unwrap(), 1);
        }
    });
}

#[test]
fn few_bytes_are_held_back_until_they_are_many_or_flushed() {
    let piece = [7; 1000];
    let sent = xiio::run(async {
        let mut writer = BufWriter::new(Vec::new());
        for n_written in 1..=8 {
            writer.write_all(&piece).await.unwrap();
            assert_eq!((writer.get_ref().len(), writer.buffer().len()), (0, n_written * piece.len()));
        }
        writer.write_all(&piece).await.unwrap();
        assert_eq!((writer.get_ref().len(), writer.buffer().len()), (8 * piece.len(), piece.len()));
        writer.flush().await.unwrap();
        assert!(writer.buffer().is_empty());
        writer.into_inner()
    });
    assert_eq!(sent, piece.repeat(9));
}

#[test]
fn close_ends_the_direction_to_write_of_a_socket() {
    xiio::run(async {
        let ((a, b), (unchanged, c)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (mut a, mut b, mut c) = (Async::new(a).unwrap(), Async::new(b).unwrap(), Async::new(c).unwrap());
        let mut unchanged = Unchanged(unchanged);
        let ends = async {
            a.close().await.unwrap();
            unchanged.close().await.unwrap();
            (b.read(&mut [0]).await.unwrap(), c.read(&mut [0]).await.unwrap())
        };
        assert_eq!(timeout(LONG, ends).await, Ok((0, 0)));
        b.write_all(b"x").await.unwrap();
        a.read_exact(&mut [0]).await.unwrap();
        a.close().await.unwrap();
        assert_eq!(a.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn what_moves_nothing_needs_no_room() {
    xiio::run(async {
        let (a, _b) = UnixStream::pair().unwrap();
        let mut a = Async::new(a).unwrap();
        fill(&mut a).await;
        within_a_minute(a.flush()).await.unwrap();
        assert_eq!(within_a_minute(a.write(&[])).await.unwrap(), 0);
        assert_eq!(within_a_minute(a.write_vectored(&[IoSlice::new(&[])])).await.unwrap(), 0);
        within_a_minute(a.close()).await.unwrap();

        let (_reader, mut pipe) = pipe();
        fill(&mut pipe).await;
        within_a_minute(pipe.flush()).await.unwrap();
        assert_eq!(within_a_minute(pipe.write(&[])).await.unwrap(), 0);
        assert_eq!(within_a_minute(Unchanged(&pipe).write(&[])).await.unwrap(), 0);
        within_a_minute(pipe.close()).await.unwrap();

        let (mut stream, _other) = xiio::net::UnixStream::pair().unwrap();
        fill(&mut stream).await;
        assert_eq!(within_a_minute(stream.write(&[])).await.unwrap(), 0);
        assert_eq!(within_a_minute(stream.write_vectored(&[])).await.unwrap(), 0);
    });
}

/// Writes until there is no room, which is known from then on.
async fn fill(writer: &mut impl Write) {
    while timeout(Duration::from_millis(20), writer.write(&[0; 4096])).await.is_ok() {}
}

#[test]
fn a_read_of_nothing_waits_for_nothing() {
    xiio::run(async {
        let (mut reader, _writer) = pipe();
        assert!(timeout(Duration::from_millis(1), reader.read(&mut [0])).await.is_err());
        assert_eq!(within_a_minute(reader.read(&mut [])).await.unwrap(), 0);
        assert_eq!(within_a_minute(reader.read_vectored(&mut [])).await.unwrap(), 0);
        assert_eq!(within_a_minute(Unchanged(&reader).read(&mut [])).await.unwrap(), 0);
        assert_eq!(within_a_minute(BufReader::new(&reader).read(&mut [])).await.unwrap(), 0);
    });
}

async fn within_a_minute<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("it waits")
}

#[test]
fn close_only_flushes_what_has_no_end_to_tell_of() {
    let (mut reader, mut writer) = pipe();
    // It is connected to nobody.
    let socket = File::from(OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
    xiio::run(async {
        writer.close().await.unwrap();
        writer.write_all(b"x").await.unwrap();
        Unchanged(writer.get_ref()).close().await.unwrap();
        reader.read_exact(&mut [0]).await.unwrap();
        Async::new(socket).unwrap().close().await.unwrap();
    });
}

#[test]
fn many_bytes_go_behind_those_held_back() {
    let many = vec![2; 20_000];
    let sent = xiio::run(async {
        let mut writer = BufWriter::new(Vec::new());
        writer.write_all(&[1]).await.unwrap();
        writer.write_all(&many).await.unwrap();
        assert!(writer.buffer().is_empty());
        writer.write_all_vectored(&mut [IoSlice::new(&[3]), IoSlice::new(&[4, 5])]).await.unwrap();
        assert_eq!(writer.buffer(), [3, 4, 5]);
        writer.write_all_vectored(&mut [IoSlice::new(&many), IoSlice::new(&[6])]).await.unwrap();
        writer.flush().await.unwrap();
        writer.into_inner()
    });
    assert_eq!(sent, [&[1], &many[..], &[3, 4, 5], &many[..], &[6]].concat());
}

#[test]
fn a_cancelled_flush_goes_on_where_it_was() {
    let (mut reader, writer) = pipe();
    let message: Vec<u8> = (0..8_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    xiio::run(async {
        let mut writer = BufWriter::new(writer);
        // The pipe is nearly full, so that a part of the message fits.
        let n_full = (writer.get_mut().write_with(|mut pipe| pipe.write(&[0; 1 << 20]))).await.unwrap();
        reader.read_exact(&mut vec![0; 4096]).await.unwrap();
        writer.write_all(&message).await.unwrap();
        assert!(timeout(Duration::from_millis(1), writer.flush()).await.is_err());
        assert!(!writer.buffer().is_empty() && writer.buffer().len() < message.len());
        let mut received = vec![0; n_full - 4096 + message.len()];
        join!(async { writer.flush().await.unwrap() }, async { reader.read_exact(&mut received).await.unwrap() });
        assert_eq!(received[n_full - 4096..], message);
    });
}

#[test]
fn a_writer_that_takes_nothing_is_an_error() {
    xiio::run(async {
        let mut writer = BufWriter::new(Full);
        writer.write_all(b"held back").await.unwrap();
        assert_eq!(writer.flush().await.unwrap_err().kind(), ErrorKind::WriteZero);
        assert_eq!(writer.buffer(), b"held back");
    });
}

/// Takes nothing.
struct Full;

impl Write for Full {
    async fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }
}
