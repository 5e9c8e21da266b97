//! WebSockets, each a task of the server.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
pub use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
pub use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
pub use tokio_tungstenite::tungstenite::{Bytes, Error};
use xiio::{Promise, cooperative, race, timeout};

use crate::jobs::Server;

/// How long a message may be, unless [`WebSocketUpgrade::max_message_bytes`] says otherwise.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// How many bytes of answers to pings are held for a client that does not read them. Some are, as a client may well write
/// for a while before it reads.
const MAX_UNREAD_ANSWERS: usize = 1 << 14;

/// The head of an answer to a ping.
const ANSWER_HEAD: usize = 2;

/// How long an answer to a goodbye is waited for.
const GOODBYE: Duration = Duration::from_secs(5);

/// A request for a WebSocket: an extractor. Over HTTP/2 it is a `CONNECT`, so its route takes `any` method.
///
/// # Examples
/// An echo, which says goodbye also when the server ends (see [`on_upgrade`](Self::on_upgrade) for one that is cancelled):
/// ```
/// use axum::{Router, response::Response, routing::any};
/// use xiio::bracket;
/// use xiio_axum::ws::{WebSocket, WebSocketUpgrade};
///
/// async fn echo(upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async |socket| {
///         let usage = async |socket: &mut WebSocket| {
///             while let Some(Ok(message)) = socket.recv().await {
///                 if message.is_text() && socket.send(message).await.is_err() {
///                     break;
///                 }
///             }
///         };
///         bracket(socket, usage, async |socket| socket.close().await).await;
///     })
/// }
///
/// let router: Router = Router::new().route("/echo", any(echo));
/// ```
#[must_use = "a WebSocket is opened by the response of `on_upgrade`"]
pub struct WebSocketUpgrade {
    server: Server,
    upgrade: OnUpgrade,
    /// What tells the client that its key was read; over HTTP/2 there is none.
    accept: Option<HeaderValue>,
    asked_protocols: Vec<HeaderValue>,
    protocol: Option<HeaderValue>,
    max_message_bytes: usize,
}

impl WebSocketUpgrade {
    /// Bounds a message, which is 1 MiB otherwise. A longer one is an error.
    pub fn max_message_bytes(mut self, max: usize) -> Self {
        self.max_message_bytes = max;
        self
    }

    /// Takes the first of these that the client has asked for.
    pub fn protocols(mut self, known: &[&'static str]) -> Self {
        let asked: Vec<_> = words(&self.asked_protocols).collect();
        let is_asked_for = |known: &&&'static str| asked.contains(known);
        self.protocol = known.iter().find(is_asked_for).map(|known| HeaderValue::from_static(known));
        self
    }

    /// The response that opens the WebSocket. `talk` runs in a task of the server, and need not be `Send`. It does not begin when the
    /// request is answered with another status, or not at all: it is dropped then.
    ///
    /// A panic in `talk` ends nothing else. When the server ends, `talk` is cancelled with its cleanup, so a `bracket` around
    /// the socket can say goodbye. A client that does not read may keep it from sending for ever: a goodbye in a cleanup needs a
    /// `timeout`.
    ///
    /// End the server with [`Serve::until`](crate::Serve::until) where the client has to hear it. A server that is cancelled instead drops its
    /// connections at once. Over HTTP/2 the connection carries the socket, so a goodbye is lost then. Over HTTP/1 the socket owns the stream, and
    /// the goodbye arrives.
    ///
    /// # Panics
    /// On another thread than that of the server, as [`Jobs::spawn`](crate::Jobs::spawn) does.
    #[track_caller]
    pub fn on_upgrade<F: Future>(self, talk: impl FnOnce(WebSocket) -> F + 'static) -> Response {
        let Self { server, upgrade, accept, protocol, max_message_bytes, .. } = self;
        if server.stopping.is_set() {
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end\n").into_response();
        }
        let Server { jobs, stopping, count, is_opened, running } = server;
        let serve = async move {
            let serve = async move {
                // The connection has ended for its task.
                let _counts = (count, running);
                // hyper gives the connection away at its end, too, though the client has got no WebSocket.
                if !is_opened.wait().await {
                    return;
                }
                // Without it the client has left before it had the response.
                let Ok(upgraded) = upgrade.await else { return };
                let config = WebSocketConfig::default()
                    .max_message_size(Some(max_message_bytes))
                    .max_frame_size(Some(max_message_bytes));
                let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                talk(WebSocket { stream, unread_answers: 0, has_ended: false }).await;
            };
            // It has no end of its own. Made in here: captured it would be held twice.
            race!(() = serve => {}, () = stopping.wait() => {});
        };
        if jobs.spawn(serve).is_err() {
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server has ended\n").into_response();
        }
        let mut response = Response::new(Body::empty());
        if let Some(accept) = accept {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// What stands in lists, of which a header may have several.
fn words<'a>(lists: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a str> {
    let lists = lists.into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    words(headers.get_all(name)).any(|given| given.eq_ignore_ascii_case(word))
}

/// Whether this is how a WebSocket is asked for over HTTP/2. See RFC 8441.
fn is_connect(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// A request that may open a WebSocket. Dropped without an answer, it opens none.
pub(crate) struct Opening {
    is_connect: bool,
    is_opened: Promise<bool>,
}

impl Opening {
    pub(crate) fn new(request: &Request) -> Self {
        Self { is_connect: request.method() == Method::CONNECT, is_opened: Promise::new() }
    }

    /// Whether it has opened one.
    pub(crate) fn is_opened(&self) -> Promise<bool> {
        self.is_opened.clone()
    }

    pub(crate) fn answered(self, status: StatusCode) {
        let opens = if self.is_connect { status.is_success() } else { status == StatusCode::SWITCHING_PROTOCOLS };
        let _ = self.is_opened.set(opens);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let _ = self.is_opened.set(false);
    }
}

/// Why there is no WebSocket, and what would have been right.
struct Refusal {
    status: StatusCode,
    why: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

impl Refusal {
    fn new(status: StatusCode, why: &'static str) -> Self {
        Self { status, why, headers: &[] }
    }

    fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// Over this connection.
    fn no_upgrade(why: &'static str) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, why).with(&[("connection", "upgrade"), ("upgrade", "websocket")])
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.why).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What the key of the client is answered with over HTTP/1.1. See RFC 6455.
fn answer_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    if method != Method::GET {
        let why = "a WebSocket is asked for with GET over HTTP/1.1, and with CONNECT and `:protocol` over HTTP/2\n";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why).with(&[("allow", "GET, CONNECT")]));
    }
    if !has_word(headers, &header::CONNECTION, "upgrade") || !has_word(headers, &header::UPGRADE, "websocket") {
        let why = "this is a WebSocket; the request has no `connection: upgrade` and `upgrade: websocket`\n";
        return Err(Refusal::no_upgrade(why));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or(Refusal::new(StatusCode::BAD_REQUEST, "`sec-websocket-key` is missing\n"))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "`sec-websocket-key` is no key\n"))
}

impl<S: Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let server = Server::of(parts).map_err(IntoResponse::into_response)?.clone();
        let headers = &parts.headers;
        let accept = match is_connect(parts) {
            true => None,
            false => Some(answer_key(&parts.method, headers).map_err(IntoResponse::into_response)?),
        };
        if !has_word(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, "`sec-websocket-version` must be 13\n");
            return Err(refusal.with(&[("sec-websocket-version", "13")]).into_response());
        }
        let asked_protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
        let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            return Err(Refusal::no_upgrade("this connection cannot become a WebSocket\n").into_response());
        };
        let max_message_bytes = MAX_MESSAGE_BYTES;
        Ok(Self { server, upgrade, accept, asked_protocols, protocol: None, max_message_bytes })
    }
}

/// An open WebSocket.
pub struct WebSocket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    /// So many bytes of answers to pings may wait to be sent: those since the last flush that came to its end.
    unread_answers: usize,
    /// There is nothing more to receive.
    has_ended: bool,
}

impl WebSocket {
    /// The next message; `None` when the other end has closed it. Pings are answered meanwhile.
    ///
    /// While the other end sends pings and reads few of the answers, nothing is received: 16 KiB of them are held.
    ///
    /// # Errors
    /// What the connection or the protocol reports. There is nothing to receive after an error.
    ///
    /// # Cancellation
    /// No message is lost.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        // Its buffers hold many small messages, and none of them has to wait.
        cooperative(poll_fn(|cx| self.poll_recv(cx))).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // The stream itself reads on when it cannot send an answer, and holds each.
        if self.unread_answers > 0 {
            match self.stream.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.unread_answers = 0,
                Poll::Ready(Err(error)) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending if self.unread_answers > MAX_UNREAD_ANSWERS => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        let next = ready!(self.stream.poll_next_unpin(cx));
        match &next {
            Some(Ok(Message::Ping(said))) => self.unread_answers += ANSWER_HEAD + said.len(),
            // From here on the stream flushes by itself, and knows its end by that.
            Some(Ok(Message::Close(_))) => self.unread_answers = 0,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => self.has_ended = true,
        }
        Poll::Ready(next)
    }

    /// Sends a message and flushes it.
    ///
    /// # Errors
    /// What the connection reports, and when the WebSocket is closed.
    ///
    /// # Cancellation
    /// The message may have been sent, in part as well; the next one that is sent comes after the rest of it.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        cooperative(self.stream.send(message)).await
    }

    /// Says goodbye, and waits until the other end has done so, too: for five seconds at most, so that a client that has
    /// vanished does not hold up the end of the server.
    pub async fn close(mut self) {
        let goodbye = async {
            // What the other end has sent meanwhile is read on the way, and an error is an end as well.
            if self.stream.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.recv().await {}
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }

    /// The stream and sink of messages beneath.
    ///
    /// What is received from the stream itself has no bound for the answers to pings. A loop that does so flushes it after each ping.
    pub fn get_mut(&mut self) -> &mut WebSocketStream<TokioIo<Upgraded>> {
        &mut self.stream
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}
