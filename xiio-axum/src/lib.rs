//! axum on xiio: each request is a task of a group, and handlers need not be `Send`.
//!
//! axum is written for tokio, where a handler is dropped when its client leaves, and has to be `Send` as it may move between
//! threads. Here a request is a task. When its client leaves, the task is cancelled, its brackets release, and the server waits
//! for that. One that has closed its half of the connection has left as well, as in hyper. [`RequestTasks`](xiio::compat::RequestTasks) says
//! when a client is noticed to have left. One that does so in the middle of its upload over HTTP/1 makes the body an error, and the handler
//! should return then.
//! All of the task is on the thread of its connection, so a handler may hold what is not `Send`: a group, a bracket,
//! a child process.
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use xiio::{bracket, sleep, task_group};
//! use xiio_axum::local;
//!
//! /// Not `Send`: a group is in it.
//! async fn sum() -> String {
//!     let (mut one, mut two) = (0, 0);
//!     task_group!(|tg| {
//!         tg.spawn(async { one = 1 });
//!         tg.spawn(async { two = 2 });
//!     });
//!     format!("{}\n", one + two)
//! }
//!
//! /// Rolled back also when the client goes away.
//! async fn transfer() -> &'static str {
//!     let usage = async |_: &mut ()| sleep(Duration::from_secs(1)).await;
//!     bracket((), usage, async |()| println!("committed, or rolled back")).await;
//!     "done\n"
//! }
//!
//! async fn serve() -> std::io::Result<()> {
//!     let router = Router::new().route("/sum", get(local(sum))).route("/transfer", get(local(transfer)));
//!     let listener = xiio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     let mut signals = xiio::signal::subscribe(&[xiio::signal::SIGTERM])?;
//!     xiio_axum::serve(listener, router)
//!         .until(async { drop(signals.recv().await) })
//!         .grace(Duration::from_secs(10))
//!         .await;
//!     Ok(())
//! }
//! # drop(serve);
//! ```
//!
//! # What is here
//!
//! | for | take |
//! |---|---|
//! | a server | [`serve`], with a graceful end; [`serve_connection`] where you accept yourself, after TLS say |
//! | a server on several threads, each with a router of its own | [`serve_on`]; [`serve_each`], where each thread has a listener, too |
//! | handlers that are not `Send` | [`local`] |
//! | anything else that is asked to be `Send`: extractors, streams of a body, state that is an `Rc` | [`here`] |
//! | a job that outlives its request | the extractor [`Jobs`] |
//! | WebSockets | the extractor [`ws::WebSocketUpgrade`] |
//! | the address of the client | `ConnectInfo<SocketAddr>` of axum; over a Unix socket `ConnectInfo<UCred>` |
//! | answers without an end that end with the server | the extractor [`Stopping`] |
//! | a limit of time for each request | [`TimeLimit`] |
//! | keeping a quiet stream alive | [`keep_alive`] |
//!
//! # State
//! The state of a router is `'static`, so it cannot borrow from the tree. It may be an `Rc`: `here(Rc::new(…))` is `Send`, and
//! derefs to it. Code that has to borrow is a task of the tree, which handlers reach by a channel.
//!
//! # Layers of others
//! Layers that need no clock work as they are. Others do need one: the `TimeoutLayer` of `tower-http`, and the `KeepAlive` of
//! axum's own `Sse`. They name the clock of tokio in their code and give no way to hand in another. [`TimeLimit`] and
//! [`keep_alive`] take their place, and run on virtual time in tests. `ServeDir` of `tower-http` reads files by tokio's
//! threads. To use any of these all the same, run the server in `xiio::compat::with_tokio` (feature `tokio` of xiio), where
//! they find tokio; elsewhere the request panics with "there is no reactor running". A service around the router (`NormalizePath`, say)
//! is served by `Router::new().fallback_service(service)`. axum's own WebSockets
//! (`axum::extract::ws`) hand their task to `tokio::spawn`, on another thread, and do not work here; [`ws`] takes their place.
//!
//! # Inside a program of tokio's
//! `xiio::compat::on_tokio(xiio_axum::serve(…))` runs the server in a runtime of tokio's, with the listener of xiio. A tree in
//! each handler of a server of axum's own is no substitute: that server drops it when its client leaves.
//!
//! # Panics in handlers
//! A panic concerns only its request: it is reported, and the client gets the status 500. A panic of a WebSocket or a job ends
//! nothing else either; the panic hook has printed it on standard error.

mod jobs;
mod local;
mod serve;
mod time;
pub mod ws;

pub use self::jobs::{Jobs, Stopping};
pub use self::local::{Local, LocalHandler, here, local};
pub use self::serve::{Handover, Listener, Serve, serve, serve_connection, serve_each, serve_on};
pub use self::time::{KeepAlive, TimeLimit, TimeLimited, keep_alive};
pub use send_wrapper::SendWrapper;
