//! Addresses, and names to be looked up.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::panic::Location;

use crate::error::explain;
use crate::runtime::checkpoint;
use crate::thread::{About, Standing, ThreadPool};

/// So many names are looked up at once, besides those that nobody waits for any more.
const MAX_LOOKUPS: usize = 16;

/// What names one or several addresses: all that `std::net::ToSocketAddrs` takes.
///
/// It is a trait of its own because that of `std` looks names up in the call. That may take half a minute, and cannot
/// be told from the outside. Here a look-up runs on a thread, and only where there is a name. It cannot be
/// implemented outside of xiio.
///
/// # Examples
/// ```
/// use xiio::net::lookup_host;
///
/// let mut addrs = xiio::run(lookup_host(("127.0.0.1", 80))).unwrap();
/// assert_eq!(addrs.next(), Some("127.0.0.1:80".parse().unwrap()));
/// ```
pub trait ToSocketAddrs: sealed::Target {}

impl<T: sealed::Target + ?Sized> ToSocketAddrs for T {}

pub(super) mod sealed {
    /// A target as it is given.
    #[derive(Debug)]
    pub enum Named {
        One(std::net::SocketAddr),
        Many(Vec<std::net::SocketAddr>),
        /// A name and a port.
        Host(String, u16),
    }

    pub trait Target {
        fn target(&self) -> std::io::Result<Named>;
    }
}

use sealed::{Named, Target};

impl Target for SocketAddr {
    fn target(&self) -> io::Result<Named> {
        Ok(Named::One(*self))
    }
}

macro_rules! converted {
    ($($type:ty),*) => {
        $(impl Target for $type {
            fn target(&self) -> io::Result<Named> {
                Ok(Named::One((*self).into()))
            }
        })*
    };
}

converted!(SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl Target for [SocketAddr] {
    fn target(&self) -> io::Result<Named> {
        Ok(Named::Many(self.to_vec()))
    }
}

impl Target for Vec<SocketAddr> {
    fn target(&self) -> io::Result<Named> {
        self.as_slice().target()
    }
}

impl<const N: usize> Target for [SocketAddr; N] {
    fn target(&self) -> io::Result<Named> {
        self.as_slice().target()
    }
}

impl Target for (&str, u16) {
    fn target(&self) -> io::Result<Named> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(Named::One(SocketAddr::new(ip, port))),
            Err(_) => Ok(Named::Host(host.into(), port)),
        }
    }
}

impl Target for (String, u16) {
    fn target(&self) -> io::Result<Named> {
        (self.0.as_str(), self.1).target()
    }
}

impl Target for str {
    fn target(&self) -> io::Result<Named> {
        if let Ok(addr) = self.parse() {
            return Ok(Named::One(addr));
        }
        let invalid =
            |what| io::Error::new(ErrorKind::InvalidInput, format!("expected `host:port`, got `{self}`: {what}"));
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("there is no port"))?;
        let port = port.parse().map_err(|_| invalid("the port is no number up to 65535"))?;
        (host, port).target()
    }
}

impl Target for String {
    fn target(&self) -> io::Result<Named> {
        self.as_str().target()
    }
}

impl<T: Target + ?Sized> Target for &T {
    fn target(&self) -> io::Result<Named> {
        (**self).target()
    }
}

/// The addresses of a name, in the order in which the system prefers them.
///
/// Addresses, and texts of addresses, are given back without a look-up.
///
/// # Errors
/// `InvalidInput` for a text that is no `host:port`; what `getaddrinfo(3)` reports, and `pthread_create(3)` where there is no thread.
///
/// # Cancellation
/// A look-up cannot be interrupted. Nobody waits for it: it ends on its thread by itself. At most 16 run at once, on threads
/// of their own, and 64 that were left behind.
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let addrs: Vec<_> = xiio::net::lookup_host("[::1]:80").await?.collect();
/// assert_eq!(addrs, ["[::1]:80".parse().unwrap()]);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Source
/// `std::net::ToSocketAddrs::to_socket_addrs`.
#[track_caller]
pub fn lookup_host(host: impl ToSocketAddrs) -> impl Future<Output = io::Result<impl Iterator<Item = SocketAddr>>> {
    let place = Location::caller();
    async move { Ok(resolve(&host, place).await?.into_iter()) }
}

/// All addresses of a target, at least one. A look-up is drawn as one that was made at `place`.
pub(super) async fn resolve(
    target: &(impl Target + ?Sized),
    place: &'static Location<'static>,
) -> io::Result<Vec<SocketAddr>> {
    checkpoint().await;
    let addrs = match target.target()? {
        Named::One(addr) => vec![addr],
        Named::Many(addrs) => addrs,
        Named::Host(host, port) => look_up(host, port, place).await?,
    };
    if addrs.is_empty() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "expected at least one address, got none"));
    }
    Ok(addrs)
}

/// The address that is meant where only one can be.
pub(super) async fn resolve_one(
    target: &(impl Target + ?Sized),
    place: &'static Location<'static>,
) -> io::Result<SocketAddr> {
    match target.target() {
        Ok(Named::One(addr)) => Ok(addr),
        _ => Ok(resolve(target, place).await?[0]),
    }
}

async fn look_up(host: String, port: u16, place: &'static Location<'static>) -> io::Result<Vec<SocketAddr>> {
    let text = format!("the look-up of `{host}`");
    let looking = lookup_threads().run(move || {
        let addrs = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port));
        addrs.map(Vec::from_iter).map_err(|error| explain(error, || format!("cannot look up `{host}`")))
    });
    let mut looking = looking.described(&LOOKUP, text).made_at(place).abandon_on_cancel();
    poll_fn(|cx| looking.poll_or_refused(cx)).await
}

static LOOKUP: About = About { label: "lookup_host", text: "a look-up", why_late: Some(why_late) };

fn why_late() -> String {
    format!("as {MAX_LOOKUPS} look-ups run at once; does the name server answer?")
}

/// The threads of look-ups: a name server that does not answer keeps each for many seconds, and files must not wait for that.
fn lookup_threads() -> &'static ThreadPool {
    static THREADS: Standing = Standing::new();
    THREADS.get(|| ThreadPool::new(MAX_LOOKUPS))
}

/// Tries one address after the other with what does not wait; the last error counts.
pub(super) async fn first<T>(
    target: &(impl Target + ?Sized),
    place: &'static Location<'static>,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut outcome = None;
    for addr in resolve(target, place).await? {
        let result = attempt(addr);
        if result.is_ok() {
            return result;
        }
        outcome = Some(result);
    }
    outcome.unwrap_or_else(|| unreachable!("a target has at least one address"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    fn show(target: impl ToSocketAddrs) -> String {
        match target.target() {
            Ok(Named::One(addr)) => addr.to_string(),
            Ok(Named::Many(addrs)) => format!("{addrs:?}"),
            Ok(Named::Host(host, port)) => format!("look up {host} for {port}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_names_are_looked_up() {
        assert_eq!(show("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(show("[::1]:80"), "[::1]:80");
        assert_eq!(show(("::1", 80)), "[::1]:80");
        assert_eq!(show((Ipv4Addr::LOCALHOST, 80)), "127.0.0.1:80");
        assert_eq!(show(String::from("localhost:80")), "look up localhost for 80");
        assert_eq!(show((String::from("localhost"), 80)), "look up localhost for 80");
    }

    #[test]
    fn what_is_no_address_is_explained() {
        assert_eq!(show("localhost"), "expected `host:port`, got `localhost`: there is no port");
        assert_eq!(
            show("localhost:http"),
            "expected `host:port`, got `localhost:http`: the port is no number up to 65535"
        );
        assert!(show("localhost:70000").ends_with("no number up to 65535"));
    }

    #[test]
    fn no_address_is_an_error() {
        let none: &[SocketAddr] = &[];
        assert_eq!(crate::run(resolve(none, Location::caller())).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    /// All threads are busy while the gate is closed, so no look-up comes to its end.
    fn keep_all_threads(gate: &Arc<Mutex<()>>) -> impl Iterator<Item = impl Future<Output = ()> + use<>> {
        std::iter::repeat_n(Arc::clone(gate), MAX_LOOKUPS).map(|gate| lookup_threads().run(move || drop(gate.lock())))
    }

    #[test]
    fn look_up_that_has_no_thread_is_reported_as_one() {
        let told = crate::Promise::new();
        let tell = told.clone();
        let _listening = crate::inspect::listen(move |report| {
            // The jobs may wait for those of another test.
            if report.to_string().contains("look-up") {
                let _ = tell.set(report.to_string());
            }
        });
        let (line, text) = crate::run(async {
            let gate = Arc::new(Mutex::new(()));
            let closed = gate.lock().unwrap();
            crate::task_group!(|tg| {
                keep_all_threads(&gate).for_each(|job| drop(tg.spawn(job)));
                tg.spawn(lookup_host("localhost:0"));
                let line = line!() - 1;
                let text = crate::timeout(Duration::from_secs(60), told.wait()).await;
                tg.cancel();
                drop(closed);
                (line, text)
            })
        });
        let expected = format!(
            "the look-up of `localhost`, made at {}:{line}, has waited for a thread for a second, \
             as 16 look-ups run at once; does the name server answer?",
            file!()
        );
        assert_eq!(text, Ok(expected));
    }

    #[test]
    fn look_up_is_drawn_with_the_place_of_its_call() {
        use crate::net::{TcpListener, TcpStream, UdpSocket};

        let (line, tree) = crate::run(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let gate = Arc::new(Mutex::new(()));
            let closed = gate.lock().unwrap();
            crate::task_group!(|tg| {
                keep_all_threads(&gate).for_each(|job| drop(tg.spawn(job)));
                let line = line!();
                tg.spawn(lookup_host("localhost:0"));
                tg.spawn(TcpListener::bind("localhost:0"));
                tg.spawn(TcpStream::connect("localhost:0"));
                tg.spawn(UdpSocket::bind("localhost:0"));
                tg.spawn(socket.connect("localhost:0"));
                tg.spawn(socket.send_to(b"x", "localhost:0"));
                crate::yield_now().await;
                let tree = crate::inspect::tree().await.to_string();
                tg.cancel();
                drop(closed);
                (line, tree)
            })
        });
        for line in line + 1..=line + 6 {
            let place = format!("the look-up of `localhost`, made at {}:{line}", file!());
            assert!(tree.lines().any(|text| text.ends_with(&place)), "{place}\n{tree}");
        }
    }
}
