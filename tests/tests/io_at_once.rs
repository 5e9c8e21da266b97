//! What does not wait is a leaf like any other: cancelled code does not get past it, and a loop of it gives way.

use std::cell::RefCell;
use std::io::{self, Cursor, IoSlice, IoSliceMut};
use std::net;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::thread;

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use xiio::io::{Async, BufRead, BufReader, BufWriter, Lines, Read, Unchanged, Write, copy, duplex};
use xiio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixSocket, UnixStream, lookup_host};
use xiio::process::{Child, Command};
use xiio::{Elapsed, task_group, timeout};
use xiio_tests::{millis, run};

const NOWHERE: &str = "/nowhere/at/all";
/// Has a zero in it, as no path may have.
const NO_PATH: &str = "a\0path";
const NO_ADDRESS: &str = "no address";
const LOCAL: &str = "127.0.0.1:0";

/// What does not wait, by its name. Its value is dropped.
type Rounds = Vec<(&'static str, Box<dyn Fn() -> LocalBoxFuture<'static, ()>>)>;

/// Each has a value that is made first, and is used by what is awaited.
macro_rules! rounds {
    ($($name:literal: $value:expr, |$it:ident| $round:expr;)*) => {{
        let rounds: Rounds = vec![$(($name, Box::new(|| {
            #[allow(unused_mut, reason = "some are only looked at")]
            let mut $it = $value;
            async move { let _ = $round.await; }.boxed_local()
        }))),*];
        rounds
    }};
}

fn unbound() -> UnixDatagram {
    UnixDatagram::unbound().unwrap()
}

fn unnamed() -> UnixAddr {
    UnixAddr::from_pathname("").unwrap()
}

fn socket() -> UnixSocket {
    UnixSocket::new_stream().unwrap()
}

fn udp() -> UdpSocket {
    net::UdpSocket::bind(LOCAL).unwrap().try_into().unwrap()
}

fn tcp() -> TcpStream {
    let listener = net::TcpListener::bind(LOCAL).unwrap();
    net::TcpStream::connect(listener.local_addr().unwrap()).unwrap().try_into().unwrap()
}

fn unix() -> UnixStream {
    UnixStream::pair().unwrap().0
}

const TEXT: &[u8] = b"one\ntwo\nthree\n";

/// All of the text is in the buffer.
fn buffered() -> BufReader<&'static [u8]> {
    let mut reader = BufReader::new(TEXT);
    assert_eq!(block_on(reader.fill_buf()).unwrap(), TEXT);
    reader
}

/// An error has ended them.
fn failed() -> Lines<BufReader<&'static [u8]>> {
    let mut lines = BufReader::new(TEXT).max_line(1).lines();
    assert!(block_on(lines.next()).unwrap().is_err());
    lines
}

fn sockets() -> Rounds {
    rounds! {
        "send_to a path": unbound(), |it| it.send_to(b"x", NOWHERE);
        "send_to_addr": unbound(), |it| it.send_to_addr(b"x", &unnamed());
        "connect to a path": (), |_it| UnixStream::connect(NOWHERE);
        "connect to no path": (), |_it| UnixStream::connect(NO_PATH);
        "connect_addr": unnamed(), |it| UnixStream::connect_addr(&it);
        "connect of a socket": socket(), |it| it.connect(NOWHERE);
        "connect of a socket to no path": socket(), |it| it.connect(NO_PATH);
        "connect_addr of a socket": socket(), |it| it.connect_addr(&unnamed());
        "connect of a socket for datagrams": UnixSocket::new_datagram().unwrap(), |it| it.connect(NOWHERE);
        "TcpListener::bind": (), |_it| TcpListener::bind(LOCAL);
        "TcpListener::bind without an address": (), |_it| TcpListener::bind(NO_ADDRESS);
        "TcpStream::connect without an address": (), |_it| TcpStream::connect(NO_ADDRESS);
        "UdpSocket::bind": (), |_it| UdpSocket::bind(LOCAL);
        "UdpSocket::connect": udp(), |it| it.connect("127.0.0.1:9");
        "UdpSocket::send_to without an address": udp(), |it| it.send_to(b"x", NO_ADDRESS);
        "lookup_host": (), |_it| lookup_host("127.0.0.1:9").map(drop);
        "lookup_host without an address": (), |_it| lookup_host(NO_ADDRESS).map(drop);
    }
}

fn ends() -> Rounds {
    rounds! {
        "close of a TcpStream": tcp(), |it| it.close();
        "close of a &TcpStream": tcp(), |it| (&it).close();
        "close of a UnixStream": unix(), |it| it.close();
        "close of a &UnixStream": unix(), |it| (&it).close();
        "close of a half": unix(), |it| it.split().1.close();
        "close of an owned half": unix().into_split(), |it| it.1.close();
        "close of Async": Async::new(io::pipe().unwrap().1).unwrap(), |it| it.close();
        "close of Unchanged": Unchanged(unix()), |it| it.close();
        "close of a duplex stream": duplex(8), |it| it.0.close();
        "close of a &DuplexStream": duplex(8), |it| (&it.0).close();
        "close of a Vec": Vec::new(), |it| it.close();
        "close of a BufWriter": BufWriter::new(unix()), |it| it.close();
        "flush of a stream": unix(), |it| it.flush();
        "flush of a half": unix(), |it| it.split().1.flush();
        "flush of a Vec": Vec::new(), |it| it.flush();
        "flush of a BufWriter": BufWriter::new(Vec::new()), |it| it.flush();
    }
}

/// It has been waited for.
fn ended() -> Child {
    let mut child = Command::new("true").spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        thread::yield_now();
    }
    child
}

fn processes() -> Rounds {
    rounds! {
        "wait for who has been waited for": ended(), |it| it.wait();
        "wait_exited for who has been waited for": ended(), |it| it.wait_exited();
        "stop of who has been waited for": ended(), |it| it.stop();
    }
}

fn buffers() -> Rounds {
    rounds! {
        "next line": buffered().lines(), |it| it.next();
        "next line after an error": failed(), |it| it.next();
        "next piece": buffered().split(b'\n'), |it| it.next();
        "read_line": buffered(), |it| it.read_line(&mut String::new());
        "read_until": buffered(), |it| it.read_until(b'\n', &mut Vec::new());
        "fill_buf": buffered(), |it| it.fill_buf();
        "fill_until": buffered(), |it| it.fill_until(b'\n', 9);
        "fill_until of too much": buffered().max_line(1), |it| it.fill_until(b'\n', 9);
        "fill_until of nothing": BufReader::new(TEXT), |it| it.fill_until(b'\n', 0);
        "read of a BufReader": buffered(), |it| it.read(&mut [0; 2]);
        "read_exact of a BufReader": buffered(), |it| it.read_exact(&mut [0; 2]);
        "write to a BufWriter": BufWriter::new(unix()), |it| it.write(b"x");
        "write_vectored to a BufWriter": BufWriter::new(unix()), |it| it.write_vectored(&[IoSlice::new(b"x")]);
        "write_all to a BufWriter": BufWriter::new(unix()), |it| it.write_all(b"x");
    }
}

fn memory() -> Rounds {
    rounds! {
        "read of a slice": TEXT, |it| it.read(&mut [0; 2]);
        "read_vectored of a slice": TEXT, |it| it.read_vectored(&mut [IoSliceMut::new(&mut [0; 2])]);
        "read_buf of a slice": TEXT, |it| it.read_buf(&mut Vec::new());
        "read_to_end of a slice": TEXT, |it| it.read_to_end(&mut Vec::new());
        "fill_buf of a slice": TEXT, |it| it.fill_buf();
        "fill_until of a slice": TEXT, |it| it.fill_until(b'\n', 9);
        "read of a Cursor": Cursor::new(TEXT), |it| it.read(&mut [0; 2]);
        "read of nothing from a Cursor": Cursor::new(TEXT), |it| it.read(&mut []);
        "fill_buf of a Cursor": Cursor::new(TEXT), |it| it.fill_buf();
        "fill_until of a Cursor": Cursor::new(TEXT), |it| it.fill_until(b'\n', 9);
        "read of Empty": io::empty(), |it| it.read(&mut [0; 2]);
        "fill_buf of Empty": io::empty(), |it| it.fill_buf();
        "write to a Vec": Vec::new(), |it| it.write(b"x");
        "write_vectored to a Vec": Vec::new(), |it| it.write_vectored(&[IoSlice::new(b"x")]);
        "write to a Sink": io::sink(), |it| it.write(b"x");
        "write_vectored to a Sink": io::sink(), |it| it.write_vectored(&[IoSlice::new(b"x")]);
        "write to Empty": io::empty(), |it| it.write(b"x");
        "flush of a Sink": io::sink(), |it| it.flush();
        "copy": Vec::new(), |it| copy(&mut &b""[..], &mut it);
    }
}

fn nothing() -> Rounds {
    rounds! {
        "read of nothing": unix(), |it| it.read(&mut []);
        "read_vectored of nothing": unix(), |it| it.read_vectored(&mut []);
        "read_exact of nothing": unix(), |it| it.read_exact(&mut []);
        "read of nothing from a half": unix(), |it| it.split().0.read(&mut []);
        "read of no more": unix().take(0), |it| it.read(&mut [0; 2]);
        "fill_buf of no more": buffered().take(0), |it| it.fill_buf();
        "fill_until of no more": buffered().take(0), |it| it.fill_until(b'\n', 9);
        "read of nothing from a chain": unix().chain(unix()), |it| it.read(&mut []);
        "read_vectored of nothing from a chain": unix().chain(unix()), |it| it.read_vectored(&mut []);
        "read_vectored of nothing from a duplex stream": duplex(8), |it| it.0.read_vectored(&mut []);
        "write_vectored of nothing to a duplex stream": duplex(8), |it| it.0.write_vectored(&[]);
        "write_all of nothing": unix(), |it| it.write_all(&[]);
        "write_all_vectored of nothing": unix(), |it| it.write_all_vectored(&mut []);
        "write_all of nothing to what is borrowed": unix(), |it| xiio::write_all(&it, &[]);
    }
}

/// The traits of `futures-io`, and streams.
fn polled() -> Rounds {
    #[cfg(not(feature = "futures"))]
    return Vec::new();
    #[cfg(feature = "futures")]
    rounds! {
        "poll_close of a TcpStream": tcp(), |it| futures::AsyncWriteExt::close(&mut it);
        "poll_close of a UnixStream": unix(), |it| futures::AsyncWriteExt::close(&mut it);
        "poll_close of a half": unix().into_split(), |it| futures::AsyncWriteExt::close(&mut it.1);
        "poll_close of Async": Async::new(io::pipe().unwrap().1).unwrap(), |it| futures::AsyncWriteExt::close(&mut it);
        "poll_close of a duplex stream": duplex(8), |it| futures::AsyncWriteExt::close(&mut it.0);
        "poll_flush of a TcpStream": tcp(), |it| futures::AsyncWriteExt::flush(&mut it);
        "poll_flush of a UnixStream": unix(), |it| futures::AsyncWriteExt::flush(&mut it);
        "poll_flush of a half": unix().into_split(), |it| futures::AsyncWriteExt::flush(&mut it.1);
        "poll_flush of Async": Async::new(io::pipe().unwrap().1).unwrap(), |it| futures::AsyncWriteExt::flush(&mut it);
        "poll_flush of a duplex stream": duplex(8), |it| futures::AsyncWriteExt::flush(&mut it.0);
        "poll_read of nothing": unix(), |it| futures::AsyncReadExt::read(&mut it, &mut []);
        "poll_read of nothing from a half": unix().into_split(), |it| futures::AsyncReadExt::read(&mut it.0, &mut []);
        "poll_read of nothing from a duplex stream": duplex(8), |it| futures::AsyncReadExt::read(&mut it.0, &mut []);
        "poll_read_vectored of nothing": unix(), |it| futures::AsyncReadExt::read_vectored(&mut it, &mut []);
        "poll_next of lines": buffered().lines(), |it| futures::StreamExt::next(&mut it);
        "poll_next of lines after an error": failed(), |it| futures::StreamExt::next(&mut it);
    }
}

fn all() -> impl Iterator<Item = Rounds> {
    [sockets(), ends(), processes(), buffers(), memory(), nothing(), polled()].into_iter()
}

#[test]
fn cancelled_code_does_not_get_past_what_does_not_wait() {
    let ran_on = RefCell::new(Vec::new());
    for (name, round) in all().flatten() {
        run(async {
            task_group!(|tg| {
                tg.spawn(async {
                    let round = round();
                    tg.cancel();
                    round.await;
                    ran_on.borrow_mut().push(name);
                });
            });
        });
    }
    assert_eq!(*ran_on.borrow(), [""; 0]);
}

#[test]
fn a_loop_of_what_does_not_wait_gives_way() {
    for (name, round) in all().flatten() {
        let for_ever = async {
            loop {
                round().await;
            }
        };
        let limited: Result<(), Elapsed> = run(timeout(millis(2), for_ever));
        assert!(limited.is_err(), "{name}");
    }
}

/// Of another crate: always ready, byte by byte or with all that is asked for.
struct AlwaysReady {
    max: usize,
}

impl Read for AlwaysReady {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(buf.len().min(self.max))
    }
}

impl Write for AlwaysReady {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len().min(self.max))
    }
}

async fn read_until(reader: AlwaysReady) -> io::Result<usize> {
    BufReader::new(reader).max_line(usize::MAX).read_until(b'\n', &mut Vec::new()).await
}

async fn flush_much(writer: AlwaysReady) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 26, writer);
    writer.write_all(&vec![0; (1 << 26) - 1]).await?;
    writer.flush().await
}

#[test]
fn what_goes_on_with_a_reader_or_writer_that_is_always_ready_gives_way() {
    const ALL: usize = usize::MAX;
    const MUCH: usize = 1 << 26;

    fn ended<T>(work: impl Future<Output = T>) -> Result<(), Elapsed> {
        run(timeout(millis(20), work)).map(drop)
    }

    for (name, ended) in [
        ("copy", ended(copy(&mut AlwaysReady { max: ALL }, &mut AlwaysReady { max: ALL }))),
        ("read_until", ended(read_until(AlwaysReady { max: 1 }))),
        ("flush", ended(flush_much(AlwaysReady { max: 1 }))),
        ("read_to_end", ended(AlwaysReady { max: 1 }.read_to_end(&mut Vec::new()))),
        ("read_exact", ended(AlwaysReady { max: 1 }.read_exact(&mut vec![0; MUCH]))),
        ("write_all", ended(AlwaysReady { max: 1 }.write_all(&vec![0; MUCH]))),
        ("write_all_vectored", ended(AlwaysReady { max: 1 }.write_all_vectored(&mut [IoSlice::new(&vec![0; MUCH])]))),
    ] {
        assert!(ended.is_err(), "{name}");
    }
}
