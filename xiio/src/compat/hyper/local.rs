//! What stays on its thread, for code that asks for `Send`.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::hyper::rt;
use send_wrapper::SendWrapper;

#[cfg(feature = "hyper-util")]
use super::HyperStream;

/// A value that stays on its thread, in a wrapper that is `Send` and `Sync`.
///
/// For code that asks for `Send` without ever leaving the thread, as the upgrades of hyper do: `with_upgrades` keeps the
/// stream in a box that is `Send`. The wrapper gives out its value on the thread that made it, and panics on any other. It is a
/// stream of hyper's where the value is one, and a future.
///
/// # Panics
/// Used or dropped on another thread than the one that made it.
///
/// # Examples
/// A server that takes a connection over after an upgrade:
/// ```
/// use std::convert::Infallible;
/// use http_body_util::Empty;
/// use hyper::{Request, Response, StatusCode, body::{Bytes, Incoming}, server::conn::http1, service::service_fn};
/// use hyper::rt::Write as _;
/// use xiio::compat::{HyperStream, Local};
/// use xiio::io::{Read, Write};
/// use xiio::net::{TcpListener, TcpStream};
///
/// let answer = xiio::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     let (stream, _) = listener.accept().await?;
///     xiio::task_group!(|tg| {
///         let service = service_fn(|request: Request<Incoming>| {
///             let upgraded = hyper::upgrade::on(request);
///             tg.spawn(async move {
///                 let Ok(mut stream) = upgraded.await else { return };
///                 let mut stream = std::pin::Pin::new(&mut stream);
///                 std::future::poll_fn(|cx| stream.as_mut().poll_write(cx, b"from here on it is ours")).await.unwrap();
///             });
///             let switching = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
///             let switching = switching.header("connection", "upgrade").header("upgrade", "ours");
///             async { Ok::<_, Infallible>(switching.body(Empty::<Bytes>::new()).unwrap()) }
///         });
///         let stream = Local::new(HyperStream::new(stream));
///         tg.spawn(http1::Builder::new().serve_connection(stream, service).with_upgrades());
///         client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: ours\r\n\r\n").await?;
///         let mut answer = String::new();
///         client.read_to_string(&mut answer).await?;
///         std::io::Result::Ok(answer)
///     })
/// })?;
/// assert!(answer.ends_with("\r\n\r\nfrom here on it is ours"));
/// # std::io::Result::Ok(())
/// ```
///
/// # Implementation
/// The `SendWrapper` of the crate `send_wrapper`, with the traits of hyper.
#[derive(Clone)]
pub struct Local<T>(SendWrapper<T>);

impl<T> Local<T> {
    /// Keeps a value on this thread.
    pub fn new(value: T) -> Self {
        Self(SendWrapper::new(value))
    }

    /// The value, on its thread.
    ///
    /// # Panics
    /// On any other thread.
    pub fn into_inner(self) -> T {
        self.0.take()
    }

    /// Whether this is the thread of the value.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.0.valid()
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Local<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<F: Future + Unpin> Future for Local<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut **self).poll(cx)
    }
}

impl<T: rt::Read + Unpin> rt::Read for Local<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self).poll_read(cx, room)
    }
}

impl<T: rt::Write + Unpin> rt::Write for Local<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self).poll_write_vectored(cx, bufs)
    }
}

/// For the client of `hyper-util`, which keeps connections in a pool. It asks for `Send` of all that it holds; its executor is the
/// handle of [`TaskGroup::remote`](crate::TaskGroup::remote).
///
/// # Examples
/// ```
/// use std::convert::Infallible;
/// use std::io;
/// use http_body_util::{BodyExt, Empty, Full};
/// use hyper::{Request, Response, Uri, body::{Bytes, Incoming}, server::conn::http1, service::service_fn};
/// use hyper_util::client::legacy::Client;
/// use xiio::compat::{HyperStream, HyperTimer, Local};
/// use xiio::net::{TcpListener, TcpStream};
/// use xiio::task_group;
///
/// async fn connect(uri: Uri) -> io::Result<Local<HyperStream<TcpStream>>> {
///     // An address of IPv6 is in brackets.
///     let host = uri.host().unwrap_or("localhost").trim_matches(['[', ']']);
///     let port = uri.port_u16().unwrap_or(80);
///     Ok(Local::new(HyperStream::new(TcpStream::connect((host, port)).await?)))
/// }
///
/// let answers = xiio::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let uri: Uri = format!("http://{}/", listener.local_addr()?).parse()?;
///     task_group!(|tg| {
///         tg.spawn(async {
///             // One connection for both requests.
///             let (stream, _) = listener.accept().await.unwrap();
///             let hello = async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))));
///             let _ = http1::Builder::new().serve_connection(HyperStream::new(stream), service_fn(hello)).await;
///         });
///         let connector = tower::service_fn(|uri| Local::new(Box::pin(connect(uri))));
///         let mut builder = Client::builder(tg.remote());
///         let client: Client<_, Empty<Bytes>> = builder.pool_timer(HyperTimer).build(connector);
///         let mut answers = Vec::new();
///         for _ in 0..2 {
///             answers.push(client.get(uri.clone()).await?.into_body().collect().await?.to_bytes());
///         }
///         // Its connections are tasks of the group; they end with the client, here.
///         drop(client);
///         tg.cancel();
///         Ok::<_, Box<dyn std::error::Error>>(answers)
///     })
/// })?;
/// assert_eq!(answers, ["hello", "hello"]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "hyper-util")]
impl<S> hyper_util::client::legacy::connect::Connection for Local<HyperStream<S>> {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        hyper_util::client::legacy::connect::Connected::new()
    }
}

impl<T> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("is_here", &self.is_here()).finish_non_exhaustive()
    }
}
