//! Sockets in the hands of libraries: without waiting, polled by hand, and as plain descriptors.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use xiio::io::{Read, Write};
use xiio::net::{Interest, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use xiio::testing::Tester;
use xiio::{join, race, sleep, task_group, timeout, yield_now};
use xiio_tests::run_virtually;

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(60);

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) = join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

fn blocks<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Polls with a waker that nobody hears.
fn is_pending<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> bool {
    poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn who_tries_does_not_wait_and_takes_nothing_from_who_does() {
    xiio::run(async {
        let (a, b) = tcp_pair().await;
        assert!(blocks(b.try_read(&mut [0; 8])));
        assert_eq!(b.try_read(&mut []).unwrap(), 0);
        assert_eq!(a.try_write(b"four").unwrap(), 4);
        let bufs = [IoSlice::new(b"and "), IoSlice::new(b"more")];
        assert_eq!(a.try_write_vectored(&bufs).unwrap(), 8);
        b.readable().await.unwrap();
        let mut buf = [0; 4];
        assert_eq!(b.try_read(&mut buf).unwrap(), 4);
        let (mut first, mut second) = ([0; 3], [0; 5]);
        let bufs = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(b.try_read_vectored(bufs).unwrap(), 8);
        assert_eq!((&first, &second), (b"and", b" more"));
        assert!(blocks(b.try_read(&mut buf)));
        // Nothing of that has changed who waits.
        let (read, ()) = join!(timeout(LONG, async { (&b).read(&mut [0; 8]).await.unwrap() }), async {
            sleep(SHORT).await;
            a.try_write(b"x").unwrap();
        });
        assert_eq!(read.unwrap(), 1);
        while !blocks(a.try_write(&[0; 1 << 16])) {}
        assert!(timeout(SHORT, a.writable()).await.is_err());
        drop(b);
        timeout(LONG, a.writable()).await.unwrap().unwrap();
        assert!(a.try_write(b"x").is_err());
    });
}

#[test]
fn readiness_says_for_what() {
    xiio::run(async {
        let (a, b) = UnixStream::pair().unwrap();
        let both = Interest::READABLE | Interest::WRITABLE;
        assert_eq!(a.ready(both).await.unwrap(), Interest::WRITABLE);
        drop(a.ready(Interest::READABLE));
        assert!(timeout(SHORT, a.ready(Interest::READABLE)).await.is_err());
        (&b).write_all(b"x").await.unwrap();
        let ready = timeout(LONG, a.ready(Interest::READABLE)).await.unwrap().unwrap();
        assert!(ready.is_readable() && !ready.is_writable());
        assert_eq!(a.ready(both).await.unwrap(), both);
    });
}

#[test]
fn a_poll_for_readiness_is_woken_and_asks_anew() {
    xiio::run(async {
        let (a, b) = tcp_pair().await;
        assert!(is_pending(|cx| b.poll_readable(cx)));
        assert!(!is_pending(|cx| b.poll_writable(cx)));
        for _ in 0..3 {
            // The loop of a library: wait, try, and wait again if somebody was quicker.
            let received = timeout(
                LONG,
                poll_fn(|cx| {
                    loop {
                        std::task::ready!(b.poll_readable(cx)).unwrap();
                        match b.try_read(&mut [0; 8]) {
                            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                            result => return Poll::Ready(result.unwrap()),
                        }
                    }
                }),
            );
            let (received, ()) = join!(received, async {
                sleep(SHORT).await;
                (&a).write_all(b"x").await.unwrap();
            });
            assert_eq!(received.unwrap(), 1);
            assert!(is_pending(|cx| b.poll_readable(cx)));
        }
    });
}

#[test]
fn a_poll_and_a_read_in_two_tasks_are_both_woken() {
    xiio::run(async {
        let (a, b) = tcp_pair().await;
        let n_woken = Cell::new(0);
        timeout(LONG, async {
            task_group!(|tg| {
                tg.spawn(async {
                    poll_fn(|cx| b.poll_readable(cx)).await.unwrap();
                    n_woken.set(n_woken.get() + 1);
                });
                tg.spawn(async {
                    assert_eq!((&b).read(&mut [0; 1]).await.unwrap(), 1);
                    n_woken.set(n_woken.get() + 1);
                });
                sleep(SHORT).await;
                (&a).write_all(b"xy").await.unwrap();
            });
        })
        .await
        .unwrap();
        assert_eq!(n_woken.get(), 2);
    });
}

#[test]
fn operations_of_libraries_are_repeated_until_they_do_not_block() {
    xiio::run(async {
        let (a, b) = UnixStream::pair().unwrap();
        let n_tried = Cell::new(0);
        let operation = |stream: &std::os::unix::net::UnixStream| {
            n_tried.set(n_tried.get() + 1);
            io::Read::read(&mut &*stream, &mut [0; 8])
        };
        drop(b.read_with(operation));
        assert_eq!(n_tried.get(), 0);
        assert!(timeout(SHORT, b.read_with(operation)).await.is_err());
        assert!(is_pending(|cx| b.poll_read_with(cx, operation)));
        let written = a.write_with(|stream| io::Write::write(&mut &*stream, b"x")).await;
        assert_eq!(written.unwrap(), 1);
        assert_eq!(timeout(LONG, b.read_with(operation)).await.unwrap().unwrap(), 1);
        let written = poll_fn(|cx| a.poll_write_with(cx, |stream| io::Write::write(&mut &*stream, b"yz"))).await;
        assert_eq!(written.unwrap(), 2);
        assert_eq!(poll_fn(|cx| b.poll_read_with(cx, operation)).await.unwrap(), 2);
        let failed = b.read_with(|_| Err::<(), _>(io::Error::other("of the library"))).await;
        assert_eq!(failed.unwrap_err().to_string(), "of the library");
    });
}

#[test]
fn a_panic_in_an_operation_leaves_the_socket_usable() {
    xiio::run(async {
        let (a, b) = UnixStream::pair().unwrap();
        let panics = AssertUnwindSafe(|| is_pending(|cx| b.poll_read_with(cx, |_| -> io::Result<()> { panic!("no") })));
        assert!(catch_unwind(panics).is_err());
        (&a).write_all(b"x").await.unwrap();
        assert_eq!((&b).read(&mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn datagrams_are_tried_and_polled() {
    xiio::run(async {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (addr_a, addr_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let mut buf = [0; 8];
        assert!(blocks(b.try_recv_from(&mut buf)));
        assert!(is_pending(|cx| b.poll_recv_from(cx, &mut buf)));
        assert!(is_pending(|cx| b.poll_peek_from(cx, &mut [0; 8])));
        assert_eq!(a.try_send_to(b"one", addr_b).unwrap(), 3);
        assert_eq!(poll_fn(|cx| b.poll_recv_from(cx, &mut buf)).await.unwrap(), (3, addr_a));
        assert_eq!(poll_fn(|cx| a.poll_send_to(cx, b"four", addr_b)).await.unwrap(), 4);
        b.readable().await.unwrap();
        assert_eq!(b.try_peek_from(&mut buf).unwrap(), (4, addr_a));
        assert_eq!(b.try_recv(&mut buf).unwrap(), 4);
        a.connect(addr_b).await.unwrap();
        assert_eq!(a.try_send(b"six").unwrap(), 3);
        assert_eq!(poll_fn(|cx| b.poll_recv(cx, &mut buf)).await.unwrap(), 3);
        assert_eq!(poll_fn(|cx| a.poll_send(cx, b"x")).await.unwrap(), 1);
        timeout(LONG, b.recv(&mut buf)).await.unwrap().unwrap();

        let (a, b) = UnixDatagram::pair().unwrap();
        assert!(blocks(b.try_recv(&mut buf)));
        assert!(is_pending(|cx| b.poll_recv_from(cx, &mut [0; 8])));
        while a.try_send(b"full").is_ok() {}
        assert!(is_pending(|cx| a.poll_send(cx, b"full")));
        assert_eq!(poll_fn(|cx| b.poll_recv(cx, &mut buf)).await.unwrap(), 4);
        // There is room again for the system when most of it is.
        while b.try_recv(&mut buf).is_ok() {}
        assert_eq!(timeout(LONG, poll_fn(|cx| a.poll_send(cx, b"x"))).await.unwrap().unwrap(), 1);
    });
}

#[test]
fn clients_are_polled_for() {
    xiio::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(is_pending(|cx| listener.poll_accept(cx)));
        let (client, accepted) = join!(TcpStream::connect(addr), poll_fn(|cx| listener.poll_accept(cx)));
        assert_eq!(accepted.unwrap().1, client.unwrap().local_addr().unwrap());
        let path = std::env::temp_dir().join(format!("xiio-polls-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_pending(|cx| listener.poll_accept(cx)));
        let (client, accepted) = join!(UnixStream::connect(&path), poll_fn(|cx| listener.poll_accept(cx)));
        drop((client.unwrap(), accepted.unwrap()));
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_poll_outlives_the_run_it_was_made_in() {
    let (a, b) = UnixStream::pair().unwrap();
    xiio::run(async { assert!(is_pending(|cx| b.poll_readable(cx))) });
    xiio::run(async {
        let (ready, ()) = join!(timeout(LONG, poll_fn(|cx| b.poll_readable(cx))), async {
            sleep(SHORT).await;
            (&a).write_all(b"x").await.unwrap();
        });
        ready.unwrap().unwrap();
    });
}

#[test]
fn a_clone_is_the_same_socket_and_is_closed_by_itself() {
    xiio::run(async {
        let (mut a, b) = tcp_pair().await;
        let mut clone = b.try_clone().unwrap();
        assert_eq!(clone.local_addr().unwrap(), b.local_addr().unwrap());
        // Both wait, one of them gets it, and the other goes on to wait.
        let mut b = b;
        race!(
            n_read = b.read(&mut [0; 8]) => assert_eq!(n_read.unwrap(), 1),
            n_read = clone.read(&mut [0; 8]) => assert_eq!(n_read.unwrap(), 1),
            () = async {
                a.write_all(b"x").await.unwrap();
                std::future::pending::<()>().await;
            } => {},
        );
        drop(b);
        a.write_all(b"y").await.unwrap();
        assert_eq!(timeout(LONG, clone.read(&mut [0; 8])).await.unwrap().unwrap(), 1);
        drop(clone);
        assert_eq!(timeout(LONG, a.read(&mut [0; 8])).await.unwrap().unwrap(), 0);

        let listener = UnixDatagram::unbound().unwrap();
        drop(listener.try_clone().unwrap());
    });
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    u32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK.cast_unsigned() != 0
}

#[test]
fn sockets_come_from_descriptors_and_become_such() {
    xiio::run(async {
        let (std_a, std_b) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut a = UnixStream::try_from(OwnedFd::from(std_a)).unwrap();
        assert!(is_nonblocking(&a));
        let mut b = UnixStream::try_from(std_b).unwrap();
        // Registered, so that there is something to deregister.
        assert!(timeout(SHORT, a.read(&mut [0])).await.is_err());
        let fd = OwnedFd::from(a);
        assert!(!is_nonblocking(&fd));
        b.write_all(b"x").await.unwrap();
        a = fd.try_into().unwrap();
        assert_eq!(a.read(&mut [0; 8]).await.unwrap(), 1);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = TcpListener::try_from(OwnedFd::from(listener)).unwrap();
        let (client, server) = join!(TcpStream::connect(addr), listener.accept());
        drop((client.unwrap(), server.unwrap()));
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = udp.local_addr().unwrap();
        assert_eq!(UdpSocket::try_from(OwnedFd::from(udp)).unwrap().local_addr().unwrap(), addr);
    });
}

/// Time does not jump while somebody waits for a descriptor. Who has waited for one, in a poll without a future, does not any more.
#[test]
fn virtual_time_jumps_past_a_descriptor_that_was_waited_for() {
    let began = Instant::now();
    run_virtually(async {
        let (a, b) = UnixStream::pair().unwrap();
        let mut buf = [0; 8];
        let read = poll_fn(|cx| a.poll_read_with(cx, |mut stream| io::Read::read(&mut stream, &mut buf)));
        let write = async {
            yield_now().await;
            (&b).write_all(b"x").await.unwrap();
        };
        let (n_read, ()) = join!(read, write);
        assert_eq!(n_read.unwrap(), 1);
        sleep(Duration::from_secs(40)).await;
        drop((a, b));
    });
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// The system does not tell of room there, so it is tried again and again. Virtual time does not run ahead of who makes the room.
#[test]
fn virtual_time_does_not_jump_while_a_unix_socket_is_tried_again() {
    run_virtually(async {
        let path = std::env::temp_dir().join(format!("xiio-full-{}", std::process::id()));
        let (receiver, sender) =
            (std::os::unix::net::UnixDatagram::bind(&path).unwrap(), UnixDatagram::unbound().unwrap());
        while sender.try_send_to(b"x", &path).is_ok() {}
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            receiver.recv(&mut [0; 8]).unwrap();
            receiver
        });
        assert_eq!(timeout(LONG, sender.send_to(b"x", &path)).await.unwrap().unwrap(), 1);
        drop(thread.join().unwrap());
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn virtual_time_jumps_while_a_unix_socket_is_tried_again_where_all_is_said_to_be_of_this_program() {
    let began = Instant::now();
    Tester::new().virtual_time().loopback().run(|| async {
        let path = std::env::temp_dir().join(format!("xiio-full-loopback-{}", std::process::id()));
        let (receiver, sender) = (UnixDatagram::bind(&path).unwrap(), UnixDatagram::unbound().unwrap());
        while sender.try_send_to(b"x", &path).is_ok() {}
        task_group!(|tg| {
            tg.spawn(async {
                sleep(LONG).await;
                receiver.recv(&mut [0; 8]).await.unwrap();
            });
            sender.send_to(b"x", &path).await.unwrap();
        });
        std::fs::remove_file(&path).unwrap();
    });
    assert!(began.elapsed() < LONG);
}

/// It blocks then in the hands of `std`, and the clone must not.
#[test]
fn a_clone_does_not_block_when_the_other_is_given_to_std() {
    xiio_tests::run(async {
        let (a, _b) = UnixStream::pair().unwrap();
        let (tcp, _other) = tcp_pair().await;
        let (mut clone, mut tcp_clone) = (a.try_clone().unwrap(), tcp.try_clone().unwrap());
        let _of_std =
            (std::os::unix::net::UnixStream::try_from(a).unwrap(), std::net::TcpStream::try_from(tcp).unwrap());
        let mut buf = [0; 8];
        assert!(timeout(SHORT, clone.read(&mut buf)).await.is_err());
        // Each is the first that its clone tries: what is known to block is not tried.
        assert!(timeout(SHORT, tcp_clone.try_clone().unwrap().peek(&mut buf)).await.is_err());
        assert!(timeout(SHORT, tcp_clone.read(&mut buf)).await.is_err());
        let much = vec![0; 1 << 24];
        assert!(timeout(SHORT, clone.write_all(&much)).await.is_err());
        assert!(timeout(SHORT, tcp_clone.write_all(&much)).await.is_err());
    });
}
