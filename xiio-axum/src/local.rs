//! Handlers whose futures stay on their thread.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use send_wrapper::SendWrapper;

/// Makes a handler of a function whose future is not `Send`: with a group in it, a bracket, a child process.
///
/// The function takes what any handler takes, up to eight extractors, and may itself hold what is not `Send`. It runs where the
/// router was made; that is the thread of the server, where [`serve`](crate::serve) is used.
///
/// # Panics
/// The handler panics on another thread than that which called `local`.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use axum::{Router, extract::Path, routing::get};
/// use xiio::task_group;
/// use xiio_axum::local;
///
/// let greeting = Rc::new("Hello");
/// let greet = async move |Path(name): Path<String>| {
///     let mut text = String::new();
///     task_group!(|tg| {
///         tg.spawn(async { text = format!("{greeting}, {name}!") });
///     });
///     text
/// };
/// let router: Router = Router::new().route("/greet/{name}", get(local(greet)));
/// ```
pub fn local<H, T>(handler: H) -> Local<H, T> {
    Local { handler: SendWrapper::new(handler), arguments: PhantomData }
}

/// Makes `Send` of what stays on this thread: a future of an extractor, the stream of a body, state that is an `Rc`.
///
/// The wrapper is a future or stream where the value is one, and derefs to the value.
///
/// # Panics
/// It panics where it is used or dropped on another thread.
///
/// # Examples
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use axum::{Router, body::Body, extract::State, routing::get};
/// use futures::stream;
/// use xiio_axum::{SendWrapper, here};
///
/// type Counter = SendWrapper<Rc<Cell<u32>>>;
///
/// async fn count(State(counter): State<Counter>) -> Body {
///     counter.set(counter.get() + 1);
///     let lines = stream::iter([Ok::<_, std::io::Error>(format!("{}\n", counter.get()))]);
///     Body::from_stream(here(Box::pin(lines)))
/// }
///
/// let counter: Counter = here(Rc::new(Cell::new(0)));
/// let router: Router = Router::new().route("/", get(count)).with_state(counter);
/// ```
pub fn here<T>(value: T) -> SendWrapper<T> {
    SendWrapper::new(value)
}

/// A function that [`local`] makes a handler of: async, of up to eight extractors. The last one may take the body.
#[diagnostic::on_unimplemented(
    message = "`local` makes no handler of `{Self}`",
    note = "it wants an async function of up to eight extractors, the last of which may take the body, that returns a response"
)]
pub trait LocalHandler<T, S>: Clone + 'static {
    /// Answers a request.
    fn call(self, request: Request, state: S) -> impl Future<Output = Response> + 'static;
}

/// The handler of [`local`].
pub struct Local<H, T> {
    handler: SendWrapper<H>,
    arguments: PhantomData<fn() -> T>,
}

impl<H: Clone, T> Clone for Local<H, T> {
    fn clone(&self) -> Self {
        Self { handler: self.handler.clone(), arguments: PhantomData }
    }
}

impl<H, T> fmt::Debug for Local<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl<H, T, S> Handler<T, S> for Local<H, T>
where
    H: LocalHandler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    type Future = SendWrapper<Pin<Box<dyn Future<Output = Response>>>>;

    fn call(self, request: Request, state: S) -> Self::Future {
        here(Box::pin(self.handler.take().call(request, state)))
    }
}

impl<H, R, S> LocalHandler<(), S> for H
where
    H: AsyncFnOnce() -> R + Clone + 'static,
    R: IntoResponse + 'static,
    S: 'static,
{
    async fn call(self, request: Request, _: S) -> Response {
        // An argument lives to the end otherwise, and with it a body that nobody reads.
        drop(request);
        self().await.into_response()
    }
}

/// Of all arguments but the last one, the last one, and names for them.
macro_rules! handle {
    ($(($($part:ident $value:ident)*))*) => {$(
        impl<H, R, S, M: 'static, $($part,)* L> LocalHandler<(M, $($part,)* L), S> for H
        where
            H: AsyncFnOnce($($part,)* L) -> R + Clone + 'static,
            R: IntoResponse + 'static,
            S: Send + Sync + 'static,
            $($part: FromRequestParts<S> + 'static,)*
            L: FromRequest<S, M> + 'static,
        {
            #[allow(unused_mut, unused_variables, reason = "with one argument there are no parts")]
            async fn call(self, request: Request, state: S) -> Response {
                let (mut parts, body) = request.into_parts();
                $(
                    let $value = match $part::from_request_parts(&mut parts, &state).await {
                        Ok(value) => value,
                        Err(rejection) => return rejection.into_response(),
                    };
                )*
                match L::from_request(Request::from_parts(parts, body), &state).await {
                    Ok(last) => self($($value,)* last).await.into_response(),
                    Err(rejection) => rejection.into_response(),
                }
            }
        }
    )*};
}

handle! {
    ()
    (A a)
    (A a B b)
    (A a B b C c)
    (A a B b C c D d)
    (A a B b C c D d E e)
    (A a B b C c D d E e G g)
    (A a B b C c D d E e G g I i)
}
