//! A chat room, entered over TCP or a Unix socket.
//!
//! Shows: two listeners side by side, each with a group of its clients. A `bracket` for each client, whose release says
//! goodbye and runs also when the program is told to end. Lines have a bound on their length, and a client that does not read is
//! sent away instead of filling the memory.
//!
//! ```text
//! $ cargo run --release --example chat -- --unix /tmp/chat.sock
//! listening on 127.0.0.1:7008
//! listening on /tmp/chat.sock
//!
//! $ nc 127.0.0.1 7008            $ nc -U /tmp/chat.sock
//! Your name?                     Your name?
//! Ada                            Grace
//! * welcome, Ada; with you: nobody
//! * Grace has come               * welcome, Grace; with you: Ada
//! hello!
//!                                Ada: hello!
//! ^C (in the terminal of the server)
//! * goodbye, Ada                 * goodbye, Grace
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use clap::Parser;
use xiio::io::{BufRead, BufReader, Read, Write};
use xiio::net::{TcpListener, UnixListener};
use xiio::{Promise, bracket, catch_panic, race, task_group, timeout, try_join};

/// How many lines may wait for a client that does not read.
const MAX_WAITING: usize = 100;
/// How long a line may be.
const MAX_LINE: usize = 1024;
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A chat room, entered over TCP or a Unix socket.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any that is free
    #[arg(long, default_value = "127.0.0.1:7008")]
    tcp: String,
    /// A path to listen on besides, where there is no file
    #[arg(long)]
    unix: Option<PathBuf>,
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), grace = Duration::from_secs(5), name = "chat")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let room = Room::default();
    let served = async {
        try_join!(serve_tcp(&room, &arguments.tcp), async {
            match &arguments.unix {
                Some(path) => serve_unix(&room, path).await,
                None => Ok(()),
            }
        })
    };
    match served.await {
        Ok(((), ())) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_tcp(room: &Room, address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
    println!("listening on {}", listener.local_addr()?);
    task_group!(name = "TCP clients", |clients| {
        let mut incoming = listener.incoming();
        while let Some(client) = incoming.next().await {
            match client {
                Ok(client) => drop(clients.spawn(async move { attend(room, &client).await })),
                Err(error) => complain(format_args!("cannot take a client: {error}")),
            }
        }
    });
    Ok(())
}

fn cannot_listen(address: impl Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

async fn serve_unix(room: &Room, path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path).map_err(|error| cannot_listen(path.display(), &error))?;
    println!("listening on {}", path.display());
    let serve = async |listener: &mut UnixListener| {
        task_group!(name = "Unix clients", |clients| {
            let mut incoming = listener.incoming();
            while let Some(client) = incoming.next().await {
                match client {
                    Ok(client) => drop(clients.spawn(async move { attend(room, &client).await })),
                    Err(error) => complain(format_args!("cannot take a client: {error}")),
                }
            }
        });
    };
    bracket(listener, serve, async |_listener| drop(std::fs::remove_file(path))).await;
    Ok(())
}

/// Says what goes wrong. Not by `eprintln!`, which panics when nobody reads, and would end the server.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The members that are there.
#[derive(Default)]
struct Room {
    members: RefCell<BTreeMap<usize, Member>>,
    next_id: Cell<usize>,
}

struct Member {
    name: String,
    outbox: Sender<String>,
    is_sent_away: Promise<()>,
}

impl Room {
    fn enter(&self, name: &str) -> Seat {
        let (outbox, inbox) = async_channel::bounded(MAX_WAITING);
        let others: Vec<String> = self.members.borrow().values().map(|member| member.name.clone()).collect();
        let others = if others.is_empty() { "nobody".into() } else { others.join(", ") };
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.tell_others(id, &format!("* {name} has come\n"));
        let _ = outbox.try_send(format!("* welcome, {name}; with you: {others}\n"));
        let is_sent_away = Promise::new();
        let seat = Seat { id, name: name.into(), inbox, is_sent_away: is_sent_away.clone() };
        self.members.borrow_mut().insert(id, Member { name: name.into(), outbox, is_sent_away });
        seat
    }

    fn leave(&self, seat: &Seat) {
        self.members.borrow_mut().remove(&seat.id);
        self.tell_others(seat.id, &format!("* {} has left\n", seat.name));
    }

    /// A member for whom too many lines wait is sent away.
    fn tell_others(&self, id: usize, text: &str) {
        let members = self.members.borrow();
        for (_, member) in members.iter().filter(|(other, _)| **other != id) {
            if member.outbox.try_send(text.into()).is_err() {
                let _ = member.is_sent_away.set(());
            }
        }
    }
}

/// What one client has of the room.
struct Seat {
    id: usize,
    name: String,
    inbox: Receiver<String>,
    is_sent_away: Promise<()>,
}

/// Serves one client, to its end.
async fn attend<S>(room: &Room, stream: &S)
where
    for<'a> &'a S: Read + Write,
{
    let talk = async |seat: &mut Option<Seat>| {
        let mut lines = BufReader::new(stream).max_line(MAX_LINE).lines();
        let mut to_client = stream;
        if to_client.write_all(b"Your name?\n").await.is_err() {
            return;
        }
        let Some(Ok(name)) = lines.next().await else { return };
        let seat = seat.insert(room.enter(name.trim()));
        race!(
            () = async {
                // The end, or a line that is none: the client has left.
                while let Some(Ok(line)) = lines.next().await {
                    room.tell_others(seat.id, &format!("{}: {line}\n", seat.name));
                }
            } => {},
            () = async {
                while let Ok(text) = seat.inbox.recv().await {
                    if to_client.write_all(text.as_bytes()).await.is_err() {
                        break;
                    }
                }
            } => {},
            () = seat.is_sent_away.wait() => {},
        );
    };
    let say_goodbye = async |seat: Option<Seat>| {
        let name = seat.map(|seat| {
            room.leave(&seat);
            format!(", {}", seat.name)
        });
        let text = format!("* goodbye{}\n", name.unwrap_or_default());
        let mut to_client = stream;
        // One that is gone, or does not read, does not hear it.
        let _ = timeout(GOODBYE, to_client.write_all(text.as_bytes())).await;
    };
    // A bug that one client has met is not the others' affair; it is said goodbye to all the same.
    if let Err(panic) = catch_panic(bracket(None, talk, say_goodbye)).await {
        complain(format_args!("a client: {panic}"));
    }
}
