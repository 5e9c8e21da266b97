//! What has `next` is a `Stream` of the crate `futures-core`.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::process::Command;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use xiio::io::{Async, BufRead, BufReader, Read, Write};
use xiio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use xiio::signal::{SIGUSR1, SIGUSR2, subscribe};
use xiio::{Builder, as_completed, interval, join, race, sleep, task_group, timeout};
use xiio_tests::assert_panics;

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(60);

/// Polls once, with a waker that nobody hears.
fn poll_in_vain<S: Stream + Unpin>(stream: &mut S) {
    let polled = Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
}

#[test]
fn clients_are_a_stream() {
    xiio::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let n_served = Cell::new(0);
        join!(
            async {
                let serve = async |client: io::Result<TcpStream>| {
                    let mut word = String::new();
                    client.unwrap().read_to_string(&mut word).await.unwrap();
                    n_served.set(n_served.get() + word.len());
                };
                // Two at a time, which is what such streams are good for.
                timeout(LONG, listener.incoming().take(5).for_each_concurrent(2, serve)).await.unwrap();
            },
            async {
                for _ in 0..5 {
                    TcpStream::connect(addr).await.unwrap().write_all(b"word").await.unwrap();
                }
            }
        );
        assert_eq!(n_served.get(), 20);
    });
}

#[test]
fn a_poll_for_a_client_that_is_given_up_loses_none() {
    let path = std::env::temp_dir().join(format!("xiio-streams-{}", std::process::id()));
    xiio::run(async {
        let listener = UnixListener::bind(&path).unwrap();
        let mut incoming = listener.incoming();
        poll_in_vain(&mut incoming);
        assert!(timeout(SHORT, StreamExt::next(&mut incoming)).await.is_err());
        assert!(timeout(SHORT, incoming.next()).await.is_err());
        let (client, served) = join!(UnixStream::connect(&path), timeout(LONG, StreamExt::next(&mut incoming)));
        drop((client.unwrap(), served.unwrap().unwrap().unwrap()));
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn lines_are_a_stream_whoever_reads_them() {
    xiio::run(async {
        let (mut a, b) = UnixStream::pair().unwrap();
        let mut lines = BufReader::new(b).lines();
        poll_in_vain(&mut lines);
        a.write_all(b"one\r\ntw").await.unwrap();
        assert_eq!(StreamExt::next(&mut lines).await.unwrap().unwrap(), "one");
        assert!(timeout(SHORT, StreamExt::next(&mut lines)).await.is_err());
        // The same read goes on without the trait, and the other way round.
        assert!(timeout(SHORT, lines.next()).await.is_err());
        a.write_all(b"o\nthree\nfour\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), "two");
        assert_eq!(StreamExt::next(&mut lines).await.unwrap().unwrap(), "three");
        a.close().await.unwrap();
        assert_eq!(lines.try_collect::<Vec<_>>().await.unwrap(), ["four"]);
    });
}

#[test]
fn a_reader_comes_back_from_a_stream_that_waits() {
    xiio::run(async {
        let (mut a, b) = UnixStream::pair().unwrap();
        let mut pieces = BufReader::new(b).split(b' ');
        a.write_all(b"half").await.unwrap();
        assert!(timeout(SHORT, StreamExt::next(&mut pieces)).await.is_err());
        let b = pieces.into_inner();
        assert_eq!(b.buffer(), b"half");
        let mut pieces = b.split(b'!');
        poll_in_vain(&mut pieces);
        assert_eq!(pieces.get_mut().buffer(), b"half");
        a.write_all(b" a word!").await.unwrap();
        assert_eq!(StreamExt::next(&mut pieces).await.unwrap().unwrap(), b"half a word");
        let b = pieces.into_inner();
        let mut lines = BufReader::new(a).lines();
        // The reader came back, and with it the other end.
        let _b = b;
        poll_in_vain(&mut lines);
        drop(lines);
    });
}

#[test]
fn an_error_of_a_stream_is_the_last_and_bad_text_is_not() {
    xiio::run(async {
        let lines = BufReader::new(&b"\xff\nfine\nmuch too long\nmore\n"[..]).max_line(6).lines();
        let seen = lines.map(|line| line.map_err(|error| error.kind())).collect::<Vec<_>>().await;
        assert_eq!(seen, [Err(io::ErrorKind::InvalidData), Ok("fine".to_string()), Err(io::ErrorKind::InvalidData)]);
        let words = BufReader::new(&b"a b"[..]).split(b' ').try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(words, [b"a", b"b"]);
    });
}

#[test]
fn a_reader_that_is_borrowed_is_unfolded() {
    xiio::run(async {
        let text = String::from("one\ntwo\n");
        let lines = BufReader::new(text.as_bytes()).lines();
        let lines = stream::unfold(lines, async |mut lines| Some((lines.next().await?, lines)));
        assert_eq!(pin!(lines).try_collect::<Vec<_>>().await.unwrap(), ["one", "two"]);
    });
}

#[test]
fn a_reader_that_panics_is_given_back() {
    struct Panics;
    impl Read for Panics {
        async fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("no more")
        }
    }
    let mut lines = BufReader::new(Panics).lines();
    let next = AssertUnwindSafe(|| xiio::run(StreamExt::next(&mut lines)));
    assert!(catch_unwind(next).is_err());
    assert!(lines.into_inner().buffer().is_empty());
}

#[xiio::test(virtual_time)]
async fn ticks_are_a_stream() {
    let start = xiio::now();
    let ticks = interval(Duration::from_secs(10)).take(3).collect::<Vec<_>>().await;
    assert_eq!(ticks[2] - start, Duration::from_secs(30));
    let mut ticks = interval(Duration::from_secs(10));
    assert!(timeout(Duration::from_secs(9), StreamExt::next(&mut ticks)).await.is_err());
    assert_eq!(StreamExt::next(&mut ticks).await.unwrap() - start, Duration::from_secs(40));
}

fn send(signal: &str) {
    assert!(Command::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap().success());
}

#[test]
fn signals_are_a_stream() {
    xiio::run(async {
        let mut signals = subscribe(&[SIGUSR1, SIGUSR2]).unwrap();
        poll_in_vain(&mut signals);
        assert!(timeout(SHORT, StreamExt::next(&mut signals)).await.is_err());
        task_group!(|tg| {
            tg.spawn(async {
                sleep(SHORT).await;
                send("-USR2");
            });
            assert_eq!(timeout(LONG, StreamExt::next(&mut signals)).await.unwrap().unwrap().unwrap(), SIGUSR2);
        });
        send("-USR1");
        assert_eq!(signals.recv().await.unwrap(), SIGUSR1);
        poll_in_vain(&mut signals);
    });
}

#[test]
fn a_stream_of_signals_goes_to_another_thread() {
    let mut signals = subscribe(&[libc::SIGWINCH]).unwrap();
    xiio::run(async { poll_in_vain(&mut signals) });
    let there = std::thread::spawn(move || {
        xiio::run(async {
            assert!(timeout(SHORT, StreamExt::next(&mut signals)).await.is_err());
            send("-WINCH");
            StreamExt::next(&mut signals).await.unwrap().unwrap()
        })
    });
    assert_eq!(there.join().unwrap(), libc::SIGWINCH);
}

#[test]
fn a_stream_of_signals_that_is_dropped_elsewhere_is_waited_for_no_more() {
    assert_panics(&["deadlock"], || {
        Builder::new().detect_deadlock(Duration::from_millis(20)).run(async {
            let mut signals = subscribe(&[libc::SIGIO]).unwrap();
            poll_in_vain(&mut signals);
            std::thread::spawn(move || drop(signals)).join().unwrap();
            pending::<()>().await;
        });
    });
}

#[test]
fn a_stream_of_signals_outlives_its_run() {
    let mut signals = subscribe(&[libc::SIGURG]).unwrap();
    xiio::run(async { poll_in_vain(&mut signals) });
    xiio::run(async {
        assert!(timeout(SHORT, StreamExt::next(&mut signals)).await.is_err());
        send("-URG");
        assert_eq!(StreamExt::next(&mut signals).await.unwrap().unwrap(), libc::SIGURG);
    });
}

#[xiio::test(virtual_time)]
async fn outputs_are_a_stream() {
    let sleepers = [20, 1, 10].map(|seconds| async move {
        sleep(Duration::from_secs(seconds)).await;
        seconds
    });
    let doubled =
        as_completed(sleepers).consume(async |outputs| outputs.map(|n| n * 2).collect::<Vec<_>>().await).await;
    assert_eq!(doubled, [2, 20, 40]);
}

#[test]
fn streams_of_two_kinds_are_selected_from() {
    let seen = RefCell::new(Vec::new());
    xiio::run(async {
        let (mut a, b) = UnixStream::pair().unwrap();
        let lines = BufReader::new(b).lines().map(|line| line.unwrap());
        let ticks = interval(SHORT).map(|_| "tick".to_string());
        let mut both = stream::select(lines, ticks);
        race!(
            () = async {
                while let Some(what) = both.next().await {
                    seen.borrow_mut().push(what);
                }
            } => unreachable!("ticks do not end"),
            () = async {
                a.write_all(b"line\n").await.unwrap();
                while seen.borrow().iter().filter(|what| *what == "tick").count() < 3 {
                    sleep(SHORT).await;
                }
            } => {},
        );
    });
    assert!(seen.borrow().contains(&"line".to_string()));
}

#[test]
fn a_stream_in_a_task_that_is_cancelled_does_not_go_on() {
    xiio::run(async {
        let has_gone_on = Cell::new(false);
        task_group!(|tg| {
            let task = tg.spawn(async {
                let (reader, _writer) = io::pipe().unwrap();
                let lines = BufReader::new(Async::new(reader).unwrap()).lines();
                lines.for_each(|_| ready(())).await;
                has_gone_on.set(true);
            });
            xiio::yield_now().await;
            task.cancel().await;
        });
        assert!(!has_gone_on.get());
    });
}
