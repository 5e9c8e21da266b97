//! What a request has of its server: where jobs go that outlive it, and whether the server is about to end.

use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, ThreadId};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use send_wrapper::SendWrapper;
use xiio::{GroupEnded, Promise, Remote, catch_panic};

/// What the server puts into each request. Made on the thread of the server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) jobs: Jobs,
    pub(crate) stopping: Promise<()>,
    /// Counts the client for its worker, as long as somebody has it.
    pub(crate) count: Count,
    /// Whether the answer to the request opens a WebSocket; set when there is the answer, or will be none.
    pub(crate) is_opened: Promise<bool>,
    /// Counts the request for its connection, as long as somebody has it.
    pub(crate) running: Running,
}

/// What counts a request that its connection has to be kept for.
pub(crate) type Running = Option<Arc<()>>;

/// What counts a client, if there are several who may serve it.
pub(crate) type Count = Option<Arc<Counted>>;

/// One client among those of a worker. Its requests share it.
pub(crate) struct Counted {
    _among: Arc<()>,
}

impl Counted {
    pub(crate) fn among(clients: &Arc<()>) -> Arc<Self> {
        Arc::new(Self { _among: Arc::clone(clients) })
    }
}

impl Server {
    pub(crate) fn new(jobs: Jobs, stopping: Promise<()>, count: Count) -> Self {
        Self { jobs, stopping, count, is_opened: Promise::new(), running: None }
    }

    /// What the next request has of it.
    pub(crate) fn of_request(&self, is_opened: Promise<bool>, running: Running) -> Self {
        Self { is_opened, running, ..self.clone() }
    }

    pub(crate) fn of(parts: &Parts) -> Result<&Self, (StatusCode, &'static str)> {
        let advice = "this request does not come from `xiio_axum::serve` or `serve_connection`\n";
        parts.extensions.get().ok_or((StatusCode::INTERNAL_SERVER_ERROR, advice))
    }
}

/// Jobs that outlive their request, in a group of the server: an extractor.
///
/// The server waits for them at its end, as long as its grace allows; then they are cancelled, with their cleanup.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::post};
/// use xiio_axum::Jobs;
///
/// async fn register(jobs: Jobs, name: String) -> &'static str {
///     let welcome = async move {
///         xiio::sleep(Duration::from_millis(10)).await;
///         println!("a letter to {name}");
///     };
///     match jobs.spawn(welcome) {
///         Ok(()) => "welcome\n",
///         Err(_) => "come back later\n",
///     }
/// }
///
/// let router: Router = Router::new().route("/register", post(register));
/// ```
#[derive(Debug, Clone)]
pub struct Jobs {
    remote: Remote,
    /// Where they run: jobs need not be `Send`.
    thread: ThreadId,
}

impl Jobs {
    pub(crate) fn of(remote: Remote) -> Self {
        Self { remote, thread: thread::current().id() }
    }

    /// Runs `job` beside the requests. A panic in it ends nothing else.
    ///
    /// # Errors
    /// When the server has ended.
    ///
    /// # Panics
    /// On another thread than that of the server, or with [`serve_on`](crate::serve_on) than that of the worker.
    #[track_caller]
    pub fn spawn(&self, job: impl Future + 'static) -> Result<(), GroupEnded> {
        assert!(
            self.thread == thread::current().id(),
            "a job was spawned on another thread than that of its server; spawn it in the handler, and let it wait for \
             what the other thread does, with `in_thread` or a `Promise`"
        );
        let job = SendWrapper::new(contained(job));
        self.remote.spawn(move || job.take())
    }
}

/// Runs a future whose panic is nobody else's, nor that of what it leaves, also if it never begins. The panic hook has told.
pub(crate) fn contained(future: impl Future) -> impl Future<Output = ()> {
    // In a box from the start, as `catch_panic` has one: its place out here would stay when the future has moved there.
    let mut left = Left(Some(Box::pin(future)));
    async move {
        if let Some(future) = left.0.take() {
            drop(Left(Some(catch_panic(future).await)));
        }
    }
}

/// What is to be dropped, whatever its destructor does.
struct Left<T>(Option<T>);

impl<T> Drop for Left<T> {
    fn drop(&mut self) {
        let left = self.0.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(left))) {
            // It may have a destructor as well.
            mem::forget(payload);
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Jobs {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Server::of(parts).map(|server| server.jobs.clone())
    }
}

/// Whether the server is about to end: an extractor, for answers that have no end of their own.
///
/// `take_until` drops the step of the stream that is under way, without its cleanup. A step that has something to clean up is
/// cancelled by `race!` with [`Stopping::wait`] in the step.
///
/// # Examples
/// Numbers, until the server ends:
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use axum::{Router, body::Body, routing::get};
/// use futures::{StreamExt, stream};
/// use xiio_axum::{Stopping, here};
///
/// async fn count(stopping: Stopping) -> Body {
///     let numbers = stream::iter(0..).then(async |n| {
///         xiio::sleep(Duration::from_millis(10)).await;
///         Ok::<_, Infallible>(format!("{n}\n"))
///     });
///     Body::from_stream(here(Box::pin(numbers.take_until(Box::pin(stopping.wait())))))
/// }
///
/// let router: Router = Router::new().route("/count", get(count));
/// ```
#[derive(Clone)]
pub struct Stopping {
    stopping: Option<Promise<()>>,
}

impl Stopping {
    /// Whether the server takes no more clients.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.as_ref().is_some_and(Promise::is_set)
    }

    /// Waits until the server takes no more clients.
    pub async fn wait(self) {
        match self.stopping {
            Some(stopping) => stopping.wait().await,
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").field("is_stopping", &self.is_stopping()).finish()
    }
}

impl<S: Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { stopping: Server::of(parts).ok().map(|server| server.stopping.clone()) })
    }
}
