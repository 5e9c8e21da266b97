//! A small service: users as JSON, a body that streams either way, a chat room, a letter after the answer, a graceful end.
//!
//! Shows: axum's router, extractors and JSON as on tokio; handlers with groups and brackets in them (`local`); state that is an
//! `Rc`; what a client that leaves half-way gets cleaned up; jobs that outlive their request; WebSockets that say goodbye.
//!
//! ```text
//! $ cargo run --release --package xiio-axum --example service &
//! listening on 127.0.0.1:8080
//! $ curl --json '{"name": "Ada"}' localhost:8080/users
//! {"id":1,"name":"Ada"}
//! a letter for Ada                                  (from the server, later)
//! $ curl localhost:8080/users/1
//! {"id":1,"name":"Ada"}
//! $ seq 100000 | curl --data-binary @- localhost:8080/count
//! 588895 bytes in 100000 lines
//! $ curl --no-buffer localhost:8080/ticks
//! data: 0
//!
//! data: 1
//! ^C
//! stopped before tick 2                             (from the server, at once)
//! $ curl localhost:8080/both
//! 3 + 4 = 7
//! $ kill -TERM %1
//! ```
//!
//! The room is at `ws://localhost:8080/room/NAME`: each text is sent to all the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use futures::channel::mpsc;
use futures::stream;
use serde::{Deserialize, Serialize};
use xiio::net::TcpListener;
use xiio::{Promise, bracket, race, signal, sleep, task_group, timeout};
use xiio_axum::ws::{Message, WebSocket, WebSocketUpgrade};
use xiio_axum::{Jobs, SendWrapper, Stopping, TimeLimit, here, keep_alive, local, serve};

/// How many texts may wait for a member of the room that does not read.
const MAX_WAITING: usize = 100;

#[derive(Clone, Serialize)]
struct User {
    id: usize,
    name: String,
}

#[derive(Deserialize)]
struct NewUser {
    name: String,
}

/// All on one thread, so there is nothing to lock.
#[derive(Default)]
struct App {
    users: RefCell<Vec<User>>,
    room: RefCell<BTreeMap<usize, Member>>,
    n_members: Cell<usize>,
}

/// What the others know of a member of the room.
struct Member {
    outbox: mpsc::Sender<String>,
    is_sent_away: Promise<()>,
}

type Shared = SendWrapper<Rc<App>>;

#[xiio::main(name = "service")]
async fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    match listen(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn listen(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let address: SocketAddr = listener.local_addr()?;
    let mut signals = signal::subscribe(&[signal::SIGINT, signal::SIGTERM])?;
    println!("listening on {address}");
    let stop = async {
        let _ = signals.recv().await;
        // Not `eprintln!`, which panics when nobody reads.
        let _ = writeln!(io::stderr(), "stopping");
    };
    serve(listener, router()).until(stop).grace(Duration::from_secs(10)).await;
    Ok(())
}

/// Says it on standard output. Not by `println!`, which panics when nobody reads, and would be the answer 500.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn router() -> Router {
    let short = Router::new()
        .route("/users", post(add_user))
        .route("/users/{id}", get(user))
        .route("/both", get(local(both)))
        .route("/bug", get(bug))
        .layer(TimeLimit::new(Duration::from_secs(10)));
    let long =
        Router::new().route("/count", post(local(count))).route("/ticks", get(ticks)).route("/room/{name}", get(room));
    let app: Shared = here(Rc::new(App::default()));
    short.merge(long).with_state(app)
}

async fn add_user(State(app): State<Shared>, jobs: Jobs, Json(new): Json<NewUser>) -> (StatusCode, Json<User>) {
    let user = {
        let mut users = app.users.borrow_mut();
        let user = User { id: users.len() + 1, name: new.name };
        users.push(user.clone());
        user
    };
    let name = user.name.clone();
    // Runs on when the answer has been sent, or its client has left; the end of the server waits for it.
    let letter = async move {
        sleep(Duration::from_millis(50)).await;
        say(format_args!("a letter for {name}"));
    };
    let _ = jobs.spawn(letter);
    (StatusCode::CREATED, Json(user))
}

async fn user(State(app): State<Shared>, Path(id): Path<usize>) -> Result<Json<User>, StatusCode> {
    let users = app.users.borrow();
    let user = id.checked_sub(1).and_then(|index| users.get(index)).cloned();
    user.map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// Two things at once, which borrow.
async fn both() -> String {
    let (mut three, mut four) = (0, 0);
    task_group!(|tg| {
        tg.spawn(async {
            sleep(Duration::from_millis(10)).await;
            three = 3;
        });
        tg.spawn(async { four = 4 });
    });
    format!("{three} + {four} = {}\n", three + four)
}

async fn bug() -> String {
    panic!("this handler has a bug")
}

/// Counts what is sent, as it comes. A client that leaves in the middle is told of.
async fn count(body: Body) -> Response {
    let usage = async |n_lines: &mut usize| {
        let mut n_bytes = 0;
        let mut data = body.into_data_stream();
        while let Some(chunk) = data.next().await {
            let Ok(chunk) = chunk else { return StatusCode::BAD_REQUEST.into_response() };
            n_bytes += chunk.len();
            *n_lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        }
        format!("{n_bytes} bytes in {n_lines} lines\n").into_response()
    };
    bracket(0, usage, async |n_lines| say(format_args!("counted {n_lines} lines"))).await
}

/// Ticks until the client leaves, or the server ends.
async fn ticks(stopping: Stopping) -> impl IntoResponse {
    let ticks = stream::unfold(0, move |n| {
        let stopping = stopping.clone();
        async move {
            race!(
                () = stopping.wait() => None,
                () = tick(n) => Some((Ok::<_, Infallible>(Event::default().data(n.to_string())), n + 1)),
            )
        }
    });
    let comment = || Ok(Event::default().comment("still here"));
    Sse::new(here(keep_alive(ticks, Duration::from_secs(15), comment)))
}

async fn tick(n: usize) {
    let usage = async |has_come: &mut bool| {
        sleep(Duration::from_millis(100)).await;
        *has_come = true;
    };
    let release = async |has_come: bool| {
        if !has_come {
            say(format_args!("stopped before tick {n}"));
        }
    };
    bracket(false, usage, release).await;
}

async fn room(State(app): State<Shared>, Path(name): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_bytes(1024).on_upgrade(move |socket| async move { app.attend(socket, &name).await })
}

impl App {
    /// One member of the room, from its coming to its goodbye.
    async fn attend(&self, socket: WebSocket, name: &str) {
        let id = self.n_members.replace(self.n_members.get() + 1);
        let (outbox, inbox) = mpsc::channel(MAX_WAITING);
        let is_sent_away = Promise::new();
        self.room.borrow_mut().insert(id, Member { outbox, is_sent_away: is_sent_away.clone() });
        self.tell_others(id, &format!("* {name} has come"));
        let talk = async |socket: &mut WebSocket| {
            // Who does not read keeps `talk` from going on.
            race!(() = self.talk(socket, id, name, inbox) => {}, () = is_sent_away.wait() => {});
        };
        let say_goodbye = async |mut socket: WebSocket| {
            self.room.borrow_mut().remove(&id);
            self.tell_others(id, &format!("* {name} has left"));
            let goodbye = async {
                if socket.send(Message::text(format!("* goodbye, {name}"))).await.is_ok() {
                    socket.close().await;
                }
            };
            let _ = timeout(Duration::from_secs(2), goodbye).await;
        };
        bracket(socket, talk, say_goodbye).await;
    }

    /// Passes texts on in both directions, until the member leaves.
    async fn talk(&self, socket: &mut WebSocket, id: usize, name: &str, mut inbox: mpsc::Receiver<String>) {
        loop {
            race!(
                message = socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.tell_others(id, &format!("{name}: {text}")),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                Some(text) = inbox.next() => {
                    if socket.send(Message::text(text)).await.is_err() {
                        return;
                    }
                },
                else => return,
            );
        }
    }

    /// A member for whom too many texts wait is sent away.
    fn tell_others(&self, id: usize, text: &str) {
        for (_, member) in self.room.borrow_mut().iter_mut().filter(|(other, _)| **other != id) {
            if member.outbox.try_send(text.to_owned()).is_err() {
                let _ = member.is_sent_away.set(());
            }
        }
    }
}
