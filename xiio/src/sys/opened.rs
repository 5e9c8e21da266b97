//! What a descriptor is, for whoever looks at the tree. See `fstat(2)`, `getsockname(2)`, `getpeername(2)`.

use std::borrow::Cow;
use std::fs::{self, File, FileType};
use std::io::IsTerminal;
use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};

use super::socket::{is_byte_stream, setup};

/// A descriptor that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// In words: "TCP socket", "pipe", …
    pub(crate) kind: Cow<'static, str>,
    /// Of a socket that has one, the own address.
    pub(crate) address: Option<String>,
    /// Of a socket that is connected, the address at the other end.
    pub(crate) peer: Option<String>,
}

/// `None` for one that is not open.
pub(crate) fn opened(fd: BorrowedFd<'_>) -> Option<Opened> {
    // SAFETY: the borrow keeps it open, and what is made of it is not dropped, so does not close it.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    let file_type = file.metadata().ok()?.file_type();
    if file_type.is_socket() { Some(socket(fd)) } else { Some(no_socket(fd, file_type)) }
}

fn no_socket(fd: BorrowedFd<'_>, file_type: FileType) -> Opened {
    let kind = match () {
        () if file_type.is_fifo() => "pipe".into(),
        () if fd.is_terminal() => "terminal".into(),
        () if file_type.is_char_device() => "device".into(),
        () if file_type.is_file() || file_type.is_dir() || file_type.is_block_device() => "file".into(),
        () => anonymous(fd).into(),
    };
    Opened { kind, address: None, peer: None }
}

/// What Linux calls a descriptor that is no file: `anon_inode:[eventfd]`.
fn anonymous(fd: BorrowedFd<'_>) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    let name = link.to_string_lossy().trim_start_matches("anon_inode:").trim_matches(['[', ']']).to_owned();
    if name.is_empty() || name.starts_with('/') { "descriptor".into() } else { name }
}

fn socket(fd: BorrowedFd<'_>) -> Opened {
    let is_listening = setup::number(fd, libc::SO_ACCEPTCONN) == Some(1);
    let is_stream = is_byte_stream(fd);
    // SAFETY: as in `opened`. `std` asks a socket of whatever kind, and looks at the family of what it gets.
    let internet = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd.as_raw_fd()) });
    if let Ok(address) = internet.local_addr() {
        let is_of_datagrams = setup::number(fd, libc::SO_TYPE) == Some(libc::SOCK_DGRAM);
        let kind = match (is_stream, is_listening) {
            (true, true) => "TCP listener",
            (true, false) => "TCP socket",
            (false, _) if is_of_datagrams => "UDP socket",
            (false, _) => "socket",
        };
        let peer = internet.peer_addr().ok().map(|peer| peer.to_string());
        return Opened { kind: kind.into(), address: Some(address.to_string()), peer };
    }
    // SAFETY: as in `opened`.
    let unix = ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(fd.as_raw_fd()) });
    let Ok(address) = unix.local_addr() else {
        return Opened { kind: "socket".into(), address: None, peer: None };
    };
    let kind = match (is_stream, is_listening) {
        (_, true) => "Unix listener",
        (true, false) => "Unix socket",
        (false, false) => "Unix socket of packets",
    };
    let peer = unix.peer_addr().ok();
    Opened { kind: kind.into(), address: path(&address), peer: peer.as_ref().and_then(path) }
}

fn path(address: &UnixAddr) -> Option<String> {
    address.as_pathname().map(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn what(fd: &impl AsFd) -> (String, Option<String>, Option<String>) {
        let Opened { kind, address, peer } = opened(fd.as_fd()).unwrap();
        (kind.into_owned(), address, peer)
    }

    #[test]
    fn sockets_have_their_kind_and_their_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        assert_eq!(what(&listener), ("TCP listener".into(), Some(at.clone()), None));
        let client = TcpStream::connect(&at).unwrap();
        let own = client.local_addr().unwrap().to_string();
        assert_eq!(what(&client), ("TCP socket".into(), Some(own.clone()), Some(at.clone())));
        let (server, _) = listener.accept().unwrap();
        assert_eq!(what(&server), ("TCP socket".into(), Some(at), Some(own)));
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        assert_eq!(what(&udp), ("UDP socket".into(), Some(udp.local_addr().unwrap().to_string()), None));
        let (unix, _other) = UnixStream::pair().unwrap();
        assert_eq!(what(&unix), ("Unix socket".into(), None, None));
        let (packets, _other) = UnixDatagram::pair().unwrap();
        assert_eq!(what(&packets).0, "Unix socket of packets");
        // They are open still.
        assert_eq!(unix.take_error().unwrap().map(|error| error.kind()), None);
    }

    #[test]
    fn what_is_no_socket_has_its_kind() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(what(&reader).0, "pipe");
        assert_eq!(what(&File::open("/dev/null").unwrap()).0, "device");
        assert_eq!(what(&File::open("/").unwrap()).0, "file");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_linux_calls_by_a_name_goes_by_it() {
        let eventfd = crate::sys::eventfd::EventFd::new().unwrap();
        assert_eq!(what(&eventfd).0, "eventfd");
    }
}
