//! Sockets that are set up before they are in use, and who is at the other end.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use xiio::io::{Read, Write};
use xiio::net::{TcpListener, TcpSocket, TcpStream, UnixDatagram, UnixListener, UnixSocket, UnixStream};
use xiio::{join, timeout};
use xiio_tests::os::keepalive_times;

const LONG: Duration = Duration::from_secs(60);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn path(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("xiio-setup-{test}-{}", std::process::id()))
}

#[test]
fn options_are_set_before_the_address_is_taken() {
    xiio::run(async {
        let socket = TcpSocket::new_v4().unwrap();
        assert!(!socket.reuseaddr().unwrap() && !socket.reuseport().unwrap() && !socket.keepalive().unwrap());
        socket.set_reuseaddr(true).unwrap();
        socket.set_reuseport(true).unwrap();
        socket.set_keepalive(true).unwrap();
        socket.set_nodelay(true).unwrap();
        assert_eq!(socket.linger().unwrap(), None);
        for (set, got) in [(Some(1500), Some(2)), (None, None), (Some(0), Some(0))] {
            socket.set_linger(set.map(Duration::from_millis)).unwrap();
            assert_eq!(socket.linger().unwrap(), got.map(Duration::from_secs));
        }
        assert!(socket.reuseaddr().unwrap() && socket.reuseport().unwrap() && socket.keepalive().unwrap());
        assert!(socket.nodelay().unwrap());
        socket.set_keepalive(false).unwrap();
        assert!(!socket.keepalive().unwrap());
        socket.set_send_buffer_size(1 << 15).unwrap();
        socket.set_recv_buffer_size(1 << 15).unwrap();
        assert!((1 << 15..=1 << 16).contains(&socket.send_buffer_size().unwrap()));
        assert!((1 << 15..=1 << 16).contains(&socket.recv_buffer_size().unwrap()));
        socket.bind(loopback()).unwrap();
        let addr = socket.local_addr().unwrap();
        let listener = socket.listen(16).unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        // The second one shares the port as both have said so.
        let other = TcpSocket::new_v4().unwrap();
        assert_eq!(other.bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
        other.set_reuseport(true).unwrap();
        other.bind(addr).unwrap();
    });
}

#[test]
fn a_socket_that_is_given_away_blocks_again() {
    let is_nonblocking = |socket: &dyn AsRawFd| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        u32::from_str_radix(flags, 8).unwrap() & 0o4000 != 0
    };
    let (tcp, unix) = (TcpSocket::new_v4().unwrap(), UnixSocket::new_stream().unwrap());
    assert!(is_nonblocking(&tcp) && is_nonblocking(&unix));
    assert!(!is_nonblocking(&OwnedFd::from(tcp)) && !is_nonblocking(&OwnedFd::from(unix)));
}

#[test]
fn a_client_connects_from_the_address_it_has_taken() {
    xiio::run(async {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let from = socket.local_addr().unwrap();
        let (stream, accepted) = join!(socket.connect(addr), listener.accept());
        let (mut stream, (mut client, peer)) = (stream.unwrap(), accepted.unwrap());
        assert_eq!((stream.local_addr().unwrap(), peer), (from, from));
        stream.write_all(b"x").await.unwrap();
        assert_eq!(timeout(LONG, client.read(&mut [0; 8])).await.unwrap().unwrap(), 1);
        drop(listener);
        drop(TcpSocket::new_v4().unwrap().connect(addr));
        let refused = TcpSocket::new_v4().unwrap().connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connection_that_is_given_up_is_closed() {
    xiio::run(async {
        // A listener whose queue is full answers nobody.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let listener = socket.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut kept = Vec::new();
        for _ in 0..64 {
            match timeout(Duration::from_millis(50), TcpSocket::new_v4().unwrap().connect(addr)).await {
                Ok(stream) => kept.push(stream.unwrap()),
                Err(_) => return,
            }
        }
        panic!("the queue takes {} clients and more", kept.len());
    });
}

#[test]
fn probes_are_sent_when_it_is_said() {
    xiio::run(async {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!stream.keepalive().unwrap());
        let (idle, interval) = (Duration::from_millis(59_001), Duration::from_secs(7));
        stream.set_keepalive_times(idle, interval, 3).unwrap();
        assert!(stream.keepalive().unwrap());
        stream.set_keepalive(false).unwrap();
        assert!(!stream.keepalive().unwrap());
        for (idle, interval, n_probes) in [(0, 8, 4), (61, 0, 4), (61, 8, 0), (61, 8, 1000)] {
            let (idle, interval) = (Duration::from_secs(idle), Duration::from_secs(interval));
            let error = stream.set_keepalive_times(idle, interval, n_probes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!((keepalive_times(&stream), stream.keepalive().unwrap()), ([60, 7, 3], false));
        }
        TcpSocket::new_v4().unwrap().set_keepalive_times(idle, interval, 3).unwrap();
    });
}

#[test]
fn unix_sockets_become_what_they_were_made_for() {
    let path = path("stream");
    xiio::run(async {
        let socket = UnixSocket::new_stream().unwrap();
        socket.set_send_buffer_size(1 << 15).unwrap();
        assert!(socket.send_buffer_size().unwrap() >= 1 << 15);
        socket.set_recv_buffer_size(1 << 15).unwrap();
        assert!(socket.recv_buffer_size().unwrap() >= 1 << 15);
        socket.bind(&path).unwrap();
        assert_eq!(UnixSocket::new_stream().unwrap().bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let listener = socket.listen(4).unwrap();
        let (stream, accepted) = join!(UnixSocket::new_stream().unwrap().connect(&path), listener.accept());
        stream.unwrap().write_all(b"x").await.unwrap();
        assert_eq!(accepted.unwrap().0.read(&mut [0; 8]).await.unwrap(), 1);
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn datagrams_are_sent_from_a_socket_that_was_set_up() {
    let path = path("datagram");
    xiio::run(async {
        let socket = UnixSocket::new_datagram().unwrap();
        socket.bind(&path).unwrap();
        let receiver = socket.datagram().unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"four", &path).await.unwrap();
        assert_eq!(receiver.recv(&mut [0; 8]).await.unwrap(), 4);
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_wrong_kind_is_refused_with_a_reason() {
    xiio::run(async {
        let datagram = || UnixSocket::new_datagram().unwrap();
        let error = datagram().listen(1).unwrap_err();
        assert_eq!(error.to_string(), "expected a socket for a stream, got one for datagrams");
        assert_eq!(datagram().connect("/nowhere").await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let error = UnixSocket::new_stream().unwrap().datagram().unwrap_err();
        assert_eq!(error.to_string(), "expected a socket for datagrams, got one for a stream");
        let error = UnixSocket::new_stream().unwrap().connect("/nowhere/at/all").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_descriptor_is_set_up_too() {
    xiio::run(async {
        let socket = TcpSocket::new_v6().unwrap();
        assert!(format!("{socket:?}").contains("fd"));
        let fd = socket.as_fd().try_clone_to_owned().unwrap();
        drop(socket);
        let socket = TcpSocket::try_from(fd).unwrap();
        if socket.bind("[::1]:0".parse().unwrap()).is_ok() {
            let fd = OwnedFd::from(socket.listen(1).unwrap());
            drop(TcpListener::try_from(fd).unwrap());
        }
    });
}

#[test]
fn a_peer_within_the_machine_is_known() {
    let path = path("peer");
    xiio::run(async {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = a.peer_cred().unwrap();
        let of_file = std::fs::metadata("/proc/self").unwrap();
        assert_eq!(peer.uid(), std::os::unix::fs::MetadataExt::uid(&of_file));
        assert_eq!(peer.gid(), std::os::unix::fs::MetadataExt::gid(&of_file));
        assert_eq!(peer.pid(), Some(std::process::id().cast_signed()));
        let listener = UnixListener::bind(&path).unwrap();
        let (stream, accepted) = join!(UnixStream::connect(&path), listener.accept());
        assert_eq!(accepted.unwrap().0.peer_cred().unwrap(), stream.unwrap().peer_cred().unwrap());
    });
    std::fs::remove_file(&path).unwrap();
}
