//! Connecting to the first of several addresses that answers. See RFC 8305.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::Location;
use std::time::Duration;

use super::tcp::TcpStream;
use crate::combine::timeout;
use crate::io::Async;
use crate::promise::Promise;
use crate::reactor::Direction;
use crate::sys::socket::{self, Family};
use crate::try_task_group;

/// How long an attempt may take before the next one begins beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first that answers; the others are given up. Attempts are drawn as tasks that were spawned at `place`.
pub(super) async fn connect_any(addrs: Vec<SocketAddr>, place: &'static Location<'static>) -> io::Result<TcpStream> {
    match addrs[..] {
        [addr] => connect(addr).await,
        _ => connect_staggered(interleave(addrs), place, connect).await,
    }
}

async fn connect_staggered<S>(
    addrs: Vec<SocketAddr>,
    place: &'static Location<'static>,
    connect: impl AsyncFn(SocketAddr) -> io::Result<S>,
) -> io::Result<S> {
    let last_error = RefCell::new(None);
    // What the next attempt waits for.
    let has_failed = Cell::new(None::<Promise<()>>);
    // The first to connect ends the group like an error would: all others are cancelled before their next poll.
    let connected = try_task_group!(error = S, |tg| {
        tg.stand_for("connect");
        tg.expect_winner();
        for addr in addrs {
            let (connect, last_error, has_failed) = (&connect, &last_error, &has_failed);
            let attempt = async move {
                match connect(addr).await {
                    Ok(stream) => return Err(stream),
                    Err(error) => drop(last_error.replace(Some(error))),
                }
                let _ = has_failed.take().map(|failed| failed.set(()));
                Ok(())
            };
            tg.spawn_at(attempt, place);
            let failed = Promise::new();
            has_failed.set(Some(failed.clone()));
            let _ = timeout(STAGGER, failed.wait()).await;
        }
    });
    match (connected, last_error.into_inner()) {
        (Err(stream), _) => Ok(stream),
        (Ok(()), Some(error)) => Err(error),
        (Ok(()), None) => unreachable!("who has not connected has failed"),
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    connect_socket(socket::stream(Family::of(&addr))?, addr).await
}

/// Connects a socket that is non-blocking.
pub(super) async fn connect_socket(socket: OwnedFd, addr: SocketAddr) -> io::Result<TcpStream> {
    let io = Async::from_nonblocking(socket);
    io.operate(Direction::Write, |io| socket::connect(io.as_fd(), &addr)).await?;
    Ok(TcpStream::from_async(io.map(Into::into)))
}

/// The families by turns, beginning with that of the first address, each in its order: where one of them does not work at
/// all, the second attempt is the other.
fn interleave(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_ip4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| addr.is_ipv4() == is_first_ip4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut by_turns = Vec::new();
    loop {
        let pair = (first.next(), second.next());
        by_turns.extend(pair.0);
        by_turns.extend(pair.1);
        if pair == (None, None) {
            return by_turns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tester;
    use crate::time::{now, sleep};

    fn turns(text: &str) -> String {
        let addrs = text.chars().enumerate().map(|(n, family)| {
            let ip = if family == '4' { "127.0.0.1" } else { "::1" };
            SocketAddr::new(ip.parse().unwrap(), n as u16)
        });
        let show = |addr: SocketAddr| format!("{}{}", if addr.is_ipv4() { 4 } else { 6 }, addr.port());
        interleave(addrs.collect()).into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// When the attempts began, in milliseconds. Each takes as many as its port is; all fail, up to the first whose port is even.
    fn beginnings(ports: &[u16]) -> Vec<u128> {
        let began = RefCell::new(Vec::new());
        Tester::new().virtual_time().run(|| async {
            let start = now();
            let addrs = ports.iter().map(|&port| SocketAddr::new("::1".parse().unwrap(), port)).collect();
            let connect = async |addr: SocketAddr| {
                began.borrow_mut().push((now() - start).as_millis());
                sleep(Duration::from_millis(addr.port().into())).await;
                if addr.port().is_multiple_of(2) { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            };
            connect_staggered(addrs, Location::caller(), connect).await.unwrap();
        });
        began.into_inner()
    }

    #[test]
    fn the_next_attempt_begins_when_any_has_failed_and_after_the_stagger() {
        assert_eq!(beginnings(&[2000, 2000, 4]), [0, 250, 500]);
        assert_eq!(beginnings(&[11, 13, 4]), [0, 11, 24]);
        assert_eq!(beginnings(&[301, 2000, 4]), [0, 250, 301]);
        assert_eq!(beginnings(&[301, 201, 2000, 4]), [0, 250, 301, 451]);
    }

    #[test]
    fn families_take_turns_in_their_order() {
        assert_eq!(turns("6644"), "60 42 61 43");
        assert_eq!(turns("46664"), "40 61 44 62 63");
        assert_eq!(turns("444"), "40 41 42");
        assert_eq!(turns(""), "");
    }
}
