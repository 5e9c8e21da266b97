//! Moves money between two accounts in a Postgres database, in a transaction that ends properly whatever happens.
//!
//! Shows: a `bracket` around the transaction rolls it back when a statement fails, the time is over or Ctrl-C comes. It
//! waits for the answer of the server, which no destructor could do. A `shield` stands around the commit, which must
//! not stop half-way, and another around the connection, which the cleanup needs. `tokio-postgres` runs over xiio's own
//! sockets, without a runtime of tokio's.
//!
//! ```text
//! $ cargo run --release --package xiio-examples-others --example pg -- 'host=localhost user=postgres password=…' Ada Grace 25
//! Ada has 75, Grace has 125
//! $ cargo run --release --package xiio-examples-others --example pg -- 'host=localhost user=postgres password=…' Ada Grace 25 --pause 60
//! ^C
//! rolled back
//! ```
//!
//! With `--pause` it stops to think in the middle. It makes a table `accounts`, and gives new names 100 to begin with.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use futures::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use xiio::net::{TcpStream, UnixStream};
use xiio::{bracket, shield, sleep, task_group, timeout};

/// The port of Postgres, also in the name of its Unix socket.
const PORT: u16 = 5432;

const TABLE: &str = "
    set client_min_messages = warning;
    create table if not exists accounts (name text primary key, balance bigint not null check (balance >= 0))";
const OPEN: &str = "insert into accounts values ($1, 100) on conflict do nothing";
const MOVE: &str = "update accounts set balance = balance + $2 where name = $1";
const BALANCE: &str = "select balance from accounts where name = $1";

/// Moves money between two accounts.
#[derive(Parser)]
struct Arguments {
    /// Which database: `host=… user=… dbname=…`; a host that begins with a slash is the directory of a Unix socket
    database: Config,
    /// Who gives
    from: String,
    /// Who gets
    to: String,
    /// How much
    amount: i64,
    /// Seconds to wait in the middle of the transaction
    #[arg(long, default_value = "0", value_parser = seconds)]
    pause: Duration,
    /// Seconds that all of it may take
    #[arg(long, default_value = "300", value_parser = seconds)]
    time: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), grace = Duration::from_secs(10), name = "pg")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match timeout(arguments.time, connect_and_move(&arguments)).await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pg: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says it on standard output. Not by `println!`, which panics when nobody reads.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says it on standard error. Not by `eprintln!`, which panics when nobody reads.
fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

async fn connect_and_move(arguments: &Arguments) -> Result<()> {
    let port = arguments.database.get_ports().first().copied().unwrap_or(PORT);
    match arguments.database.get_hosts().first().context("the database has no `host`")? {
        Host::Unix(directory) => {
            let socket = Path::new(directory).join(format!(".s.PGSQL.{port}"));
            let stream = UnixStream::connect(&socket).await;
            talk(stream.with_context(|| format!("cannot connect to {}", socket.display()))?, arguments).await
        }
        Host::Tcp(name) => {
            let stream = TcpStream::connect((&**name, port)).await;
            talk(stream.with_context(|| format!("cannot connect to {name}:{port}"))?, arguments).await
        }
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, arguments: &Arguments) -> Result<()> {
    let (client, connection) = arguments.database.connect_raw(stream.compat(), NoTls).await?;
    task_group!(name = "connection", |tg| {
        // Ends when the client is dropped, and not before: the rollback has to go through. Its errors are those of the
        // client.
        tg.spawn(shield(async { drop(connection.await) }));
        // Of the body, so that it is dropped with it.
        let client = client;
        move_money(&client, arguments).await?;
        let (from, to) = (balance(&client, &arguments.from).await?, balance(&client, &arguments.to).await?);
        say(format_args!("{} has {from}, {} has {to}", arguments.from, arguments.to));
        Ok(())
    })
}

async fn move_money(client: &Client, arguments: &Arguments) -> Result<()> {
    let Arguments { from, to, amount, .. } = arguments;
    client.batch_execute(TABLE).await?;
    in_transaction(client, async || {
        for name in [from, to] {
            client.execute(OPEN, &[name]).await?;
        }
        client.execute(MOVE, &[from, &-amount]).await?;
        if !arguments.pause.is_zero() {
            warn(format_args!("pg: half of it is done, the rest in {} s", arguments.pause.as_secs_f64()));
            sleep(arguments.pause).await;
        }
        client.execute(MOVE, &[to, amount]).await?;
        Ok(())
    })
    .await
}

/// Commits what `work` has done, or rolls it back if it fails, panics or is cancelled. The server has answered
/// afterwards.
async fn in_transaction(client: &Client, work: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    bracket(
        false,
        async |is_committed| {
            client.batch_execute("begin").await?;
            work().await?;
            // Once it is on its way there is no other way to know what became of it.
            shield(async {
                client.batch_execute("commit").await?;
                *is_committed = true;
                Ok(())
            })
            .await
        },
        async |is_committed| {
            if !is_committed {
                match client.batch_execute("rollback").await {
                    Ok(()) => say("rolled back"),
                    // The server rolls back what a lost connection has begun.
                    Err(error) => warn(format_args!("pg: cannot roll back: {error}")),
                }
            }
        },
    )
    .await
}

async fn balance(client: &Client, name: &str) -> Result<i64> {
    Ok(client.query_one(BALANCE, &[&name]).await?.try_get(0)?)
}
