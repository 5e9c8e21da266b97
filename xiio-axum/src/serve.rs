//! The server: from a listener to the end of the last request.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::{IntoFuture, pending, poll_fn};
use std::io::{self, IoSlice};
use std::net::{self, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, Version};
use axum::response::IntoResponse;
use futures_channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::StreamExt;
use hyper::body::{Buf, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use tower_service::Service;
use xiio::__private::say;
use xiio::compat::{GroupExecutor, HyperStream, HyperTimer, Local, RequestTasks};
use xiio::net::{TcpListener, TcpStream, UCred, UnixListener, UnixStream};
use xiio::{Promise, Sleep, gather, now, race, sleep, task_group};

use crate::jobs::{Count, Counted, Jobs, Running, Server, contained};
use crate::ws::Opening;

/// How long a client may take for the head of a request, and to answer whether it is still there; see [`Serve::patience`].
const PATIENCE: Duration = Duration::from_secs(20);

/// A century: hyper adds it to the present, and panics at what is beyond the clock.
const LONGEST_PATIENCE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The bytes of a frame of HTTP/2, as hyper sends them.
const FRAME: u32 = 1 << 14;

/// A client that is silent may have so many frames to read before it comes to the question whether it is there, however many more were written: no
/// buffer tells when it has read them.
const FRAMES_ON_THE_WAY: u32 = 8;

type AnyFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Where clients come from.
pub trait Listener {
    /// What a client is spoken to by.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Who a client is, as its requests know it by axum's extractor `ConnectInfo`.
    type Peer: Clone + Send + Sync + 'static;

    /// Gives each client to `take`, or what keeps it from coming. Does not end by itself.
    fn each(&self, take: impl FnMut(io::Result<Self::Stream>)) -> impl Future<Output = ()>;

    /// Says who a client is.
    ///
    /// # Errors
    /// What the system reports: the client has gone already, say. Its requests, if there are any, know of nobody then.
    fn peer(client: &Self::Stream) -> io::Result<Self::Peer>;
}

/// `ConnectInfo<SocketAddr>` is the address of the client.
impl Listener for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn each(&self, mut take: impl FnMut(io::Result<TcpStream>)) {
        let mut incoming = self.incoming();
        while let Some(client) = incoming.next().await {
            take(client);
        }
    }

    fn peer(client: &TcpStream) -> io::Result<SocketAddr> {
        client.peer_addr()
    }
}

/// `ConnectInfo<UCred>` has the user and the process of the client.
impl Listener for UnixListener {
    type Stream = UnixStream;
    type Peer = UCred;

    async fn each(&self, mut take: impl FnMut(io::Result<UnixStream>)) {
        let mut incoming = self.incoming();
        while let Some(client) = incoming.next().await {
            take(client);
        }
    }

    fn peer(client: &UnixStream) -> io::Result<UCred> {
        client.peer_cred()
    }
}

impl<L: Listener> Listener for &L {
    type Stream = L::Stream;
    type Peer = L::Peer;

    async fn each(&self, take: impl FnMut(io::Result<L::Stream>)) {
        L::each(self, take).await;
    }

    fn peer(client: &L::Stream) -> io::Result<L::Peer> {
        L::peer(client)
    }
}

/// A listener whose clients may be served on other threads, by [`serve_on`].
pub trait Handover: Listener {
    /// A client on its way.
    type Sent: Send + 'static;

    /// Takes a client from this thread.
    ///
    /// # Errors
    /// What the system reports.
    fn give(client: Self::Stream) -> io::Result<Self::Sent>;

    /// Takes a client to this thread.
    ///
    /// # Errors
    /// What the system reports.
    fn take(client: Self::Sent) -> io::Result<Self::Stream>;
}

impl Handover for TcpListener {
    type Sent = std::net::TcpStream;

    fn give(client: TcpStream) -> io::Result<Self::Sent> {
        client.try_into()
    }

    fn take(client: Self::Sent) -> io::Result<TcpStream> {
        client.try_into()
    }
}

impl Handover for UnixListener {
    type Sent = std::os::unix::net::UnixStream;

    fn give(client: UnixStream) -> io::Result<Self::Sent> {
        client.try_into()
    }

    fn take(client: Self::Sent) -> io::Result<UnixStream> {
        client.try_into()
    }
}

impl<L: Handover> Handover for &L {
    type Sent = L::Sent;

    fn give(client: L::Stream) -> io::Result<L::Sent> {
        L::give(client)
    }

    fn take(client: L::Sent) -> io::Result<L::Stream> {
        L::take(client)
    }
}

/// Serves `router` to the clients of `listener`, over HTTP/1 and HTTP/2, until it is cancelled or [`Serve::until`] comes.
///
/// Each connection is a task, and each request one of its own: see [`RequestTasks`]. axum's extractor `ConnectInfo`
/// says who the client is, as a [`Listener::Peer`]. If a client cannot be taken, the error is printed on standard
/// error, the same one once a second; [`Serve::on_error`] changes that.
///
/// A listener that is given is closed when [`Serve::until`] comes: further clients are refused, and another server may take the address. One
/// that is borrowed (`serve(&listener, …)`) goes on to listen: further clients wait, for the next server of this program say. They are hung up on
/// when it is dropped.
///
/// # Cancellation
/// All requests, sockets and jobs are cancelled, with their cleanup, and waited for.
///
/// # Examples
/// ```
/// use axum::{Router, routing::get};
/// use xiio::io::{Read, Write};
/// use xiio::net::{TcpListener, TcpStream};
/// use xiio::{Promise, task_group};
///
/// let answer = xiio::run(async {
///     let router = Router::new().route("/", get("hello"));
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let stop = Promise::new();
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     task_group!(|tg| {
///         tg.spawn(xiio_axum::serve(listener, router).until(stop.wait()).into_future());
///         client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         stop.set(()).unwrap();
///         std::io::Result::Ok(answer)
///     })
/// })?;
/// assert!(answer.ends_with("hello"));
/// # use std::future::IntoFuture;
/// # std::io::Result::Ok(())
/// ```
pub fn serve<'a, L: Listener + 'a>(listener: L, router: Router) -> Serve<'a, L> {
    Serve::new(listener, |source, limits| {
        Box::pin(async move {
            let receive = async |take: &mut dyn FnMut(L::Stream, Count)| {
                let take = |client| {
                    take(client, None);
                    Ok(())
                };
                source.each(&limits.stopping, take).await;
            };
            serve_clients::<L>(router, &limits, receive).await;
        })
    })
}

/// [`serve`] with so many workers: threads that serve the clients, each with a router of its own, which `router` makes there.
///
/// This thread takes the clients and hands each to the worker that has the fewest. The client stays there, with its requests. So handlers,
/// streams and state need not be `Send`, as with [`serve`]; the workers share only what `router` captures. [`Jobs`](crate::Jobs) run on the
/// worker of their request. All workers end together: [`Serve::until`] and [`Serve::grace`] hold for the whole server.
///
/// The server is a group with workers of `xiio`: it belongs near the root of the program. With `workers = 0`, in a loop of
/// tokio's, and in a test with virtual time or seeds all clients are served on this thread.
///
/// # Panics
/// When `router` does, or the thread of a worker cannot be started.
///
/// # Cancellation
/// As with [`serve`].
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
/// use axum::{Router, routing::get};
/// use xiio::io::{Read, Write};
/// use xiio::net::{TcpListener, TcpStream};
/// use xiio::{Promise, task_group};
/// use xiio_axum::{local, serve_on};
///
/// let answer = xiio::run(async {
///     let n_requests = Arc::new(AtomicUsize::new(0));
///     let router = || {
///         // Of the server, and of this worker.
///         let (n_requests, greeting) = (Arc::clone(&n_requests), Rc::new("hello"));
///         let greet = async move || {
///             n_requests.fetch_add(1, Ordering::Relaxed);
///             greeting.to_string()
///         };
///         Router::new().route("/", get(local(greet)))
///     };
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let stop = Promise::new();
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     task_group!(|tg| {
///         tg.spawn(serve_on(2, listener, router).until(stop.wait()).into_future());
///         client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         stop.set(()).unwrap();
///         std::io::Result::Ok(answer)
///     })
/// })?;
/// assert!(answer.ends_with("hello"));
/// # use std::future::IntoFuture;
/// # std::io::Result::Ok(())
/// ```
pub fn serve_on<'a, L: Handover + 'a>(
    workers: usize,
    listener: L,
    router: impl Fn() -> Router + Send + Sync + 'a,
) -> Serve<'a, L> {
    Serve::new(listener, move |source, limits| Box::pin(serve_on_workers(workers, router, source, limits)))
}

/// [`serve_on`] with a listener for each worker: there are as many workers as `listeners`, and each takes its own clients.
///
/// This saves the hand-over of each client. The listeners share an address, by
/// [`set_reuseport`](xiio::net::TcpSocket::set_reuseport) before they are bound. With `set_reuseaddr` another server may take it when this one has
/// ended. The kernel spreads the clients by their addresses, and does not
/// know which worker has time: so take [`serve_on`] where some requests take much longer than others. Where there are fewer workers, with virtual
/// time say, each has several of the listeners.
///
/// What keeps clients from coming to a worker is printed on standard error, as [`Serve::on_error`] is of this thread.
///
/// # Panics
/// As [`serve_on`].
///
/// # Cancellation
/// As with [`serve`].
///
/// # Examples
/// ```
/// use axum::{Router, routing::get};
/// use xiio::io::{Read, Write};
/// use xiio::net::{TcpSocket, TcpStream};
/// use xiio::{Promise, task_group};
///
/// let answer = xiio::run(async {
///     let listen = |addr| {
///         let socket = TcpSocket::new_v4()?;
///         socket.set_reuseaddr(true)?;
///         socket.set_reuseport(true)?;
///         socket.bind(addr)?;
///         socket.listen(1024)
///     };
///     let first = listen("127.0.0.1:0".parse().unwrap())?;
///     let addr = first.local_addr()?;
///     let listeners = [first, listen(addr)?];
///     let stop = Promise::new();
///     task_group!(|tg| {
///         let server = xiio_axum::serve_each(listeners, || Router::new().route("/", get("hello")));
///         tg.spawn(server.until(stop.wait()).into_future());
///         let mut client = TcpStream::connect(addr).await?;
///         client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         stop.set(()).unwrap();
///         std::io::Result::Ok(answer)
///     })
/// })?;
/// assert!(answer.ends_with("hello"));
/// # use std::future::IntoFuture;
/// # std::io::Result::Ok(())
/// ```
pub fn serve_each<'a>(
    listeners: impl IntoIterator<Item = TcpListener>,
    router: impl Fn() -> Router + Send + Sync + 'a,
) -> Serve<'a, Vec<TcpListener>> {
    let listeners = listeners.into_iter().collect();
    Serve::new(listeners, move |source, limits| Box::pin(serve_each_on_a_worker(router, source, limits)))
}

/// A server, of [`serve`], [`serve_on`] or [`serve_each`]. It runs when it is awaited.
#[must_use = "nothing is served before this is awaited"]
pub struct Serve<'a, L> {
    listener: L,
    run: Box<dyn FnOnce(Source<'a, L>, Limits) -> AnyFuture<'a> + 'a>,
    until: AnyFuture<'a>,
    grace: Option<Duration>,
    patience: Duration,
    on_error: Box<dyn FnMut(io::Error) + 'a>,
}

/// How long nothing is said of an error that comes again.
const SILENCE: Duration = Duration::from_secs(1);

/// Says on standard error what keeps clients from coming. It comes many times a second while there are no descriptors.
fn complain() -> impl FnMut(io::Error) {
    let mut last: Option<(String, Instant)> = None;
    move |error| {
        let text = error.to_string();
        if last.as_ref().is_some_and(|(said, at)| *said == text && now().duration_since(*at) < SILENCE) {
            return;
        }
        // Not `eprintln!`, which panics when nobody reads, and may keep the server for ever when there is no room.
        say(&format!("cannot take a client: {text}"));
        last = Some((text, now()));
    }
}

/// Where clients come from, and until when.
struct Source<'a, L> {
    listener: L,
    until: AnyFuture<'a>,
    on_error: Box<dyn FnMut(io::Error) + 'a>,
}

impl<L: Listener> Source<'_, L> {
    /// Gives each client to `take`, until the server is to end; then `stopping` is set.
    async fn each(self, stopping: &Promise<()>, mut take: impl FnMut(L::Stream) -> io::Result<()>) {
        let Self { listener, until, mut on_error } = self;
        let take = |client: io::Result<L::Stream>| client.and_then(&mut take).unwrap_or_else(&mut on_error);
        race!(() = until => {}, () = listener.each(take) => {});
        // A client is refused rather than kept waiting for a server that may take long to end.
        drop(listener);
        let _ = stopping.set(());
    }
}

/// What holds for all connections of a server.
#[derive(Clone)]
struct Limits {
    stopping: Promise<()>,
    patience: Duration,
}

/// Serves the clients that `clients` gives, on this thread, until it ends; and then until all of them have left.
async fn serve_clients<L: Listener>(
    router: Router,
    limits: &Limits,
    clients: impl AsyncFnOnce(&mut dyn FnMut(L::Stream, Count)),
) {
    task_group!(name = "jobs", |jobs| {
        let jobs = Jobs::of(jobs.remote());
        task_group!(name = "connections", |connections| {
            let mut take = |stream, count| {
                let server = Server::new(jobs.clone(), limits.stopping.clone(), count);
                let router = router.clone();
                connections.spawn(contained(async move {
                    let peer = L::peer(&stream).ok();
                    connection(stream, peer, router, server, limits.patience).await;
                }));
            };
            clients(&mut take).await;
        });
    });
}

/// A client, and what counts it.
type Sent<T> = (T, Arc<Counted>);

/// What is left for a worker, until it begins.
struct LeftFor<T>(Mutex<Option<T>>);

impl<T> LeftFor<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The way of clients to one worker.
struct Line<T> {
    sender: UnboundedSender<Sent<T>>,
    receiver: LeftFor<UnboundedReceiver<Sent<T>>>,
    /// As many others have it as there are clients, here and on the worker.
    count: Arc<()>,
}

impl<T> Line<T> {
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded();
        Self { sender, receiver: LeftFor::new(receiver), count: Arc::new(()) }
    }

    fn send(&self, client: T) -> io::Result<()> {
        let sent = self.sender.unbounded_send((client, Counted::among(&self.count)));
        sent.map_err(|_| io::Error::other("the worker has ended that was to serve it"))
    }
}

async fn serve_on_workers<L: Handover>(
    workers: usize,
    router: impl Fn() -> Router + Send + Sync,
    source: Source<'_, L>,
    limits: Limits,
) {
    let lines: Vec<Line<L::Sent>> = (0..workers.max(1)).map(|_| Line::new()).collect();
    task_group!(name = "server", workers = workers, |tg| {
        // It may have got fewer than it has asked for.
        let lines = &lines[..tg.workers().n_workers()];
        let (limits, router) = (&limits, &router);
        let served = tg.workers().each(async move |worker| {
            let Some(mut clients) = lines[worker].receiver.take() else { return };
            let mut complain = complain();
            let receive = async |take: &mut dyn FnMut(L::Stream, Count)| {
                while let Some((client, count)) = clients.next().await {
                    match L::take(client) {
                        Ok(stream) => take(stream, Some(count)),
                        Err(error) => complain(error),
                    }
                }
            };
            serve_clients::<L>(router(), limits, receive).await;
        });
        let hand_on = |client| {
            let shortest = lines.iter().min_by_key(|line| Arc::strong_count(&line.count));
            let client = L::give(client)?;
            shortest.map_or(Ok(()), |line| line.send(client))
        };
        source.each(&limits.stopping, hand_on).await;
        lines.iter().for_each(|line| line.sender.close_channel());
        served.await;
    });
}

async fn serve_each_on_a_worker(
    router: impl Fn() -> Router + Send + Sync,
    source: Source<'_, Vec<TcpListener>>,
    limits: Limits,
) {
    let Source { listener, until, mut on_error } = source;
    // A listener of a tree stays on its thread.
    let sent = listener.into_iter().map(net::TcpListener::try_from);
    let sent: Vec<_> = sent.filter_map(|sent| sent.map_err(&mut on_error).ok()).map(LeftFor::new).collect();
    task_group!(name = "server", workers = sent.len(), |tg| {
        let n_workers = tg.workers().n_workers();
        let (sent, limits, router) = (&sent, &limits, &router);
        let served = tg.workers().each(async move |worker| {
            let complain = RefCell::new(complain());
            let receive = async |take: &mut dyn FnMut(TcpStream, Count)| {
                let take = RefCell::new(take);
                let take = |client: io::Result<TcpStream>| match client {
                    Ok(stream) => take.borrow_mut()(stream, None),
                    Err(error) => complain.borrow_mut()(error),
                };
                let own = sent.iter().skip(worker).step_by(n_workers).filter_map(LeftFor::take);
                gather(own.map(|listener| listen(listener, &limits.stopping, take))).await;
            };
            serve_clients::<TcpListener>(router(), limits, receive).await;
        });
        until.await;
        let _ = limits.stopping.set(());
        served.await;
    });
}

/// Gives each client to `take` until the server is to end.
async fn listen(listener: net::TcpListener, stopping: &Promise<()>, mut take: impl FnMut(io::Result<TcpStream>)) {
    match TcpListener::try_from(listener) {
        Ok(listener) => race!(() = stopping.wait() => {}, () = listener.each(take) => {}),
        Err(error) => take(Err(error)),
    }
}

impl<'a, L: 'a> Serve<'a, L> {
    fn new(listener: L, run: impl FnOnce(Source<'a, L>, Limits) -> AnyFuture<'a> + 'a) -> Self {
        Self {
            listener,
            run: Box::new(run),
            until: Box::pin(pending()),
            grace: None,
            patience: PATIENCE,
            on_error: Box::new(complain()),
        }
    }

    /// Ends the server in good order when `stop` ends.
    ///
    /// No more clients are taken, a listener that was given is closed, and the running requests are answered. WebSockets are
    /// cancelled at once, with their cleanup: they have no end of their own. Jobs come to their end. For answers without an
    /// end there is [`Stopping`](crate::Stopping).
    ///
    /// A client that has sent half of the head of a request holds the end up for its [`patience`](Self::patience) at most. One of HTTP/2 that does
    /// not hear of the end does so for twice that, or for as long as it takes to answer what it has asked in the first half; what it asks later is
    /// answered with the status 503.
    ///
    /// A request whose body does not come is waited for, and so is a client until it has read its answer. Over HTTP/2 it may have left no room for that,
    /// and still show that it is there. A [`grace`](Self::grace) bounds all of this; [`TimeLimit`](crate::TimeLimit) bounds the wait for a body.
    pub fn until(mut self, stop: impl Future<Output = ()> + 'a) -> Self {
        self.until = Box::pin(stop);
        self
    }

    /// Cancels what is left, with its cleanup, so long after the end has begun. Without it everything is waited for.
    ///
    /// The cleanup itself has no limit here. The option `slow_cleanup` of `xiio::main` tells which one holds up the end.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// How long a client may take. The default is 20 seconds; the server hangs up on a client that takes longer.
    ///
    /// It counts for the first request; over HTTP/1 also for the head of each later one, and between two. Over HTTP/2 a client is asked as
    /// often whether it is still there, and may stay while it answers. One that says nothing for twice the time is hung up on, and so is one
    /// that does not read 16 KiB in it. Where more is on the way to it than that, it comes to the question later. So it may say nothing for twice
    /// the time more for each 16 KiB that were written, but never for longer than sixteen times.
    ///
    /// Bodies have no limit here: neither one that comes slowly, which [`TimeLimit`](crate::TimeLimit) bounds for a handler that reads it, nor an
    /// answer that is read slowly. Over HTTP/2 a client may be slow with the answer to one request, but has to go on to read.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(LONGEST_PATIENCE);
        self
    }

    /// Calls `tell` with the error when clients cannot be taken: there are no descriptors, say. The server goes on,
    /// after a pause.
    ///
    /// What keeps a worker of [`serve_on`] from a client that was taken is printed on standard error all the same.
    pub fn on_error(mut self, tell: impl FnMut(io::Error) + 'a) -> Self {
        self.on_error = Box::new(tell);
        self
    }

    async fn run(self) {
        let Self { listener, run, until, grace, patience, on_error } = self;
        let stopping = Promise::new();
        let served = run(Source { listener, until, on_error }, Limits { stopping: stopping.clone(), patience });
        let Some(grace) = grace else { return served.await };
        let is_over = async {
            stopping.wait().await;
            sleep(grace).await;
        };
        race!(() = served => {}, () = is_over => {});
    }
}

impl<'a, L: 'a> IntoFuture for Serve<'a, L> {
    type Output = ();
    type IntoFuture = AnyFuture<'a>;

    fn into_future(self) -> AnyFuture<'a> {
        Box::pin(self.run())
    }
}

impl<L> fmt::Debug for Serve<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("grace", &self.grace).finish_non_exhaustive()
    }
}

/// Serves `router` to one client, and comes back when its last request, WebSocket and job have ended.
///
/// For loops of your own: after the handshake of TLS, say, or over an in-memory stream in a test. The loop may tell who the client is:
/// `router.layer(Extension(ConnectInfo(addr)))`.
///
/// When `stop` ends, running requests are answered and WebSockets are cancelled, as with [`Serve::until`];
/// `std::future::pending()` is for ever. A client may take 20 seconds for its next request, as [`Serve::patience`] says, and
/// here that is fixed.
///
/// # Cancellation
/// Its requests, sockets and jobs are cancelled, with their cleanup, and waited for.
///
/// # Examples
/// ```
/// use axum::{Router, routing::get};
/// use xiio::io::{Read, Write};
/// use xiio::net::UnixStream;
///
/// let answer = xiio::run(async {
///     let (mut client, stream) = UnixStream::pair()?;
///     let router = Router::new().route("/", get("hello"));
///     xiio::task_group!(|tg| {
///         tg.spawn(xiio_axum::serve_connection(stream, router, std::future::pending()));
///         client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         std::io::Result::Ok(answer)
///     })
/// })?;
/// assert!(answer.ends_with("hello"));
/// # std::io::Result::Ok(())
/// ```
pub async fn serve_connection<S>(stream: S, router: Router, stop: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let stopping = Promise::new();
    let served = async {
        task_group!(name = "jobs", |jobs| {
            let server = Server::new(Jobs::of(jobs.remote()), stopping.clone(), None);
            connection(stream, None::<SocketAddr>, router, server, PATIENCE).await;
        });
    };
    let stop = async {
        stop.await;
        let _ = stopping.set(());
        pending::<()>().await;
    };
    race!(() = served => {}, () = stop => {});
}

/// What a connection knows of its client.
struct Client {
    /// Of its requests; `None` before the first.
    version: Cell<Option<Version>>,
    /// Whether its requests are refused.
    is_refused: Cell<bool>,
    /// Whoever serves one of its requests has it, too: the task, what is left of the answer, the WebSocket.
    running: Arc<()>,
}

impl Client {
    fn new() -> Self {
        Self { version: Cell::new(None), is_refused: Cell::new(false), running: Arc::new(()) }
    }

    fn speaks_http1(&self) -> bool {
        self.version.get().is_some_and(|version| version < Version::HTTP_2)
    }

    /// Ends when the client has to be hung up on, whatever hyper thinks of it.
    async fn has_to_go(&self, stopping: &Promise<()>, patience: Duration) {
        race!(
            () = self.has_not_asked_in(patience) => {},
            () = async {
                stopping.wait().await;
                self.holds_up_the_end(patience).await;
            } => {},
        );
    }

    async fn has_not_asked_in(&self, patience: Duration) {
        sleep(patience).await;
        if self.version.get().is_some() {
            pending::<()>().await;
        }
    }

    /// hyper waits for a client of HTTP/2 to say that it has heard of the end, and begins its requests until then.
    async fn holds_up_the_end(&self, patience: Duration) {
        sleep(patience).await;
        self.is_refused.set(true);
        if self.speaks_http1() {
            pending::<()>().await;
        }
        // Once more also for what has been written just now: it may be on the way.
        loop {
            sleep(patience).await;
            if Arc::strong_count(&self.running) == 1 {
                return;
            }
        }
    }
}

/// The body of an answer. Its request runs until the last of it is written: hyper takes large parts at once, long before the client has room.
struct Answer {
    body: Body,
    running: Running,
}

impl hyper::body::Body for Answer {
    type Data = Part;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let part = |bytes| Part { bytes, _running: self.running.clone() };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A part of an answer.
struct Part {
    bytes: Bytes,
    _running: Running,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, n_bytes: usize) {
        self.bytes.advance(n_bytes);
    }
}

/// A stream whose client has to read, and may not be silent for ever, unless it speaks HTTP/1.
///
/// hyper asks a client of HTTP/2 whether it is still there. The question stands behind all that is on the way to the client, in the buffers of
/// the system as well, and hyper does not know how much that is. So it waits for the answer without end, and the limits are here. One that
/// hyper hangs up on is told so, too, and that is waited for: for ever, if the client reads nothing.
struct Reading<S> {
    stream: S,
    client: Rc<Client>,
    /// How long a client may be silent, and take for a frame.
    limit: Duration,
    /// Set while something waits to be written. Not by each byte anew: hyper flushes after each frame, and what asks the client
    /// comes behind no more than that.
    unread: Option<Sleep>,
    silence: Sleep,
}

impl<S> Reading<S> {
    fn new(stream: S, client: Rc<Client>, limit: Duration) -> Self {
        Self { stream, client, limit, unread: None, silence: sleep(limit) }
    }

    /// What a step of a write has come to, or the end of the limit.
    fn limited<T>(&mut self, cx: &mut Context<'_>, step: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if step.is_ready() || self.client.speaks_http1() {
            return step;
        }
        let unread = self.unread.get_or_insert_with(|| sleep(self.limit));
        Pin::new(unread).poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same for bytes, which the client has to read before it can answer what comes behind them.
    fn limited_bytes(&mut self, cx: &mut Context<'_>, step: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n_bytes)) = step
            && !self.client.speaks_http1()
        {
            let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX);
            let until = self.silence.deadline().map_or_else(now, |until| until.max(now()));
            let longest = now() + self.limit * FRAMES_ON_THE_WAY;
            self.silence.reset(longest.min(until + self.limit.saturating_mul(n_bytes) / FRAME));
        }
        self.limited(cx, step)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reading<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.client.speaks_http1() {
            return step;
        }
        if step.is_pending() {
            return Pin::new(&mut self.silence).poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        let soonest = now() + self.limit;
        if self.silence.deadline().is_some_and(|until| until < soonest) {
            self.silence.reset(soonest);
        }
        step
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reading<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limited_bytes(cx, step)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.limited_bytes(cx, step)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = Pin::new(&mut self.stream).poll_flush(cx);
        if step.is_ready() {
            self.unread = None;
        }
        self.limited(cx, step)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = Pin::new(&mut self.stream).poll_close(cx);
        self.limited(cx, step)
    }
}

/// Serves one connection, to its end and that of its requests.
async fn connection<S, P>(stream: S, peer: Option<P>, router: Router, server: Server, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    P: Clone + Send + Sync + 'static,
{
    let stopping = server.stopping.clone();
    let client = Rc::new(Client::new());
    let stream = Reading::new(stream, Rc::clone(&client), patience.saturating_mul(2));
    let asking = Rc::clone(&client);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        asking.version.set(Some(request.version()));
        let running = (!asking.is_refused.get()).then(|| Arc::clone(&asking.running));
        let mut request: Request = request.map(Body::new);
        let opening = Opening::new(&request);
        request.extensions_mut().insert(server.of_request(opening.is_opened(), running.clone()));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
        }
        // It is always ready.
        let answering = running.is_some().then(|| router.clone().call(request));
        async move {
            let response = match answering {
                Some(answering) => answering.await?,
                None => (StatusCode::SERVICE_UNAVAILABLE, "the server is about to end\n").into_response(),
            };
            opening.answered(response.status());
            Ok::<_, Infallible>(response.map(|body| Answer { body, running }))
        }
    });
    task_group!(name = "requests", |requests| {
        let mut builder = auto::Builder::new(GroupExecutor::new(requests));
        builder.http1().timer(HyperTimer).header_read_timeout(patience);
        // For WebSockets.
        builder.http2().enable_connect_protocol();
        // How long an answer may take is for the stream to say.
        builder.http2().timer(HyperTimer).keep_alive_interval(patience).keep_alive_timeout(LONGEST_PATIENCE);
        let stream = Local::new(HyperStream::new(stream));
        let service = RequestTasks::new(requests, service);
        let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
        let mut has_to_go = pin!(client.has_to_go(&stopping, patience));
        let mut is_told = false;
        let served = poll_fn(|cx| {
            if has_to_go.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if stopping.is_set() && !is_told {
                is_told = true;
                connection.as_mut().graceful_shutdown();
            }
            // Its errors are those of clients that leave.
            connection.as_mut().poll(cx).map(drop)
        });
        served.await;
        // Whoever asked has gone, or has all answers.
        requests.cancel();
    });
}
