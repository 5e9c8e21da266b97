//! TCP, UDP and Unix sockets, with real peers on this machine.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use xiio::io::{BufRead, BufReader, Read, Write, copy};
use xiio::net::{
    TcpListener, TcpStream, ToSocketAddrs, UdpSocket, UnixDatagram, UnixListener, UnixStream, lookup_host,
};
use xiio::{Promise, join, race, sleep, task_group, timeout, try_task_group, yield_now};
use xiio_tests::os::{fetch_urgent, has_urgent, send_urgent, wait_until};
use xiio_tests::run;

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);
const ANY: &str = "127.0.0.1:0";

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (client, server) = join!(TcpStream::connect(addr), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// The result of a future that must end soon.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("it hangs")
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 / 7) as u8).collect()
}

/// A path that no other test uses, free again at the end.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xiio-net-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

// TCP

#[xiio::test]
async fn addresses_are_those_of_the_sockets() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (client, accepted) = join!(TcpStream::connect(addr), listener.accept());
    let (client, (server, client_addr)) = (client.unwrap(), accepted.unwrap());
    assert_eq!(client.peer_addr().unwrap(), addr);
    assert_eq!(client.local_addr().unwrap(), client_addr);
    assert_eq!(server.peer_addr().unwrap(), client_addr);
    assert!(!client.nodelay().unwrap());
    client.set_nodelay(true).unwrap();
    assert!(client.nodelay().unwrap());
}

#[xiio::test]
async fn version_six_connects_too() {
    let listener = match TcpListener::bind("[::1]:0").await {
        Ok(listener) => listener,
        // There may be no IPv6 here; then that is what is told.
        Err(error) => return assert_eq!(error.kind(), ErrorKind::AddrNotAvailable),
    };
    let addr = listener.local_addr().unwrap();
    let (client, accepted) = join!(TcpStream::connect(addr), listener.accept());
    assert_eq!(accepted.unwrap().1, client.unwrap().local_addr().unwrap());
}

#[xiio::test]
async fn a_client_that_connects_later_wakes_the_listener() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let trace = RefCell::new(Vec::new());
    join!(
        async {
            trace.borrow_mut().push("accepts");
            soon(listener.accept()).await.unwrap();
            trace.borrow_mut().push("accepted");
        },
        async {
            yield_now().await;
            trace.borrow_mut().push("connects");
            TcpStream::connect(addr).await.unwrap();
        },
    );
    assert_eq!(trace.borrow()[..2], ["accepts", "connects"]);
}

#[xiio::test]
async fn all_tasks_that_accept_get_their_client() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let n_accepted = Cell::new(0);
    task_group!(|tg| {
        for _ in 0..5 {
            tg.spawn(async {
                soon(listener.accept()).await.unwrap();
                n_accepted.set(n_accepted.get() + 1);
            });
        }
        yield_now().await;
        for _ in 0..5 {
            TcpStream::connect(addr).await.unwrap();
        }
    });
    assert_eq!(n_accepted.get(), 5);
}

#[xiio::test]
async fn a_refused_connection_is_an_error() {
    let addr = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let error = soon(TcpStream::connect(addr)).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED)));
}

#[xiio::test]
async fn the_next_address_is_tried_when_one_fails() {
    let refusing = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let started = Instant::now();
    let stream = soon(TcpStream::connect([refusing, refusing, addr])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    // A refusal is not waited out.
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
}

#[xiio::test]
async fn when_all_addresses_fail_the_last_failure_is_told() {
    let refusing = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let error = soon(TcpStream::connect(&[refusing, refusing][..])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A listener whose queue is full: who connects to it gets no answer.
struct Mute {
    addr: SocketAddr,
    _sockets: Vec<OwnedFd>,
}

impl Mute {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind(ANY).unwrap();
        // SAFETY: takes its arguments by value.
        #[expect(unsafe_code, reason = "std has no way to a small queue")]
        let listening = unsafe { libc::listen(listener.as_raw_fd(), 0) };
        assert_eq!(listening, 0);
        let addr = listener.local_addr().unwrap();
        let mut sockets: Vec<OwnedFd> = vec![listener.into()];
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            sockets.push(stream.into());
        }
        Self { addr, _sockets: sockets }
    }
}

#[xiio::test]
async fn an_address_that_does_not_answer_is_overtaken_after_a_quarter_second() {
    let mute = Mute::new();
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let started = Instant::now();
    let stream = soon(TcpStream::connect([mute.addr, addr])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[xiio::test]
async fn the_tree_shows_who_connects_to_one_of_several_addresses() {
    let mute = Mute::new();
    let (line, tree) = task_group!(|tg| {
        let line = line!() + 1;
        tg.spawn(TcpStream::connect([mute.addr, mute.addr]));
        yield_now().await;
        let tree = xiio::inspect::tree().await.to_string();
        tg.cancel();
        (line, tree)
    });
    let place = format!("task, spawned at tests/tests/net.rs:{line}");
    assert!(tree.lines().any(|text| text.trim().starts_with("connect")), "{tree}");
    assert!(tree.matches(&place).count() == 2 && !tree.contains("connect.rs"), "{tree}");
}

#[xiio::test]
async fn names_are_looked_up() {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = soon(TcpStream::connect(("localhost", port))).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
    let mut addrs = lookup_host(format!("localhost:{port}")).await.unwrap();
    assert!(addrs.all(|addr| addr.ip().is_loopback() && addr.port() == port));
}

#[xiio::test]
async fn a_text_that_is_no_address_is_an_error() {
    async fn error_of(addr: impl ToSocketAddrs) -> String {
        TcpStream::connect(addr).await.unwrap_err().to_string()
    }
    assert!(error_of("nowhere").await.contains("there is no port"));
    assert!(error_of("nowhere:99999").await.contains("the port is no number"));
    assert_eq!(error_of(&[][..]).await, "expected at least one address, got none");
}

#[xiio::test]
async fn bytes_arrive_whole_both_ways() {
    let (mut a, mut b) = tcp_pair().await;
    let (sent, mut received) = (body(3_000_000), Vec::new());
    let mut back = Vec::new();
    join!(
        async {
            let (mut read, mut write) = a.split();
            join!(
                async {
                    write.write_all(&sent).await.unwrap();
                    write.as_ref().shutdown(Shutdown::Write).unwrap();
                },
                async { read.read_to_end(&mut back).await.unwrap() },
            );
        },
        async {
            b.read_to_end(&mut received).await.unwrap();
            b.write_all(&received).await.unwrap();
            b.shutdown(Shutdown::Write).unwrap();
        },
    );
    assert!(received == sent && back == sent);
    assert_eq!(a.read(&mut [0; 8]).await.unwrap(), 0);
}

#[xiio::test]
async fn both_ends_of_a_stream_may_be_shared_by_reference() {
    let (a, b) = tcp_pair().await;
    let sent = body(1_000_000);
    let (mut to_a, mut to_b) = (vec![0; sent.len()], vec![0; sent.len()]);
    task_group!(|tg| {
        tg.spawn(async { (&a).write_all(&sent).await.unwrap() });
        tg.spawn(async { (&b).write_all(&sent).await.unwrap() });
        tg.spawn(async { (&a).read_exact(&mut to_a).await.unwrap() });
        tg.spawn(async { (&b).read_exact(&mut to_b).await.unwrap() });
    });
    assert!(to_a == sent && to_b == sent);
}

#[xiio::test]
async fn an_end_that_comes_with_the_last_bytes_is_seen() {
    for round in 0..200 {
        let (mut a, mut b) = tcp_pair().await;
        // The reader is registered and waits, so that bytes and end are one event.
        let mut buf = [0; 64];
        assert!(poll_once(b.read(&mut buf)).await.is_none());
        a.write_all(b"last").await.unwrap();
        drop(a);
        let mut received = Vec::new();
        soon(b.read_to_end(&mut received)).await.unwrap();
        assert_eq!(received, b"last", "round {round}");
    }
}

#[xiio::test]
async fn an_end_that_comes_after_a_short_read_is_seen() {
    let (mut a, mut b) = tcp_pair().await;
    let mut buf = [0; 64];
    for _ in 0..3 {
        a.write_all(b"some").await.unwrap();
        assert_eq!(soon(b.read(&mut buf)).await.unwrap(), 4);
    }
    let ((), n_read) = join!(
        async {
            yield_now().await;
            a.shutdown(Shutdown::Write).unwrap();
        },
        soon(b.read(&mut buf)),
    );
    assert_eq!(n_read.unwrap(), 0);
    assert_eq!(b.read(&mut buf).await.unwrap(), 0);
}

/// Polls a future once, and drops it.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[xiio::test]
async fn a_half_closed_stream_is_written_on() {
    let (mut a, mut b) = tcp_pair().await;
    a.write_all(b"question").await.unwrap();
    a.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    soon(b.read_to_string(&mut question)).await.unwrap();
    assert_eq!(question, "question");
    let answer = body(1_000_000);
    let mut received = vec![0; answer.len()];
    let (wrote, read) = join!(soon(b.write_all(&answer)), soon(a.read_exact(&mut received)));
    wrote.unwrap();
    read.unwrap();
    assert!(received == answer);
    assert_eq!(a.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[xiio::test]
async fn a_reset_wakes_the_reader_and_the_writer_with_an_error() {
    let (a, b) = tcp_pair().await;
    let sent = body(1 << 24);
    task_group!(|tg| {
        let reader = tg.spawn(async { soon((&b).read(&mut [0; 8])).await.unwrap_err().kind() });
        let writer = tg.spawn(async { soon((&b).write_all(&sent)).await.unwrap_err().kind() });
        yield_now().await;
        sleep(SHORT).await;
        // Closing with a linger of zero resets.
        a.set_linger(Some(Duration::ZERO)).unwrap();
        drop(a);
        let kinds = [reader.await, writer.await];
        // The error itself is told once, to whoever asks first.
        assert!(kinds.contains(&ErrorKind::ConnectionReset), "{kinds:?}");
    });
}

#[xiio::test]
async fn shutting_down_ones_own_end_wakes_who_reads_there() {
    let (a, _b) = tcp_pair().await;
    let (n_read, ()) = join!(async { soon((&a).read(&mut [0; 8])).await.unwrap() }, async {
        yield_now().await;
        a.shutdown(Shutdown::Read).unwrap();
    });
    assert_eq!(n_read, 0);
}

#[xiio::test]
async fn a_slow_reader_holds_nobody_up_but_its_writer() {
    let (slow, to_slow) = tcp_pair().await;
    let (mut fast, mut to_fast) = tcp_pair().await;
    let endless = vec![0; 1 << 20];
    let n_written = Cell::new(0);
    task_group!(|tg| {
        tg.spawn(async {
            loop {
                (&to_slow).write_all(&endless).await.unwrap();
                n_written.set(n_written.get() + 1);
            }
        });
        let mut byte = [0];
        for _ in 0..1000 {
            to_fast.write_all(b"x").await.unwrap();
            fast.read_exact(&mut byte).await.unwrap();
        }
        let stuck_at = n_written.get();
        // As soon as it reads, the writer goes on.
        let mut read = vec![0; 1 << 20];
        while n_written.get() < stuck_at + 3 {
            soon((&slow).read_exact(&mut read)).await.unwrap();
        }
        tg.cancel();
    });
}

#[xiio::test]
async fn peek_takes_nothing() {
    let (mut a, mut b) = tcp_pair().await;
    a.write_all(b"hello").await.unwrap();
    let mut buf = [0; 16];
    assert_eq!(soon(b.peek(&mut buf)).await.unwrap(), 5);
    assert_eq!(soon(b.peek(&mut buf)).await.unwrap(), 5);
    assert_eq!(b.read(&mut buf).await.unwrap(), 5);
    assert!(timeout(SHORT, b.peek(&mut buf)).await.is_err());
}

#[xiio::test]
async fn urgent_data_cuts_a_read_short_and_hides_nothing() {
    let (mut a, mut b) = tcp_pair().await;
    let mut buf = [0; 64];
    assert!(poll_once(b.read(&mut buf)).await.is_none());
    a.write_all(b"before").await.unwrap();
    send_urgent(&a);
    a.write_all(b"after").await.unwrap();
    let mut received = [0; 11];
    soon(b.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"beforeafter");
}

#[xiio::test]
async fn urgent_data_hides_nothing_when_it_was_fetched() {
    let (mut a, mut b) = tcp_pair().await;
    let mut buf = [0; 64];
    assert!(poll_once(b.read(&mut buf)).await.is_none());
    a.write_all(b"before").await.unwrap();
    send_urgent(&a);
    wait_until("urgent data", || has_urgent(&b));
    // The loop looks at what has come.
    sleep(SHORT).await;
    fetch_urgent(&b);
    a.write_all(b"after").await.unwrap();
    sleep(SHORT).await;
    let mut received = [0; 11];
    soon(b.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"beforeafter");
}

#[xiio::test]
async fn vectored_bytes_arrive_in_order() {
    let (mut a, mut b) = tcp_pair().await;
    let (head, tail) = (body(100_000), body(200_000));
    let mut received = (vec![0; 150_000], vec![0; 150_000]);
    join!(
        async {
            let mut bufs = [IoSlice::new(&head), IoSlice::new(&[]), IoSlice::new(&tail)];
            a.write_all_vectored(&mut bufs).await.unwrap();
        },
        async {
            let mut n_read = 0;
            while n_read < 300_000 {
                let (one, two) = (&mut received.0, &mut received.1);
                let mut bufs =
                    [&mut one[n_read.min(150_000)..], &mut two[n_read.saturating_sub(150_000)..]].map(IoSliceMut::new);
                n_read += soon(b.read_vectored(&mut bufs)).await.unwrap();
            }
        },
    );
    assert!([received.0, received.1].concat() == [head, tail].concat());
}

#[xiio::test]
async fn few_bytes_in_several_buffers_arrive_in_order() {
    let (mut a, mut b) = tcp_pair().await;
    for len in [1, 2, 64, 1023, 1024, 1025, 1500] {
        let sent = body(len);
        let (head, tail) = sent.split_at(len / 3);
        let mut bufs = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)];
        let n_written = a.write_vectored(&bufs).await.unwrap();
        a.write_all_vectored(&mut bufs).await.unwrap();
        let mut received = vec![0; n_written + len];
        soon(b.read_exact(&mut received)).await.unwrap();
        assert!(received == [&sent[..n_written], &sent[..]].concat());
    }
}

#[xiio::test]
async fn more_buffers_than_the_system_takes_are_no_error() {
    let (mut a, mut b) = tcp_pair().await;
    let mut bufs = vec![IoSlice::new(b"x"); 3000];
    a.write_all_vectored(&mut bufs).await.unwrap();
    let mut received = vec![0; 3000];
    soon(b.read_exact(&mut received)).await.unwrap();
    assert!(received.iter().all(|byte| *byte == b'x'));
}

#[xiio::test]
async fn an_empty_buffer_is_filled_at_once() {
    let (mut a, _b) = tcp_pair().await;
    assert_eq!(a.read(&mut []).await.unwrap(), 0);
    assert_eq!(a.read_vectored(&mut []).await.unwrap(), 0);
    assert_eq!(a.write(&[]).await.unwrap(), 0);
}

#[xiio::test]
async fn owned_halves_go_their_ways_and_the_write_half_says_when_it_ends() {
    let (a, b) = tcp_pair().await;
    let (mut a_read, a_write) = a.into_split();
    let (mut b_read, mut b_write) = b.into_split();
    task_group!(|tg| {
        tg.spawn(async move {
            let mut write = a_write;
            write.write_all(b"hello").await.unwrap();
        });
        tg.spawn(async move {
            soon(copy(&mut b_read, &mut b_write)).await.unwrap();
        });
        let mut echoed = String::new();
        soon(a_read.read_to_string(&mut echoed)).await.unwrap();
        assert_eq!(echoed, "hello");
    });
}

#[xiio::test]
async fn halves_of_one_stream_are_put_together_again() {
    let (a, b) = tcp_pair().await;
    let (other_read, other_write) = a.into_split();
    let (read, write) = b.into_split();
    let error = read.reunite(other_write).unwrap_err();
    assert_eq!(error.to_string(), "the halves are not of one stream");
    let mut b = error.0.reunite(write).unwrap();
    let mut a = other_read.reunite(error.1).unwrap();
    a.write_all(b"still open").await.unwrap();
    assert_eq!(soon(b.read(&mut [0; 64])).await.unwrap(), 10);
    b.write_all(b"too").await.unwrap();
    assert_eq!(soon(a.read(&mut [0; 64])).await.unwrap(), 3);
}

#[xiio::test]
async fn a_stream_goes_to_std_and_comes_back() {
    let (a, mut b) = tcp_pair().await;
    let a = std::net::TcpStream::try_from(a).unwrap();
    let writer = std::thread::spawn(move || {
        let mut byte = [0];
        // It waits here, as a blocking stream does.
        io::Read::read_exact(&mut &a, &mut byte).unwrap();
        (a, byte)
    });
    b.write_all(b"x").await.unwrap();
    let (a, byte) = xiio::in_thread(move || writer.join().unwrap()).await;
    assert_eq!(byte, [b'x']);
    let mut a = TcpStream::try_from(a).unwrap();
    assert!(timeout(SHORT, a.read(&mut [0])).await.is_err());
}

#[test]
fn a_stream_outlives_its_run() {
    let (mut a, mut b) = xiio::run(tcp_pair());
    for _ in 0..3 {
        xiio::run(async {
            assert!(poll_once(b.read(&mut [0])).await.is_none());
            let ((), read) = join!(
                async {
                    yield_now().await;
                    a.write_all(b"x").await.unwrap();
                },
                async { soon(b.read(&mut [0; 8])).await },
            );
            assert_eq!(read.unwrap(), 1);
        });
    }
}

#[xiio::test]
async fn a_closed_listener_refuses() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    assert!(timeout(SHORT, listener.accept()).await.is_err());
    drop(listener);
    assert_eq!(soon(TcpStream::connect(addr)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[xiio::test]
async fn a_client_that_is_gone_before_it_is_taken_does_not_end_the_loop() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..3 {
        let gone = TcpStream::connect(addr).await.unwrap();
        gone.set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut here = TcpStream::connect(addr).await.unwrap();
    here.write_all(b"here").await.unwrap();
    let mut incoming = listener.incoming();
    let mut n_clients = 0;
    loop {
        // On Linux those that are gone are given all the same, and say so when they are read.
        let mut client = soon(incoming.next()).await.unwrap().unwrap();
        n_clients += 1;
        let mut buf = [0; 8];
        if matches!(soon(client.read(&mut buf)).await, Ok(4)) {
            break;
        }
    }
    assert!(n_clients <= 4);
}

#[xiio::test]
async fn a_thousand_clients_are_served_at_once() {
    const N_CLIENTS: usize = 1000;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let all_connected = Promise::new();
    let n_connected = Cell::new(0);
    let n_echoed = Cell::new(0);
    task_group!(|tg| {
        let server = tg.spawn(async {
            task_group!(|clients| {
                let mut incoming = listener.incoming();
                while let Some(client) = incoming.next().await {
                    let client = client.unwrap();
                    clients.spawn(async move { copy(&mut &client, &mut &client).await.unwrap() });
                }
            });
        });
        task_group!(|clients| {
            for n in 0..N_CLIENTS {
                let (all_connected, n_connected, n_echoed) = (&all_connected, &n_connected, &n_echoed);
                clients.spawn(async move {
                    let mut stream = TcpStream::connect(addr).await.unwrap();
                    n_connected.set(n_connected.get() + 1);
                    if n_connected.get() == N_CLIENTS {
                        all_connected.set(()).unwrap();
                    }
                    all_connected.wait().await;
                    for round in 0..3 {
                        let sent = format!("client {n}, round {round}");
                        stream.write_all(sent.as_bytes()).await.unwrap();
                        let mut received = vec![0; sent.len()];
                        stream.read_exact(&mut received).await.unwrap();
                        assert_eq!(received, sent.as_bytes());
                        n_echoed.set(n_echoed.get() + 1);
                    }
                });
            }
        });
        server.cancel().await;
    });
    assert_eq!(n_echoed.get(), 3 * N_CLIENTS);
}

#[xiio::test]
async fn lines_are_read_from_a_socket() {
    let (mut a, b) = tcp_pair().await;
    let mut lines = BufReader::new(b).lines();
    join!(
        async {
            for piece in ["fir", "st\nsec", "ond\n", "\n", "third"] {
                a.write_all(piece.as_bytes()).await.unwrap();
                yield_now().await;
            }
            drop(a);
        },
        async {
            for line in ["first", "second", "", "third"] {
                assert_eq!(soon(lines.next()).await.unwrap().unwrap(), line);
            }
            assert!(lines.next().await.is_none());
        },
    );
}

// Each operation: cancelled before its first poll, after it, and raced; nothing is taken, and the next one works.

#[xiio::test]
async fn a_cancelled_accept_loses_no_client() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
    assert!(timeout(SHORT, listener.accept()).await.is_err());
    let _client = TcpStream::connect(addr).await.unwrap();
    task_group!(|tg| {
        let accept = tg.spawn(async { listener.accept().await.unwrap() });
        tg.cancel();
        assert!(accept.outcome().await.is_err());
    });
    soon(listener.accept()).await.unwrap();
}

#[xiio::test]
async fn a_cancelled_read_loses_no_byte() {
    let (mut a, mut b) = tcp_pair().await;
    let mut buf = [0; 8];
    assert!(timeout(Duration::ZERO, b.read(&mut buf)).await.is_err());
    assert!(timeout(SHORT, b.read(&mut buf)).await.is_err());
    task_group!(|tg| {
        let read = tg.spawn(async { (&b).read(&mut [0; 8]).await.unwrap() });
        yield_now().await;
        a.write_all(b"hello").await.unwrap();
        assert_eq!(read.cancel().await, None);
    });
    assert_eq!(soon(b.read(&mut buf)).await.unwrap(), 5);
}

#[xiio::test]
async fn a_cancelled_write_has_written_nothing() {
    let (mut a, mut b) = tcp_pair().await;
    let chunk = vec![b'x'; 1 << 16];
    let mut n_written = 0;
    while let Ok(n) = timeout(SHORT, a.write(&chunk)).await {
        n_written += n.unwrap();
    }
    assert!(timeout(Duration::ZERO, a.write(b"y")).await.is_err());
    assert!(timeout(SHORT, a.write(b"y")).await.is_err());
    a.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    soon(b.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), n_written);
    assert!(received.iter().all(|byte| *byte == b'x'));
}

#[xiio::test]
async fn of_racing_reads_one_gets_the_bytes() {
    let (mut a, b) = tcp_pair().await;
    for _ in 0..10 {
        let ((), n_read) = join!(
            async {
                yield_now().await;
                a.write_all(b"x").await.unwrap();
            },
            soon(async { race!(async { (&b).read(&mut [0; 8]).await }, async { (&b).read(&mut [0; 8]).await }) }),
        );
        assert_eq!(n_read.unwrap(), 1);
    }
    assert!(timeout(SHORT, (&b).read(&mut [0; 8])).await.is_err());
}

#[xiio::test]
async fn a_panic_beside_a_waiting_read_leaves_the_stream_usable() {
    let (mut a, b) = tcp_pair().await;
    let caught = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async {
        task_group!(|tg| {
            tg.spawn(async { (&b).read(&mut [0; 8]).await.unwrap() });
            tg.spawn(async {
                yield_now().await;
                panic!("beside a read");
            });
        });
    }));
    assert!(caught.await.is_err());
    a.write_all(b"x").await.unwrap();
    assert_eq!(soon((&b).read(&mut [0; 8])).await.unwrap(), 1);
}

#[xiio::test]
async fn the_first_error_of_a_client_ends_a_try_group() {
    let (a, b) = tcp_pair().await;
    drop(a);
    let result = try_task_group!(error = io::Error, |tg| {
        tg.spawn(async { (&b).read_exact(&mut [0; 8]).await });
        tg.spawn(std::future::pending::<io::Result<()>>());
    });
    assert_eq!(soon(async { result }).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

// UDP

#[xiio::test]
async fn datagrams_keep_their_edges_and_senders() {
    let (a, b) = (UdpSocket::bind(ANY).await.unwrap(), UdpSocket::bind(ANY).await.unwrap());
    let (a_addr, b_addr) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    for text in ["one", "", "three"] {
        assert_eq!(a.send_to(text.as_bytes(), b_addr).await.unwrap(), text.len());
    }
    let mut buf = [0; 16];
    assert_eq!(soon(b.peek_from(&mut buf)).await.unwrap(), (3, a_addr));
    for text in ["one", "", "three"] {
        assert_eq!(soon(b.recv_from(&mut buf)).await.unwrap(), (text.len(), a_addr));
        assert_eq!(&buf[..text.len()], text.as_bytes());
    }
    assert!(timeout(SHORT, b.recv_from(&mut buf)).await.is_err());
}

#[xiio::test]
async fn a_connected_datagram_socket_hears_its_peer_only() {
    let (a, b, other) =
        (UdpSocket::bind(ANY).await.unwrap(), UdpSocket::bind(ANY).await.unwrap(), UdpSocket::bind(ANY).await.unwrap());
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    assert_eq!(a.peer_addr().unwrap(), b.local_addr().unwrap());
    other.send_to(b"noise", a.local_addr().unwrap()).await.unwrap();
    let (n_read, sent) = join!(async { soon(a.recv(&mut [0; 16])).await }, async {
        yield_now().await;
        b.send(b"hi").await
    });
    assert_eq!((n_read.unwrap(), sent.unwrap()), (2, 2));
}

#[xiio::test]
async fn nobody_there_is_told_to_a_connected_datagram_socket() {
    let a = UdpSocket::bind(ANY).await.unwrap();
    let gone = UdpSocket::bind(ANY).await.unwrap().local_addr().unwrap();
    a.connect(gone).await.unwrap();
    a.send(b"hello?").await.unwrap();
    let error = soon(a.recv(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[xiio::test]
async fn a_cancelled_receive_loses_no_datagram() {
    let (a, b) = (UdpSocket::bind(ANY).await.unwrap(), UdpSocket::bind(ANY).await.unwrap());
    let mut buf = [0; 8];
    assert!(timeout(Duration::ZERO, b.recv_from(&mut buf)).await.is_err());
    assert!(timeout(SHORT, b.recv_from(&mut buf)).await.is_err());
    task_group!(|tg| {
        let receive = tg.spawn(async { b.recv_from(&mut [0; 8]).await.unwrap() });
        yield_now().await;
        a.send_to(b"x", b.local_addr().unwrap()).await.unwrap();
        assert_eq!(receive.cancel().await, None);
    });
    assert_eq!(soon(b.recv_from(&mut buf)).await.unwrap().0, 1);
}

// Unix sockets

#[xiio::test]
async fn unix_sockets_connect_by_path() {
    let path = SocketPath::new("path");
    let listener = UnixListener::bind(&path.0).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path.0));
    let (client, accepted) = join!(UnixStream::connect(&path.0), listener.accept());
    let (mut client, (mut server, addr)) = (client.unwrap(), accepted.unwrap());
    assert!(addr.is_unnamed());
    client.write_all(b"hello").await.unwrap();
    assert_eq!(soon(server.read(&mut [0; 8])).await.unwrap(), 5);
    assert_eq!(UnixListener::bind(&path.0).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[xiio::test]
async fn unix_sockets_connect_by_abstract_name() {
    let name = UnixAddr::from_abstract_name(format!("xiio-{}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&name).unwrap();
    let (client, accepted) = join!(UnixStream::connect_addr(&name), listener.accept());
    assert!(client.is_ok() && accepted.is_ok());
}

#[xiio::test]
async fn a_path_without_a_listener_is_an_error() {
    let path = SocketPath::new("missing");
    assert_eq!(UnixStream::connect(&path.0).await.unwrap_err().kind(), ErrorKind::NotFound);
    drop(UnixListener::bind(&path.0).unwrap());
    assert_eq!(UnixStream::connect(&path.0).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let long = "x".repeat(200);
    assert_eq!(UnixStream::connect(long).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[xiio::test]
async fn a_full_queue_of_a_unix_listener_is_waited_for() {
    let path = SocketPath::new("full");
    let listener = UnixListener::bind(&path.0).unwrap();
    // SAFETY: takes its arguments by value.
    #[expect(unsafe_code, reason = "std has no way to a small queue")]
    let listening = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(listening, 0);
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(SHORT, UnixStream::connect(&path.0)).await {
        queued.push(stream.unwrap());
    }
    let (connected, accepted) = join!(soon(UnixStream::connect(&path.0)), async {
        sleep(SHORT).await;
        listener.accept().await
    });
    assert!(connected.is_ok() && accepted.is_ok());
}

#[xiio::test]
async fn bytes_arrive_whole_over_a_unix_stream() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let (sent, mut received) = (body(2_000_000), Vec::new());
    join!(
        async {
            let (_read, mut write) = a.into_split();
            write.write_all(&sent).await.unwrap();
        },
        async { b.read_to_end(&mut received).await.unwrap() },
    );
    assert!(received == sent);
}

#[xiio::test]
async fn descriptors_sent_along_cut_a_read_short_and_hide_nothing() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut buf = [0; 64];
    assert!(poll_once(b.read(&mut buf)).await.is_none());
    send_with_fd(&a, b"with");
    (&a).write_all(b"without").await.unwrap();
    let mut received = [0; 11];
    soon(b.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"withwithout");
}

/// Sends bytes and a descriptor.
#[expect(unsafe_code, reason = "std does not send descriptors")]
fn send_with_fd(to: impl AsFd, bytes: &[u8]) {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: takes its argument by value.
    let room = unsafe { libc::CMSG_SPACE(4) } as usize;
    let mut control = [0_u64; 4];
    assert!(room <= size_of_val(&control));
    // SAFETY: a message header of zeros is an empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = room as _;
    // SAFETY: the header has room for one control message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: takes its argument by value.
    let len = unsafe { libc::CMSG_LEN(4) };
    // SAFETY: it points into `control`, which is aligned.
    let header = unsafe { &mut *header };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    header.cmsg_len = len as _;
    // SAFETY: the header is followed by room for its data.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: that room is of four bytes.
    unsafe { data.cast::<i32>().write_unaligned(0) };
    // SAFETY: everything that the header names lives until the call returns.
    let n_sent = unsafe { libc::sendmsg(to.as_fd().as_raw_fd(), &raw const message, 0) };
    assert_eq!(n_sent, bytes.len() as isize);
}

#[xiio::test]
async fn unix_datagrams_wait_for_room_and_for_each_other() {
    let path = SocketPath::new("datagram");
    let server = UnixDatagram::bind(&path.0).unwrap();
    let unconnected = UnixDatagram::unbound().unwrap();
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(&path.0).unwrap();
    const N_EACH: u32 = 500;
    let mut sum = 0;
    join!(
        async {
            for n in 0..N_EACH {
                soon(unconnected.send_to(&n.to_ne_bytes(), &path.0)).await.unwrap();
            }
        },
        async {
            for n in 0..N_EACH {
                soon(connected.send(&n.to_ne_bytes())).await.unwrap();
            }
        },
        async {
            let mut buf = [0; 4];
            for _ in 0..2 * N_EACH {
                let (n_read, from) = soon(server.recv_from(&mut buf)).await.unwrap();
                assert!(n_read == 4 && from.is_unnamed());
                sum += u32::from_ne_bytes(buf);
            }
        },
    );
    assert_eq!(sum, N_EACH * (N_EACH - 1));
}

#[xiio::test]
async fn a_pair_of_unix_datagram_sockets_talks() {
    let (a, b) = UnixDatagram::pair().unwrap();
    let (n_read, n_sent) = join!(async { soon(a.recv(&mut [0; 8])).await }, async {
        yield_now().await;
        b.send(b"hi").await
    });
    assert_eq!((n_read.unwrap(), n_sent.unwrap()), (2, 2));
    drop(b);
    assert_eq!(a.send(b"hi").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_descriptor_that_is_no_socket_is_an_error_and_no_hang() {
    let file = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: the descriptor is given up by the file.
    #[expect(unsafe_code, reason = "std does not check what a descriptor is")]
    let stream = unsafe { std::net::TcpStream::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(file)) };
    match TcpStream::try_from(stream) {
        Ok(mut stream) => {
            let error = xiio::run(stream.read(&mut [0; 8])).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
        }
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOTTY)),
    }
}

#[test]
fn an_operation_that_has_to_wait_outside_of_a_runtime_panics_with_advice() {
    let (mut stream, _other) = UnixStream::pair().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let polled = pin!(stream.read(&mut [0])).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }));
    let text = *panicked.unwrap_err().downcast::<&str>().unwrap();
    assert!(text.contains("xiio::run"), "{text}");
}

/// Waits for what the other end does not make room for, and says how that has ended.
async fn fill(socket: &UnixStream) -> ErrorKind {
    let mut socket = socket;
    socket.write_all(&vec![0; 1 << 24]).await.unwrap_err().kind()
}

#[test]
fn who_has_ended_writing_knows_after_a_short_read_that_there_is_no_more() {
    // The portable reactor is not told what there is besides data.
    if cfg!(polling_test_poll_backend) || std::env::var_os("XIIO_PORTABLE_REACTOR").is_some() {
        return;
    }
    run(async {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        for is_closed in [false, true] {
            if is_closed {
                a.close().await.unwrap();
            }
            let (read, ()) = join!(async { a.read(&mut [0; 8]).await.unwrap() }, async {
                yield_now().await;
                b.write_all(b"x").await.unwrap();
            });
            assert_eq!(read, 1);
            // It is there, and no event has told of it yet.
            b.write_all(b"x").await.unwrap();
            assert!(futures::poll!(pin!(a.read(&mut [0; 8]))).is_pending(), "closed: {is_closed}");
            assert_eq!(a.read(&mut [0; 8]).await.unwrap(), 1);
        }
    });
}

#[test]
fn who_has_ended_reading_reads_what_is_there_and_then_the_end() {
    run(async {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let (read, ()) = join!(async { a.read(&mut [0; 8]).await.unwrap() }, async {
            yield_now().await;
            b.write_all(b"x").await.unwrap();
        });
        assert_eq!(read, 1);
        b.write_all(b"xx").await.unwrap();
        a.shutdown(Shutdown::Read).unwrap();
        assert_eq!(a.read(&mut [0; 8]).await.unwrap(), 2);
        assert_eq!(soon(a.read(&mut [0; 8])).await.unwrap(), 0);
    });
}

#[test]
fn who_writes_to_a_unix_socket_hears_that_its_own_end_has_ended_writing() {
    type End = fn(&UnixStream);
    let ways: [(&str, End); 3] = [
        ("shutdown of writing", |a| a.shutdown(Shutdown::Write).unwrap()),
        ("shutdown of both", |a| a.shutdown(Shutdown::Both).unwrap()),
        ("close", |mut a| a.close().now_or_never().unwrap().unwrap()),
    ];
    for (way, end) in ways {
        run(async {
            let (a, _b) = UnixStream::pair().unwrap();
            task_group!(|tg| {
                let writer = tg.spawn(fill(&a));
                yield_now().await;
                assert!(!writer.is_finished(), "{way}");
                end(&a);
                assert_eq!(writer.await, ErrorKind::BrokenPipe, "{way}");
            });
        });
    }
    run(async {
        let (a, _b) = UnixDatagram::pair().unwrap();
        task_group!(|tg| {
            let sender = tg.spawn(async {
                loop {
                    if let Err(error) = a.send(b"x").await {
                        return error.kind();
                    }
                }
            });
            yield_now().await;
            assert!(!sender.is_finished());
            a.shutdown(Shutdown::Write).unwrap();
            assert_eq!(sender.await, ErrorKind::BrokenPipe);
        });
    });
}
