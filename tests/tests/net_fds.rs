//! What sockets leave behind: no descriptors. One test, as it counts those of the whole process.
#![allow(missing_docs)]

use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use xiio::io::{Read, Write};
use xiio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use xiio::{join, task_group, timeout, yield_now};

const ANY: &str = "127.0.0.1:0";

#[test]
fn cancelled_failed_and_finished_operations_leave_no_descriptor() {
    let mute = Mute::new();
    xiio::run(async {
        let before = n_fds();
        finished().await;
        assert_eq!(n_fds(), before, "finished");
        failed().await;
        assert_eq!(n_fds(), before, "failed");
        cancelled().await;
        assert_eq!(n_fds(), before, "cancelled");
        connecting(mute.addr).await;
        assert_eq!(n_fds(), before, "cancelled while connecting");
    });
}

fn n_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn finished() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..1000 {
        let (client, accepted) = join!(TcpStream::connect(addr), listener.accept());
        let (mut client, (mut server, _)) = (client.unwrap(), accepted.unwrap());
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
    }
}

async fn failed() {
    let addr = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    for _ in 0..100 {
        assert!(TcpStream::connect(addr).await.is_err());
        assert!(TcpStream::connect([addr, addr]).await.is_err());
        assert!(UnixStream::connect("/nowhere").await.is_err());
    }
}

async fn cancelled() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..100 {
        task_group!(|tg| {
            tg.spawn(async {
                let (client, _) = listener.accept().await.unwrap();
                (&client).read(&mut [0]).await.unwrap();
                pending::<()>().await;
            });
            tg.spawn(async {
                let stream = TcpStream::connect(addr).await.unwrap();
                let (mut read, _write) = stream.into_split();
                read.read(&mut [0]).await.unwrap();
            });
            tg.spawn(async {
                let socket = UdpSocket::bind(ANY).await.unwrap();
                socket.recv(&mut [0]).await.unwrap();
            });
            for _ in 0..4 {
                yield_now().await;
            }
            tg.cancel();
        });
        // What was not accepted goes with the next round.
    }
}

async fn connecting(mute: SocketAddr) {
    let before = n_fds();
    for addrs in [vec![mute], vec![mute; 3]] {
        let mut connect = Box::pin(timeout(Duration::from_millis(300), TcpStream::connect(addrs)));
        assert!(connect.as_mut().await.is_err());
        assert_eq!(n_fds(), before);
    }
    assert!(timeout(Duration::ZERO, TcpStream::connect(mute)).await.is_err());
    task_group!(|tg| {
        let connect = tg.spawn(TcpStream::connect(mute));
        yield_now().await;
        assert_eq!(n_fds(), before + 1, "it connects");
        assert!(connect.cancel().await.is_none());
    });
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
