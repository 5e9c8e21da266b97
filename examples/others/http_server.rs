//! Serves HTTP/1.1 and HTTP/2 on one port, and ends gracefully.
//!
//! Shows: hyper over xiio's streams, clock and groups; a task for each client and each request, so a
//! client that leaves cancels what it asked for. There are limits for the size of a body, for the time of a request, and for the time
//! that a client may take for the head of one: a slow loris is cut off. Over HTTP/2 the client is asked as often whether it is still there. It may
//! stay while it answers, and asks for nothing; but one that comes to the question too late, as it reads slowly, is cut off as well. A
//! client that does not read its answer may stay. Ctrl-C or SIGTERM ends the listening at once. Running requests are still answered, and who is
//! there for longer than they may take is cut off. With `--workers 2` the clients are served by two threads,
//! and still borrow what `main` has. With `--listeners` each of them takes its own.
//!
//! ```text
//! $ cargo run --release --package xiio-examples-others --example http_server &
//! listening on 127.0.0.1:8080
//! $ curl localhost:8080/
//! hello
//! $ curl --http2-prior-knowledge --data-binary 'some text' localhost:8080/echo
//! some text
//! $ curl 'localhost:8080/sleep?60000'
//! took too long
//! $ kill -TERM %1
//! stopping
//! ```

use std::convert::Infallible;
use std::fmt::Display;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{self, SocketAddr};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use xiio::compat::{GroupExecutor, HyperStream, HyperTimer, RequestTasks};
use xiio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use xiio::signal::Signals;
use xiio::{Promise, race, signal, sleep, task_group, timeout};

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the server rests when it cannot take a client, and between looks at one that is slow.
const PAUSE: Duration = Duration::from_millis(20);

/// How many clients may wait to be taken, for each listener.
const BACKLOG: u32 = 1024;

/// Serves HTTP/1.1 and HTTP/2.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any that is free
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
    /// Seconds that a client may take for the head of a request
    #[arg(long, default_value = "5", value_parser = seconds)]
    head_time: Duration,
    /// Seconds that a request may take
    #[arg(long, default_value = "10", value_parser = seconds)]
    request_time: Duration,
    /// Bytes that a body may have
    #[arg(long, default_value_t = 65_536)]
    body_limit: usize,
    /// Threads that serve clients; with 0 the one that takes them does
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Each worker listens by itself, with `SO_REUSEPORT`; otherwise one thread takes all clients
    #[arg(long)]
    listeners: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    // A century is enough: hyper adds it to the present. Not by `min`, which makes one of what is no number.
    let century = 100.0 * 365.0 * 86_400.0;
    let seconds = if seconds > century { century } else { seconds };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[xiio::main(name = "http_server")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match serve(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_server: {}: {error}", arguments.address);
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal comes, and then until the last running request is answered.
async fn serve(arguments: &Arguments) -> io::Result<()> {
    let signals = signal::subscribe(&[signal::SIGINT, signal::SIGTERM])?;
    match arguments.listeners {
        false => serve_from_one_listener(arguments, signals).await,
        true => serve_from_a_listener_each(arguments, signals).await,
    }
}

/// This thread takes the clients. It hands each to a worker that has time.
async fn serve_from_one_listener(arguments: &Arguments, signals: Signals) -> io::Result<()> {
    let listener = TcpListener::bind(&*arguments.address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stopping = &Promise::new();
    task_group!(name = "clients", workers = arguments.workers, |clients| {
        let workers = clients.workers();
        clients.spawn(stop_on(signals, stopping));
        // A socket of a tree stays on its thread, so it goes to a worker as one of `std`.
        take_clients(listener, stopping, |stream| match net::TcpStream::try_from(stream) {
            Ok(stream) => {
                workers.spawn(async move || match TcpStream::try_from(stream) {
                    Ok(stream) => serve_client(stream, arguments, stopping).await,
                    Err(error) => complain(format_args!("a client: {error}")),
                });
            }
            Err(error) => complain(format_args!("cannot hand a client on: {error}")),
        })
        .await;
        complain("stopping");
    });
    Ok(())
}

/// Each worker takes its own clients. The kernel says which, by their addresses.
async fn serve_from_a_listener_each(arguments: &Arguments, signals: Signals) -> io::Result<()> {
    let listeners = Mutex::new(listeners_of_one_address(arguments).await?);
    let stopping = &Promise::new();
    task_group!(name = "clients", workers = arguments.workers, |clients| {
        let served = clients.workers().each(async |_| {
            let listener = listeners.lock().unwrap().pop().map(TcpListener::try_from);
            match listener.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())) {
                Ok(listener) => {
                    task_group!(|clients| {
                        let serve = |stream| _ = clients.spawn(serve_client(stream, arguments, stopping));
                        take_clients(listener, stopping, serve).await;
                    });
                }
                Err(error) => complain(format_args!("cannot listen: {error}")),
            }
        });
        stop_on(signals, stopping).await;
        complain("stopping");
        served.await;
    });
    Ok(())
}

/// One for each worker, at the first of the addresses that there is.
async fn listeners_of_one_address(arguments: &Arguments) -> io::Result<Vec<net::TcpListener>> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for addr in lookup_host(&*arguments.address).await? {
        match listen(addr, arguments.workers.max(1)) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// They listen already, and a listener of a tree stays on its thread, so these are of `std`.
fn listen(mut addr: SocketAddr, n_listeners: usize) -> io::Result<Vec<net::TcpListener>> {
    let mut listeners = Vec::new();
    for _ in 0..n_listeners {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // For them, and for the next program that listens here.
        socket.set_reuseport(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        // With port 0 the first one has found a free one.
        addr = socket.local_addr()?;
        listeners.push(socket.listen(BACKLOG)?.try_into()?);
    }
    println!("listening on {addr}");
    Ok(listeners)
}

/// Sets `stopping` when a signal comes.
async fn stop_on(mut signals: Signals, stopping: &Promise<()>) {
    let _ = signals.recv().await;
    // Whoever sends a second signal ends the program at once.
    drop(signals);
    let _ = stopping.set(());
}

/// Gives each client to `serve`. From the end on clients are refused, and another server may have the address.
async fn take_clients(listener: TcpListener, stopping: &Promise<()>, mut serve: impl FnMut(TcpStream)) {
    let mut incoming = listener.incoming();
    loop {
        race!(
            client = incoming.next() => match client {
                Some(Ok(stream)) => serve(stream),
                Some(Err(error)) => complain(format_args!("cannot take a client: {error}")),
                None => break,
            },
            () = stopping.wait() => break,
        );
    }
}

/// Serves one client, whatever its language. What goes wrong is its own affair.
async fn serve_client(stream: TcpStream, arguments: &Arguments, stopping: &Promise<()>) {
    let is_http2 = race!(
        said = timeout(arguments.head_time, speaks_http2(&stream)) => match said {
            Ok(Ok(is_http2)) => is_http2,
            Ok(Err(_)) | Err(_) => return,
        },
        () = stopping.wait() => return,
    );
    let stream = HyperStream::new(stream);
    let last = arguments.head_time + arguments.request_time;
    let answer = service_fn(async |request| Ok::<_, Infallible>(answer_in_time(request, arguments).await));
    let served = task_group!(name = "requests", |requests| {
        // A client that leaves cancels its requests, and what they have to clean up is waited for here.
        let service = RequestTasks::new(requests, answer);
        let served = if is_http2 {
            let mut builder = http2::Builder::new(GroupExecutor::new(requests));
            builder.timer(HyperTimer).keep_alive_interval(arguments.head_time).keep_alive_timeout(arguments.head_time);
            let connection = pin!(builder.serve_connection(stream, service));
            serve_until(stopping, last, connection, http2::Connection::graceful_shutdown).await
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(HyperTimer).header_read_timeout(arguments.head_time);
            let connection = pin!(builder.serve_connection(stream, service));
            serve_until(stopping, last, connection, http1::Connection::graceful_shutdown).await
        };
        // Whoever asked has gone, or has all answers.
        requests.cancel();
        served
    });
    if let Err(error) = served {
        complain(format_args!("a client: {error}"));
    }
}

/// Says what goes wrong. Not by `eprintln!`, which panics when nobody reads, and would end the server.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether the client begins as one of HTTP/2 does. Takes nothing from the stream.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut buf = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut buf).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n if n == PREFACE.len() || !PREFACE.starts_with(&buf[..n]) => return Ok(buf == PREFACE),
            // What is there stays there, so there is nothing to wait for but time.
            _ => sleep(PAUSE).await,
        }
    }
}

/// Polls a connection to its end; told to stop, it answers what runs, and ends after `last` at the latest.
///
/// A client of HTTP/2 that does not hear of the end is waited for by hyper, and may ask for more.
async fn serve_until<C: Future<Output = hyper::Result<()>>>(
    stopping: &Promise<()>,
    last: Duration,
    mut connection: Pin<&mut C>,
    stop: impl Fn(Pin<&mut C>),
) -> hyper::Result<()> {
    let mut wait = Some(stopping.wait());
    let served = poll_fn(|cx| {
        if let Some(is_stopping) = &mut wait
            && Pin::new(is_stopping).poll(cx).is_ready()
        {
            wait = None;
            stop(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    });
    let is_over = async {
        stopping.wait().await;
        sleep(last).await;
    };
    race!(served = served => served, () = is_over => Ok(()))
}

type Answer = Response<Full<Bytes>>;

async fn answer_in_time(request: Request<Incoming>, arguments: &Arguments) -> Answer {
    match timeout(arguments.request_time, answer(request, arguments.body_limit)).await {
        Ok(answer) => answer,
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "took too long\n"),
    }
}

async fn answer(request: Request<Incoming>, body_limit: usize) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, "hello\n"),
        (&Method::POST, "/echo") => echo(request.into_body(), body_limit).await,
        (&Method::GET, "/sleep") => {
            let millis = request.uri().query().and_then(|query| query.parse().ok());
            let Some(millis) = millis else { return text(StatusCode::BAD_REQUEST, "how many milliseconds?\n") };
            sleep(Duration::from_millis(millis)).await;
            text(StatusCode::OK, "slept\n")
        }
        _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
    }
}

async fn echo(body: Incoming, body_limit: usize) -> Answer {
    match Limited::new(body, body_limit).collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n"),
        Err(_) => text(StatusCode::BAD_REQUEST, "the body has no end\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}
