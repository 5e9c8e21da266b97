//! What needs a clock: xiio's, in place of tokio's.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use send_wrapper::SendWrapper;
use tower_layer::Layer;
use tower_service::Service;
use xiio::{Sleep, sleep, timeout};

/// A layer that limits the time until the head of a response is there. A request that takes longer is cancelled, with its
/// cleanup, and answered with the status 503.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use xiio_axum::TimeLimit;
///
/// let router: Router = Router::new().route("/", get("hello")).layer(TimeLimit::new(Duration::from_secs(10)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TimeLimit {
    limit: Duration,
}

impl TimeLimit {
    /// Cancels each request `limit` after its beginning.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for TimeLimit {
    type Service = TimeLimited<S>;

    fn layer(&self, service: S) -> TimeLimited<S> {
        TimeLimited { service, limit: self.limit }
    }
}

/// The service of [`TimeLimit`].
#[derive(Debug, Clone)]
pub struct TimeLimited<S> {
    service: S,
    limit: Duration,
}

impl<S> Service<Request> for TimeLimited<S>
where
    S: Service<Request, Error = Infallible>,
    S::Response: IntoResponse,
    S::Future: 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = SendWrapper<Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer = timeout(self.limit, self.service.call(request));
        SendWrapper::new(Box::pin(async {
            Ok(match answer.await {
                Ok(Ok(answer)) => answer.into_response(),
                Ok(Err(never)) => match never {},
                Err(elapsed) => (StatusCode::SERVICE_UNAVAILABLE, elapsed.to_string()).into_response(),
            })
        }))
    }
}

/// A stream that gives what `filler` makes whenever `stream` has given nothing for so long: a comment in server-sent events.
///
/// # Examples
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use axum::response::sse::{Event, Sse};
/// use axum::response::IntoResponse;
/// use futures::stream;
/// use xiio_axum::{here, keep_alive};
///
/// async fn events() -> impl IntoResponse {
///     let events = stream::pending::<Result<Event, Infallible>>();
///     let comment = || Ok(Event::default().comment("still here"));
///     Sse::new(here(keep_alive(events, Duration::from_secs(15), comment)))
/// }
/// # drop(events);
/// ```
pub fn keep_alive<S, M>(stream: S, pause: Duration, filler: M) -> KeepAlive<S, M>
where
    S: Stream,
    M: FnMut() -> S::Item,
{
    KeepAlive { stream: Box::pin(stream), pause, filler, timer: None }
}

/// The stream of [`keep_alive`].
#[must_use = "streams do nothing unless they are polled"]
pub struct KeepAlive<S, M> {
    stream: Pin<Box<S>>,
    pause: Duration,
    filler: M,
    /// Begins when the stream has nothing to give.
    timer: Option<Sleep>,
}

impl<S, M> Unpin for KeepAlive<S, M> {}

impl<S, M> Stream for KeepAlive<S, M>
where
    S: Stream,
    M: FnMut() -> S::Item,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        if let Poll::Ready(item) = this.stream.as_mut().poll_next(cx) {
            this.timer = None;
            return Poll::Ready(item);
        }
        let timer = this.timer.get_or_insert_with(|| sleep(this.pause));
        if Pin::new(timer).poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.timer = None;
        Poll::Ready(Some((this.filler)()))
    }
}

impl<S, M> fmt::Debug for KeepAlive<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive").field("pause", &self.pause).finish_non_exhaustive()
    }
}
