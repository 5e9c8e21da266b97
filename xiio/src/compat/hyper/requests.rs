//! Each request a task: what hyper drops is cancelled, cleans up, and is waited for.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use ::hyper::body::{Body, Buf, Frame, SizeHint};
use ::hyper::service::Service;
use ::hyper::{Request, Response, StatusCode};

use crate::combine::catch_panic;
use crate::group::{CancelOnDrop, TaskGroup};
use crate::report::{drop_safely, report_panic};
use crate::unwind;

/// So many frames a cancelled body may give in one poll.
const UNWANTED_FRAMES: usize = 64;

type AnyError = Box<dyn Error + Send + Sync>;

/// A service that runs each request as a task of a group.
///
/// hyper drops the future of a request when its client has gone: where the connection is closed or lost, where a stream of
/// HTTP/2 is reset, where the server ends. A `bracket` in it would never release then. Here hyper drops the guard of a task:
/// the task is cancelled, cleans up, and its group waits for it. The body of the response is polled by the same task, so
/// what it streams cleans up as well.
///
/// Over HTTP/1 hyper also drops a body when its last byte has come, where the response has a `content-length`, without asking for more. So what the
/// stream does behind its last part is cancelled, though the client has got all. What must happen belongs before that part, or into a
/// [`shield`](crate::shield).
///
/// A panic in a request concerns only that request. It is reported; the client gets the status 500, or a body that
/// breaks off. If other code cancels the task of a request, the client gets 503.
///
/// Make the service before the block of the group, so that its futures may borrow what it borrows. The group ends with
/// the connection; [`TaskGroup::cancel`] ends the requests earlier.
///
/// The `limit` of the group bounds the requests. Then a [`GroupExecutor`](super::GroupExecutor) needs another group: over HTTP/2
/// each answer has a task of hyper's as well, which takes what the request sends. With one limit for both they wait for each other.
///
/// # When hyper notices
/// A client of HTTP/1 that closes its connection is noticed while its request runs. One exception is a client that has
/// sent another request behind it, or part of a body that the service does not read. Then hyper does not read on, and
/// finds out when it writes. The other is one that leaves in the middle of its upload: the service gets an error from the body,
/// and should end then, as hyper looks no further. A client that closes only its own half counts as gone, too (`half_close` of the builder
/// changes it). One that is gone without a word is noticed by HTTP/2 with `keep_alive_interval`, and by HTTP/1 only when
/// it is written to; a time limit helps. The question of HTTP/2 stands behind all that is on the way to the client: `keep_alive_timeout` has to be
/// enough for one that reads slowly, or it is cut off in the middle of its answer. One that is there and reads no more is not noticed: hyper waits for its
/// goodbye to be read. A stream that gives an error when a write has waited for too long helps.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use http_body_util::Full;
/// use hyper::{Request, Response, body::{Bytes, Incoming}, server::conn::http1, service::service_fn};
/// use xiio::compat::{HyperStream, RequestTasks};
/// use xiio::io::Write;
/// use xiio::net::{TcpListener, TcpStream};
/// use xiio::{bracket, sleep, task_group};
///
/// async fn transfer(_: Request<Incoming>, is_rolled_back: &Cell<bool>) -> Response<Full<Bytes>> {
///     let usage = async |_: &mut ()| sleep(Duration::from_secs(60)).await;
///     let release = async |()| {
///         sleep(Duration::from_millis(1)).await;
///         is_rolled_back.set(true);
///     };
///     bracket((), usage, release).await;
///     Response::new(Full::from("committed"))
/// }
///
/// let is_rolled_back = Cell::new(false);
/// xiio::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let addr = listener.local_addr()?;
///     task_group!(|tg| {
///         tg.spawn(async {
///             let mut client = TcpStream::connect(addr).await.unwrap();
///             client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
///             sleep(Duration::from_millis(20)).await;
///             // The client goes away in the middle.
///         });
///         let (stream, _) = listener.accept().await?;
///         let service = service_fn(async |request| Ok::<_, Infallible>(transfer(request, &is_rolled_back).await));
///         task_group!(name = "requests", |requests| {
///             let service = RequestTasks::new(requests, service);
///             let _ = http1::Builder::new().serve_connection(HyperStream::new(stream), service).await;
///         });
///         assert!(is_rolled_back.get());
///     });
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
pub struct RequestTasks<'a, 'env, S> {
    group: &'a TaskGroup<'env>,
    service: S,
    location: &'static Location<'static>,
}

impl<'a, 'env, S> RequestTasks<'a, 'env, S> {
    /// Answers with `service`, in tasks of `group`.
    #[track_caller]
    pub fn new(group: &'a TaskGroup<'env>, service: S) -> Self {
        Self { group, service, location: Location::caller() }
    }
}

impl<S: Clone> Clone for RequestTasks<'_, '_, S> {
    fn clone(&self) -> Self {
        Self { group: self.group, service: self.service.clone(), location: self.location }
    }
}

impl<S> fmt::Debug for RequestTasks<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTasks").finish_non_exhaustive()
    }
}

impl<'env, S, R, B> Service<Request<R>> for RequestTasks<'_, 'env, S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: 'env,
    S::Error: 'env,
    B: Body + 'env,
    B::Error: Into<AnyError>,
{
    type Response = Response<TaskBody<B, S::Error>>;
    type Error = S::Error;
    type Future = RequestTask<B, S::Error>;

    fn call(&self, request: Request<R>) -> Self::Future {
        let exchange = Rc::new(Exchange::default());
        let panicked = |payload| report_panic("a request panicked", payload);
        // It may panic before it has made a future; and the task may be cancelled before it has begun, which drops the future.
        let called = match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(answer) => Some(catch_panic(answer)),
            Err(payload) => {
                panicked(payload);
                None
            }
        };
        let server = Rc::clone(&exchange);
        let serve = async move {
            let answered = match called {
                Some(answer) => answer.await.map_err(|panic| panicked(panic.into_payload())).ok(),
                None => None,
            };
            match answered {
                Some(Ok(response)) => server.send(response).await,
                Some(Err(error)) => server.begin(Err(error)),
                None => server.begin(Ok(bare(StatusCode::INTERNAL_SERVER_ERROR))),
            }
        };
        let task = self.group.spawn_at(serve, self.location).cancel_on_drop();
        RequestTask { link: Some(Link { exchange, task }) }
    }
}

/// What a response has besides its body, and how that begins.
type Head<B> = Response<Beginning<B>>;

struct Beginning<B: Body> {
    hint: SizeHint,
    first: Option<Frame<B::Data>>,
    /// Whether the task goes on with the body.
    goes_on: bool,
}

/// A response without a body.
fn bare<B: Body>(status: StatusCode) -> Head<B> {
    let mut response = Response::new(Beginning { hint: SizeHint::with_exact(0), first: None, goes_on: false });
    *response.status_mut() = status;
    response
}

/// What goes from the task of a request to hyper: the head, then a frame at a time. What nobody takes belongs to the user, and
/// is dropped in hyper or in the group, where a panic would be everybody's.
struct Exchange<B: Body, E> {
    head: Cell<Option<Result<Head<B>, E>>>,
    frame: Cell<Option<Result<Frame<B::Data>, AnyError>>>,
    /// The last frame was sent.
    has_ended: Cell<bool>,
    /// Hyper waits for the head or a frame.
    receiver: Cell<Option<Waker>>,
    /// The task waits for its frame to be taken.
    sender: Cell<Option<Waker>>,
}

impl<B: Body, E> Drop for Exchange<B, E> {
    fn drop(&mut self) {
        drop_safely(self.head.take());
        drop_safely(self.frame.take());
    }
}

impl<B: Body, E> Default for Exchange<B, E> {
    fn default() -> Self {
        Self {
            head: Cell::new(None),
            frame: Cell::new(None),
            has_ended: Cell::new(false),
            receiver: Cell::new(None),
            sender: Cell::new(None),
        }
    }
}

fn wake(waiter: &Cell<Option<Waker>>) {
    if let Some(waker) = waiter.take() {
        waker.wake();
    }
}

/// Whether there is something in a slot.
fn is_full<T>(slot: &Cell<Option<T>>) -> bool {
    let content = slot.take();
    let is_full = content.is_some();
    slot.set(content);
    is_full
}

impl<B: Body, E> Exchange<B, E>
where
    B::Error: Into<AnyError>,
{
    fn begin(&self, head: Result<Head<B>, E>) {
        self.head.set(Some(head));
        wake(&self.receiver);
    }

    /// Sends a response to its end.
    async fn send(&self, response: Response<B>) {
        let (parts, body) = response.into_parts();
        let mut parts = Some(parts);
        let sent = catch_panic(async {
            let mut body = pin!(body);
            let hint = body.size_hint();
            let mut is_over = body.is_end_stream();
            // A body that has one frame and that at once, as most have, is sent with the head.
            let mut first = None;
            if !is_over {
                match poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await {
                    Poll::Ready(None) => is_over = true,
                    Poll::Ready(frame) => first = frame,
                    Poll::Pending => {}
                }
            }
            is_over |= matches!(first, Some(Ok(_))) && body.is_end_stream();
            let (first, failed) = match first.transpose() {
                Ok(first) => (first, None),
                Err(error) => (None, Some(Err(error.into()))),
            };
            let beginning = Beginning { hint, first, goes_on: !is_over };
            self.begin(Ok(Response::from_parts(parts.take().expect("taken once"), beginning)));
            if let Some(failed) = failed {
                self.put_of(body.as_mut(), failed).await;
                return;
            }
            while !is_over && let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                is_over = self.put_of(body.as_mut(), frame.map_err(Into::into)).await;
            }
        });
        match sent.await {
            Ok(()) => self.has_ended.set(true),
            Err(panic) => {
                report_panic("the body of a response panicked", panic.into_payload());
                match parts.take() {
                    Some(parts) => {
                        drop_safely(parts);
                        self.begin(Ok(bare(StatusCode::INTERNAL_SERVER_ERROR)));
                    }
                    None => self.put(Err("the body of the response panicked".into())).await,
                }
            }
        }
    }

    /// [`Self::put`] of what a body has given. It may hold something while it waits here, and be cancelled. Says whether the body
    /// may not be polled any more; then it is dropped, with what it holds.
    async fn put_of(&self, mut body: Pin<&mut B>, frame: Result<Frame<B::Data>, AnyError>) -> bool {
        let mut is_over = frame.is_err();
        let mut put = pin!(self.put(frame));
        poll_fn(|cx| {
            if !unwind::is_unwinding() {
                return put.as_mut().poll(cx).map(|()| is_over);
            }
            // What is to clean up is below the body. Nobody wants its frames any more, and of one that always has some not all parts
            // hear of a poll.
            for _ in 0..UNWANTED_FRAMES {
                is_over |= body.is_end_stream();
                if is_over {
                    return Poll::Ready(true);
                }
                match body.as_mut().poll_frame(cx) {
                    Poll::Ready(frame) => is_over = !matches!(frame, Some(Ok(_))),
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until hyper has taken the frame before.
    async fn put(&self, frame: Result<Frame<B::Data>, AnyError>) {
        let mut frame = Some(frame);
        poll_fn(|cx| {
            if is_full(&self.frame) {
                drop(self.sender.replace(Some(cx.waker().clone())));
                return Poll::Pending;
            }
            self.frame.set(frame.take());
            wake(&self.receiver);
            Poll::Ready(())
        })
        .await;
    }
}

/// Hyper's end of a request.
struct Link<B: Body, E> {
    exchange: Rc<Exchange<B, E>>,
    task: CancelOnDrop<()>,
}

impl<B: Body, E> Link<B, E> {
    /// What is in a slot; `None` when the task has ended and there is nothing.
    fn poll_slot<T>(
        &mut self,
        slot: impl Fn(&Exchange<B, E>) -> &Cell<Option<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<T>> {
        if let there @ Some(_) = slot(&self.exchange).take() {
            return Poll::Ready(there);
        }
        drop(self.exchange.receiver.replace(Some(cx.waker().clone())));
        ready!(self.task.poll_end(cx));
        Poll::Ready(slot(&self.exchange).take())
    }
}

/// The future of a request in [`RequestTasks`]. Dropped, it cancels the task.
#[must_use = "the request is cancelled when this is dropped"]
pub struct RequestTask<B: Body, E> {
    /// `None` when the head of the response was given.
    link: Option<Link<B, E>>,
}

impl<B: Body, E> Unpin for RequestTask<B, E> {}

impl<B: Body, E> Future for RequestTask<B, E> {
    type Output = Result<Response<TaskBody<B, E>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let link = self.link.as_mut().expect("a future is not polled after its end");
        let head = ready!(link.poll_slot(|exchange| &exchange.head, cx));
        let link = self.link.take();
        let head = head.unwrap_or_else(|| Ok(bare(StatusCode::SERVICE_UNAVAILABLE)))?;
        Poll::Ready(Ok(head.map(|Beginning { hint, first, goes_on }| {
            let link = link.filter(|_| goes_on);
            TaskBody { hint, first: First(first), link }
        })))
    }
}

impl<B: Body, E> fmt::Debug for RequestTask<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTask").finish_non_exhaustive()
    }
}

/// A frame that came with the head. Dropped inside of hyper if nobody takes it, where a panic would be everybody's.
struct First<D>(Option<Frame<D>>);

impl<D> Drop for First<D> {
    fn drop(&mut self) {
        drop_safely(self.0.take());
    }
}

/// The body of a response of [`RequestTasks`], sent by the task of the request. Dropped before its end, it cancels the task.
pub struct TaskBody<B: Body, E> {
    /// What is still to come.
    hint: SizeHint,
    first: First<B::Data>,
    /// `None` when nothing but `first` is to come.
    link: Option<Link<B, E>>,
}

impl<B: Body, E> Unpin for TaskBody<B, E> {}

impl<B: Body, E> Body for TaskBody<B, E> {
    type Data = B::Data;
    type Error = AnyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, AnyError>>> {
        let this = &mut *self;
        let next = match (this.first.0.take(), &mut this.link) {
            (Some(first), _) => Some(Ok(first)),
            (None, None) => None,
            (None, Some(link)) => match ready!(link.poll_slot(|exchange| &exchange.frame, cx)) {
                Some(frame) => {
                    wake(&link.exchange.sender);
                    Some(frame)
                }
                None if link.exchange.has_ended.get() => None,
                None => Some(Err("the request was cancelled".into())),
            },
        };
        match &next {
            Some(Ok(frame)) => this.count(frame),
            Some(Err(_)) | None => this.link = None,
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.first.0.is_none() && self.link.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl<B: Body, E> TaskBody<B, E> {
    fn count(&mut self, frame: &Frame<B::Data>) {
        let n_bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        let mut left = SizeHint::new();
        left.set_lower(self.hint.lower().saturating_sub(n_bytes));
        if let Some(upper) = self.hint.upper() {
            left.set_upper(upper.saturating_sub(n_bytes).max(left.lower()));
        }
        self.hint = left;
    }
}

impl<B: Body, E> fmt::Debug for TaskBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBody").field("hint", &self.hint).finish_non_exhaustive()
    }
}
