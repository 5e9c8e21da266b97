//! A server in the same tree as its clients.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::future::{IntoFuture, pending};
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use tower_service::Service;
use xiio::compat::{GroupExecutor, HyperStream, HyperTimer, on_tokio, with_tokio};
use xiio::inspect::ReportKind;
use xiio::io::{DuplexStream, Read, Write};
use xiio::net::{TcpListener, TcpSocket, TcpStream, UCred, UnixListener, UnixStream};
use xiio::testing::Tester;
use xiio::{Promise, bracket, gather, race, sleep, task_group, timeout};
use xiio_axum::{
    Jobs, Listener, SendWrapper, Stopping, TimeLimit, here, keep_alive, local, serve, serve_connection, serve_each,
    serve_on,
};
use xiio_tests::os::{nobody_reads, rerun};
use xiio_tests::{LONG, Reports, millis, panic_text, run, run_virtually};

/// Serves `router` while `talk` runs, and ends in good order then.
async fn with_server(router: Router, talk: impl AsyncFnOnce(SocketAddr)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = Promise::new();
    task_group!(|tg| {
        tg.spawn(serve(&listener, router).until(stop.wait()).into_future());
        talk(addr).await;
        stop.set(()).unwrap();
    });
}

/// Sends a request on a connection of its own; gives the connection.
async fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).await.unwrap();
    let n = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{body}");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

/// The status of the answer, and its body.
async fn fetch(addr: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut client = ask(addr, method, path, body).await;
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), body.to_owned())
}

async fn get_text(addr: SocketAddr, path: &str) -> (u16, String) {
    fetch(addr, "GET", path, "").await
}

fn ok(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

/// A handler that holds a bracket for ever, and a count of those that have begun and have released.
fn holding(counts: &Rc<[Cell<usize>; 2]>) -> impl AsyncFn() -> &'static str + Clone + 'static {
    let counts = Rc::clone(counts);
    async move || {
        let usage = async |_: &mut ()| {
            counts[0].set(counts[0].get() + 1);
            sleep(LONG).await;
        };
        let release = async |()| {
            sleep(millis(1)).await;
            counts[1].set(counts[1].get() + 1);
        };
        bracket((), usage, release).await;
        "held"
    }
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(millis(1)).await;
        }
    };
    timeout(millis(30_000), waiting).await.expect("it comes to that");
}

#[derive(serde::Deserialize)]
struct Page {
    n: u32,
}

#[test]
fn handlers_hold_what_is_not_send_and_take_what_any_handler_takes() {
    let app: SendWrapper<Rc<Cell<u32>>> = here(Rc::new(Cell::new(0)));
    let prefix = Rc::new("hello ");
    let none = async || "none";
    let group = async || {
        let mut n = 0;
        task_group!(|tg| {
            tg.spawn(async {
                sleep(millis(1)).await;
                n += 1;
            });
        });
        n.to_string()
    };
    let many = async move |Path(name): Path<String>,
                           Query(page): Query<Page>,
                           State(app): State<SendWrapper<Rc<Cell<u32>>>>,
                           body: String| {
        let _not_send = Rc::clone(&app);
        xiio::yield_now().await;
        app.set(app.get() + 1);
        format!("{prefix}{name} {} {} {body}", page.n, app.get())
    };
    let router = Router::new()
        .route("/none", get(local(none)))
        .route("/group", get(local(group)))
        .route("/many/{name}", post(local(many)))
        .with_state(app);
    run(with_server(router, async |addr| {
        assert_eq!(get_text(addr, "/none").await, ok("none"));
        assert_eq!(get_text(addr, "/group").await, ok("1"));
        assert_eq!(fetch(addr, "POST", "/many/Ada?n=7", "body").await, ok("hello Ada 7 1 body"));
        assert_eq!(fetch(addr, "POST", "/many/Ada?n=8", "more").await, ok("hello Ada 8 2 more"));
        assert_eq!(fetch(addr, "POST", "/many/Ada?n=x", "").await.0, 400, "the rejection of an extractor");
        assert_eq!(get_text(addr, "/nothing").await.0, 404);
    }));
}

#[test]
fn handler_does_not_hold_a_request_that_it_has_not_asked_for() {
    let none = get(local(async || sleep(LONG).await));
    let head = get(local(async |_: Uri| sleep(LONG).await));
    run_virtually(async {
        for handler in [none, head] {
            let request_holds = Arc::new(());
            let request = Request::get("/").extension(Arc::clone(&request_holds)).body(Body::empty()).unwrap();
            let mut router: Router = Router::new().route("/", handler);
            let answering = router.call(request);
            let is_dropped = wait_until(|| Arc::strong_count(&request_holds) == 1);
            race!(_ = answering => unreachable!(), () = is_dropped => {});
        }
    });
}

#[test]
fn client_that_leaves_gets_its_handler_cleaned_up() {
    let counts = Rc::new([Cell::new(0), Cell::new(0)]);
    let router = Router::new().route("/hold", get(local(holding(&counts))));
    run(with_server(router, async |addr| {
        let client = ask(addr, "GET", "/hold", "").await;
        wait_until(|| counts[0].get() == 1).await;
        drop(client);
        wait_until(|| counts[1].get() == 1).await;
    }));
}

#[test]
fn stream_of_http2_is_served_and_cleaned_up_when_it_is_reset() {
    let counts = Rc::new([Cell::new(0), Cell::new(0)]);
    let router = Router::new().route("/hold", get(local(holding(&counts)))).route("/", get("hello"));
    run(with_server(router, async |addr| {
        let stream = HyperStream::new(TcpStream::connect(addr).await.unwrap());
        task_group!(|tg| {
            let mut builder = hyper::client::conn::http2::Builder::new(GroupExecutor::new(tg));
            let (mut sender, connection) = builder.timer(HyperTimer).handshake(stream).await.unwrap();
            tg.spawn(connection);
            let get = |path: &str| Request::get(format!("http://x{path}")).body(Empty::<Bytes>::new()).unwrap();
            assert!(timeout(millis(50), sender.send_request(get("/hold"))).await.is_err());
            wait_until(|| counts[1].get() == 1).await;
            let answer = sender.send_request(get("/")).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
            tg.cancel();
        });
    }));
}

#[test]
fn panic_in_a_handler_is_a_500_and_a_report_and_no_one_elses() {
    let reports = Reports::new();
    let bug = || async {
        if true {
            panic!("a bug");
        }
        ""
    };
    let router = Router::new().route("/bug", get(bug)).route("/local", get(local(bug))).route("/", get("hello"));
    run(with_server(router, async |addr| {
        assert_eq!(get_text(addr, "/bug").await, (500, String::new()));
        assert_eq!(get_text(addr, "/local").await, (500, String::new()));
        assert_eq!(get_text(addr, "/").await, ok("hello"));
    }));
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2]);
}

#[test]
fn handler_made_on_another_thread_panics_and_nothing_worse() {
    let reports = Reports::new();
    let router = std::thread::spawn(|| Router::new().route("/", get(local(async || "hello")))).join().unwrap();
    run(with_server(router, async |addr| assert_eq!(get_text(addr, "/").await.0, 500)));
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure]);
}

#[test]
fn a_job_spawned_on_another_thread_panics_there_and_the_server_goes_on() {
    let spawn_elsewhere = async |jobs: Jobs| {
        let spawning = thread::spawn(move || panic_text(|| _ = jobs.spawn(async {})));
        spawning.join().unwrap()
    };
    let router = Router::new().route("/", get(local(spawn_elsewhere)));
    run(with_server(router, async |addr| {
        for _ in 0..2 {
            let (status, text) = get_text(addr, "/").await;
            assert_eq!(status, 200);
            assert!(text.contains("on another thread than that of its server"), "{text}");
        }
    }));
}

#[test]
fn patience_without_end_is_patience() {
    run(async {
        let router = Router::new().route("/", get(local(async || "hello")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = Promise::new();
        task_group!(|tg| {
            tg.spawn(serve(&listener, router).patience(Duration::MAX).until(stop.wait()).into_future());
            assert_eq!(get_text(listener.local_addr().unwrap(), "/").await, ok("hello"));
            stop.set(()).unwrap();
        });
    });
}

#[test]
fn graceful_end_answers_what_runs_and_waits_for_jobs() {
    let events = Rc::new(RefCell::new(Vec::new()));
    let (note, noted) = (Rc::clone(&events), Rc::clone(&events));
    let slow = async move |jobs: Jobs| {
        let noted = Rc::clone(&noted);
        let job = async move {
            sleep(millis(100)).await;
            noted.borrow_mut().push("job");
        };
        jobs.spawn(job).unwrap();
        jobs.spawn(async { panic!("a job that ends nothing else") }).unwrap();
        sleep(millis(50)).await;
        "answered"
    };
    let endless = async move |stopping: Stopping| {
        assert!(!stopping.is_stopping());
        let lines = stream::iter(0..).then(async |n| Ok::<_, std::io::Error>(format!("{n}\n")));
        let lines = lines.then(async |line| {
            sleep(millis(5)).await;
            line
        });
        Body::from_stream(here(Box::pin(lines.take_until(Box::pin(stopping.wait())))))
    };
    let router = Router::new().route("/slow", get(local(slow))).route("/endless", get(local(endless)));
    run(async {
        let mut client = None;
        let mut endless = None;
        with_server(router, async |addr| {
            client = Some(ask(addr, "GET", "/slow", "").await);
            endless = Some(ask(addr, "GET", "/endless", "").await);
            sleep(millis(20)).await;
        })
        .await;
        note.borrow_mut().push("server");
        for (client, end) in [(client, "answered"), (endless, "0\r\n\r\n")] {
            let mut text = String::new();
            client.unwrap().read_to_string(&mut text).await.unwrap();
            assert!(text.ends_with(end), "{text}");
        }
    });
    assert_eq!(*events.borrow(), ["job", "server"]);
}

#[test]
fn the_tree_shows_who_spawned_a_job() {
    let draw = async |jobs: Jobs| {
        jobs.spawn(sleep(LONG)).unwrap();
        xiio::inspect::tree().await.to_string()
    };
    let place = format!("spawned at {}:{}", file!(), line!() - 3);
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let talk = async |addr| get_text(addr, "/").await.1;
        let router = Router::new().route("/", get(local(draw)));
        let server = serve(&listener, router).into_future();
        let addr = listener.local_addr().unwrap();
        let tree = xiio::race!(tree = talk(addr) => tree, () = server => unreachable!());
        assert!(tree.contains(&place), "{tree}");
    });
}

#[test]
fn grace_cancels_what_is_left_with_its_cleanup() {
    let counts = Rc::new([Cell::new(0), Cell::new(0)]);
    let job = holding(&counts);
    let start = async move |jobs: Jobs| {
        let job = job.clone();
        jobs.spawn(async move { job().await }).unwrap();
    };
    let router = Router::new().route("/hold", get(local(holding(&counts)))).route("/job", get(local(start)));
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let kept = Cell::new(None);
        let stop = async {
            assert_eq!(get_text(addr, "/job").await.0, 200);
            let client = ask(addr, "GET", "/hold", "").await;
            wait_until(|| counts[0].get() == 2).await;
            // Open to the end.
            kept.set(Some(client));
        };
        serve(&listener, router).until(stop).grace(millis(50)).await;
        assert_eq!(counts[1].get(), 2);
    });
}

#[test]
fn request_that_takes_too_long_is_cancelled_with_its_cleanup() {
    let counts = Rc::new([Cell::new(0), Cell::new(0)]);
    let router = Router::new()
        .route("/hold", get(local(holding(&counts))))
        .route("/", get("hello"))
        .layer(TimeLimit::new(millis(50)));
    run(with_server(router, async |addr| {
        assert_eq!(get_text(addr, "/hold").await, (503, "time limit is over".into()));
        assert_eq!(counts[1].get(), 1, "cleaned up before the answer");
        assert_eq!(get_text(addr, "/").await, ok("hello"));
    }));
}

#[test]
fn layers_that_name_the_clock_of_tokio_work_with_tokio_around() {
    use tower_http::timeout::TimeoutLayer;
    let layer = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, millis(50));
    let router = Router::new().route("/", get(pending::<&str>)).layer(layer);
    run(with_tokio(with_server(router.clone(), async |addr| assert_eq!(get_text(addr, "/").await.0, 408))));
    let talk = async |addr| assert_eq!(get_text(addr, "/").await.0, 408);
    run(with_tokio(with_workers(2, || router.clone(), talk)));
}

#[test]
fn connection_of_its_own_loop_is_served_and_ended() {
    run(async {
        let (mut client, stream) = UnixStream::pair().unwrap();
        let stop = Promise::new();
        let router = Router::new().route("/", get("hello"));
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, router, stop.wait()));
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut buf = [0; 1000];
            let n = client.read(&mut buf).await.unwrap();
            assert!(buf[..n].ends_with(b"hello"));
            // It would be kept alive.
            stop.set(()).unwrap();
            assert_eq!(client.read(&mut buf).await.unwrap(), 0);
        });
    });
}

#[test]
fn request_knows_its_client() {
    let router = || Router::new().route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()));
    let talk = async |addr| {
        let mut client = ask(addr, "GET", "/", "").await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n{}", client.local_addr().unwrap())), "{answer}");
    };
    run(with_server(router(), talk));
    run(with_workers(2, router, talk));
}

#[test]
fn request_over_a_unix_socket_knows_the_process_of_its_client() {
    let path = std::env::temp_dir().join(format!("xiio-axum-{}", std::process::id()));
    let pid = async |ConnectInfo(peer): ConnectInfo<UCred>| peer.pid().unwrap().to_string();
    run(async {
        let listener = UnixListener::bind(&path).unwrap();
        let talk = async {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with(&format!("\r\n{}", std::process::id())), "{answer}");
        };
        serve(&listener, Router::new().route("/", get(pid))).until(talk).await;
    });
    std::fs::remove_file(path).unwrap();
}

/// Has two errors ten times, and then no clients.
struct Refusing(TcpListener);

impl Listener for Refusing {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn each(&self, mut take: impl FnMut(io::Result<TcpStream>)) {
        for errno in [[libc::EMFILE; 10], [libc::ENOMEM; 10]].concat() {
            take(Err(io::Error::from_raw_os_error(errno)));
        }
        self.0.each(take).await;
    }

    fn peer(client: &TcpStream) -> io::Result<SocketAddr> {
        client.peer_addr()
    }
}

#[test]
fn error_that_comes_again_and_again_is_said_once_and_need_not_be_read() {
    assert!(rerun("program_that_cannot_take_clients").stderr(nobody_reads()).status().unwrap().success());

    let output = rerun("program_that_cannot_take_clients").stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().filter(|line| line.starts_with("cannot take a client: ")).count(), 2, "{said}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_cannot_take_clients() {
    run(async {
        let listener = Refusing(TcpListener::bind("127.0.0.1:0").await.unwrap());
        serve(&listener, Router::new()).until(sleep(millis(1))).await;
    });
}

/// Its destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

#[test]
fn what_a_job_leaves_ends_nothing_else() {
    let bombs = async |jobs: Jobs| {
        jobs.spawn(async { Bomb }).unwrap();
        jobs.spawn(async { std::panic::panic_any(Bomb) }).unwrap();
        "spawned"
    };
    let bomb = async || -> &'static str { std::panic::panic_any(Bomb) };
    run(with_server(Router::new().route("/", get(bombs)).route("/bomb", get(bomb)), async |addr| {
        for _ in 0..2 {
            assert_eq!(get_text(addr, "/").await, ok("spawned"));
            assert_eq!(get_text(addr, "/bomb").await.0, 500);
        }
    }));
}

#[test]
fn what_a_job_holds_that_never_begins_ends_nothing_else() {
    const N_JOBS: usize = 300;
    let stop = Promise::new();
    let stopping = stop.clone();
    let n_begun = Rc::new(Cell::new(0));
    let counted = Rc::clone(&n_begun);
    let spawning = async move |jobs: Jobs| {
        stopping.set(()).unwrap();
        // With something to clean up the server is not dropped at once.
        jobs.spawn(bracket((), async |()| pending::<()>().await, async |()| sleep(millis(1)).await)).unwrap();
        // More than begin before the server looks at anything else.
        for _ in 0..N_JOBS {
            let (bomb, counted) = (Bomb, Rc::clone(&counted));
            let job = async move {
                counted.set(counted.get() + 1);
                std::mem::forget(bomb);
            };
            jobs.spawn(job).unwrap();
        }
        pending::<&str>().await
    };
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = ask(listener.local_addr().unwrap(), "GET", "/", "").await;
        let router = Router::new().route("/", get(local(spawning)));
        race!(() = stop.wait() => {}, () = serve(&listener, router) => {});
    });
    assert!(n_begun.get() < N_JOBS);
}

#[test]
fn quiet_stream_is_kept_alive() {
    run_virtually(async {
        let items = stream::iter([1, 2]).then(async |n| {
            sleep(Duration::from_secs(25 * n)).await;
            n
        });
        let start = xiio::now();
        let items = keep_alive(items, Duration::from_secs(10), || 0);
        let items: Vec<_> = items.map(|n| (n, (xiio::now() - start).as_secs())).collect().await;
        assert_eq!(items, [(0, 10), (0, 20), (1, 25), (0, 35), (0, 45), (0, 55), (0, 65), (2, 75)]);
    });
}

#[test]
fn client_that_says_nothing_is_hung_up_on() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let slow = async || {
            sleep(millis(200)).await;
            "slow"
        };
        let router = Router::new().route("/slow", get(local(slow)));
        let stop = async {
            // Not enough to tell the language, and not enough for a request.
            for said in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
                let mut client = TcpStream::connect(addr).await.unwrap();
                client.write_all(said.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
            }
            assert_eq!(get_text(addr, "/slow").await, ok("slow"), "who has asked may wait");
        };
        serve(&listener, router).until(stop).patience(millis(50)).await;
    });
}

/// What a client of HTTP/2 begins with: the preface, its settings, and a request for `/`.
const REQUEST_OF_HTTP2: [&[u8]; 3] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'x'],
];

/// Serves 1 MiB to a client that says `said`, and gives the connection to `read`.
fn serve_much(said: &[u8], read: impl AsyncFnOnce(DuplexStream)) {
    let router = Router::new().route("/", get(async || vec![b'x'; 1 << 20]));
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        task_group!(|tg| {
            let served = tg.spawn(serve_connection(stream, router, pending()));
            client.write_all(said).await.unwrap();
            read(client).await;
            assert!(served.is_finished());
        });
    });
}

#[test]
fn client_of_http2_that_reads_no_more_is_hung_up_on() {
    // All of a request, and the settings only.
    for n_parts in [3, 2] {
        serve_much(&REQUEST_OF_HTTP2[..n_parts].concat(), async |client| {
            sleep(Duration::from_secs(3_600)).await;
            drop(client);
        });
    }
}

#[test]
fn client_of_http2_that_reads_hardly_anything_is_hung_up_on() {
    serve_much(&REQUEST_OF_HTTP2.concat(), async |mut client| {
        for _ in 0..100 {
            sleep(Duration::from_secs(30)).await;
            let _ = client.read(&mut [0; 1]).await;
        }
    });
}

/// The settings of a client of HTTP/2 whose windows never close.
const WIDE_WINDOWS: [&[u8]; 2] =
    [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0x60, 0, 0], &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0x60, 0, 0]];

/// A frame of HTTP/2.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    content: Vec<u8>,
}

impl Frame {
    const DATA: u8 = 0;
    const PING: u8 = 6;

    /// The next one, read at a KiB in so long; `None` when the server has hung up.
    async fn read(client: &mut DuplexStream, pause: Duration) -> Option<Self> {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.ok()?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut content = vec![0; len];
        for part in content.chunks_mut(1024) {
            sleep(pause).await;
            client.read_exact(part).await.ok()?;
        }
        Some(Self { kind: head[3], flags: head[4], content })
    }

    /// Whether it asks the client if it is still there, or behind the announcement of the end.
    fn is_question(&self) -> bool {
        self.kind == Self::PING && self.flags == 0
    }

    async fn answer(&self, client: &mut DuplexStream) {
        let _ = client.write_all(&[&[0, 0, 8, Self::PING, 1, 0, 0, 0, 0], &*self.content].concat()).await;
    }

    fn is_last_of_an_answer(&self) -> bool {
        self.kind == Self::DATA && self.flags & 1 == 1
    }
}

/// Reads an answer to its end, at a KiB in so long, and says how long it is. Answers questions.
async fn read_answer(client: &mut DuplexStream, pause: Duration) -> Option<usize> {
    let mut n_bytes = 0;
    loop {
        let frame = Frame::read(client, pause).await?;
        if frame.is_question() {
            frame.answer(client).await;
        }
        if frame.kind == Frame::DATA {
            n_bytes += frame.content.len();
        }
        if frame.is_last_of_an_answer() {
            return Some(n_bytes);
        }
    }
}

/// A request for `/`, as the so manieth stream of HTTP/2.
fn later_request_of_http2(stream: u8) -> Vec<u8> {
    let mut request = REQUEST_OF_HTTP2[2].to_vec();
    request[8] = stream;
    request
}

#[test]
fn answer_of_http2_may_be_read_slowly() {
    // What is read in time, while the server has more to write; and what is all on the way at once.
    for (buffer, n_bytes) in [(1 << 16, 1 << 20), (1 << 18, 200_000)] {
        run_virtually(async {
            let (mut client, stream) = xiio::io::duplex(buffer);
            let router = Router::new().route("/", get(async move || vec![b'x'; n_bytes]));
            task_group!(|tg| {
                tg.spawn(serve_connection(stream, router, pending()));
                let [preface, _, request] = REQUEST_OF_HTTP2;
                client.write_all(&[preface, &WIDE_WINDOWS.concat(), request].concat()).await.unwrap();
                assert_eq!(read_answer(&mut client, Duration::from_secs(1)).await, Some(n_bytes));
                client.write_all(&later_request_of_http2(3)).await.unwrap();
                assert_eq!(read_answer(&mut client, Duration::ZERO).await, Some(n_bytes), "it is still served");
                tg.cancel();
            });
        });
    }
}

#[test]
fn client_of_http2_that_is_gone_without_a_word_is_hung_up_on() {
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, Router::new().route("/", get("hello")), pending()));
            client.write_all(&REQUEST_OF_HTTP2.concat()).await.unwrap();
            assert_eq!(read_answer(&mut client, Duration::ZERO).await, Some(5));
            let start = xiio::now();
            while let Some(frame) = Frame::read(&mut client, Duration::ZERO).await {
                // It answers for a while.
                if xiio::now() - start < Duration::from_secs(100) {
                    frame.answer(&mut client).await;
                }
            }
            let took = (xiio::now() - start).as_secs();
            assert!((120..150).contains(&took), "{took}");
        });
    });
}

/// Answers all questions but the one behind the announcement of the end: such a client has not heard of it.
async fn answer_but_the_last_question(client: &mut DuplexStream, frame: &Frame) {
    const LAST: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
    if frame.is_question() && frame.content != LAST {
        frame.answer(client).await;
    }
}

#[test]
fn client_of_http2_that_does_not_hear_of_the_end_is_hung_up_on() {
    let n_asked = Rc::new(Cell::new(0));
    let counted = Rc::clone(&n_asked);
    let count = async move || counted.set(counted.get() + 1);
    let router = Router::new().route("/", get(local(count)));
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1 << 16);
        let stop = Promise::new();
        task_group!(|tg| {
            let served = tg.spawn(serve_connection(stream, router.clone(), stop.wait()));
            client.write_all(&REQUEST_OF_HTTP2.concat()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            n_asked.set(0);
            stop.set(()).unwrap();
            for stream in (3..200).step_by(2) {
                let _ = client.write_all(&later_request_of_http2(stream)).await;
                let read = async {
                    while let Some(frame) = Frame::read(&mut client, Duration::ZERO).await {
                        answer_but_the_last_question(&mut client, &frame).await;
                    }
                };
                if timeout(Duration::from_secs(10), read).await.is_ok() {
                    break;
                }
            }
            assert!(served.is_finished());
            assert!((1..=2).contains(&n_asked.get()), "{n_asked:?} requests were begun");
        });
    });
}

#[test]
fn answer_of_http2_that_was_begun_before_the_end_is_sent_however_long_it_takes() {
    const N_BYTES: usize = 200_000;
    // A half of what a client has room for without saying more.
    const STEP: u32 = 1 << 15;
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1 << 18);
        let stop = Promise::new();
        task_group!(|tg| {
            let router = Router::new().route("/", get(async || vec![b'x'; N_BYTES]));
            let served = tg.spawn(serve_connection(stream, router, stop.wait()));
            client.write_all(&REQUEST_OF_HTTP2.concat()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            stop.set(()).unwrap();
            let (mut n_bytes, mut n_allowed) = (0, 1 << 15);
            while n_bytes < N_BYTES {
                let frame = Frame::read(&mut client, Duration::ZERO).await.expect("the answer goes on");
                answer_but_the_last_question(&mut client, &frame).await;
                n_bytes += if frame.kind == Frame::DATA { frame.content.len() } else { 0 };
                if n_bytes >= n_allowed {
                    n_allowed += STEP as usize;
                    sleep(Duration::from_secs(30)).await;
                    for stream in [0, 1] {
                        let head = [0, 0, 4, 8, 0, 0, 0, 0, stream];
                        // It may have read all.
                        let _ = client.write_all(&[&head[..], &STEP.to_be_bytes()].concat()).await;
                    }
                }
            }
            served.await;
        });
    });
}

#[test]
fn answer_of_http2_may_wait_in_a_client_that_goes_on_to_read() {
    run_virtually(async {
        let (client, stream) = xiio::io::duplex(1024);
        let router = Router::new().route("/", get(async || vec![b'x'; 1 << 20]));
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, router, pending()));
            let mut builder = hyper::client::conn::http2::Builder::new(GroupExecutor::new(tg));
            let (mut sender, connection) = builder.timer(HyperTimer).handshake(HyperStream::new(client)).await.unwrap();
            tg.spawn(connection);
            let request = Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            sleep(Duration::from_secs(3_600)).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
            drop(sender);
        });
    });
}

#[test]
fn answer_of_http1_may_be_read_as_slowly_as_one_likes() {
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    serve_much(request, async |mut client| {
        let mut answer = vec![0; 500_000];
        client.read_exact(&mut answer).await.unwrap();
        sleep(Duration::from_secs(3_600)).await;
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() > 1 << 20);
    });
}

#[test]
fn client_that_does_not_ask_is_hung_up_on_when_its_patience_is_over() {
    let [preface, settings, _] = REQUEST_OF_HTTP2;
    let half_a_line: [&[u8]; 2] = [b"G", b"ET / HTTP/1.1\r\n"];
    for said in [half_a_line, [preface, settings]] {
        run_virtually(async {
            let (mut client, stream) = xiio::io::duplex(1024);
            task_group!(|tg| {
                tg.spawn(serve_connection(stream, Router::new(), pending()));
                let start = xiio::now();
                client.write_all(said[0]).await.unwrap();
                sleep(Duration::from_secs(19)).await;
                client.write_all(said[1]).await.unwrap();
                let _ = client.read_to_end(&mut Vec::new()).await;
                assert_eq!((xiio::now() - start).as_secs(), 20);
            });
        });
    }
}

#[test]
fn silent_client_does_not_hold_up_the_end() {
    run(async {
        let mut silent = None;
        let router = Router::new().route("/", get("hello"));
        with_server(router, async |addr| {
            silent = Some(TcpStream::connect(addr).await.unwrap());
            assert_eq!(get_text(addr, "/").await, ok("hello"));
        })
        .await;
        assert_eq!(silent.unwrap().read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn end_closes_a_listener_that_was_given_before_the_last_request_has_ended() {
    run(async {
        for n_workers in [None, Some(2)] {
            let has_begun = Promise::new();
            let router = {
                let has_begun = has_begun.clone();
                move || {
                    let has_begun = has_begun.clone();
                    let wait = async move || {
                        let _ = has_begun.set(());
                        sleep(LONG).await;
                    };
                    Router::new().route("/wait", get(local(wait)))
                }
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let stop = Promise::new();
            let server = match n_workers {
                None => serve(listener, router()),
                Some(n_workers) => serve_on(n_workers, listener, router),
            };
            task_group!(|tg| {
                tg.spawn(server.until(stop.wait()).into_future());
                let mut silent = TcpStream::connect(addr).await.unwrap();
                let busy = ask(addr, "GET", "/wait", "").await;
                has_begun.wait().await;
                stop.set(()).unwrap();
                // The server has noticed.
                assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
                assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
                TcpListener::bind(addr).await.unwrap();
                drop(busy);
            });
        }
    });
}

/// Listeners of one address.
fn listeners(n: usize) -> Vec<TcpListener> {
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = |_| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(addr).unwrap();
        let listener = socket.listen(64).unwrap();
        addr = listener.local_addr().unwrap();
        listener
    };
    (0..n).map(listen).collect()
}

async fn every_listener_is_served_and_closed_at_the_end(n_threads: usize) {
    let threads = Mutex::new(HashSet::new());
    let has_begun = Promise::new();
    let router = || {
        let alone = Rc::new(());
        threads.lock().unwrap().insert(thread::current().id());
        let greet = async move || {
            let _alone = Rc::clone(&alone);
            "hello"
        };
        let has_begun = has_begun.clone();
        let wait = async move || {
            let _ = has_begun.set(());
            sleep(LONG).await;
        };
        Router::new().route("/", get(local(greet))).route("/wait", get(local(wait)))
    };
    let listeners = listeners(3);
    let addr = listeners[0].local_addr().unwrap();
    let stop = Promise::new();
    task_group!(|tg| {
        tg.spawn(serve_each(listeners, router).until(stop.wait()).into_future());
        // By their ports they come to different listeners.
        gather((0..50).map(async |_| assert_eq!(get_text(addr, "/").await, ok("hello")))).await;
        let busy = ask(addr, "GET", "/wait", "").await;
        has_begun.wait().await;
        stop.set(()).unwrap();
        // Each worker closes its listener when it comes to it, whatever is still busy.
        while TcpListener::bind(addr).await.is_err() {
            sleep(millis(1)).await;
        }
        drop(busy);
    });
    assert_eq!(threads.into_inner().unwrap().len(), n_threads);
}

#[test]
fn each_worker_serves_the_clients_of_its_listener() {
    run(every_listener_is_served_and_closed_at_the_end(3));
}

#[test]
fn one_thread_serves_the_listeners_of_all_workers_with_virtual_time() {
    Tester::new().seed(1).run(|| every_listener_is_served_and_closed_at_the_end(1));
}

#[test]
fn server_in_a_tree_on_tokio_cleans_up_as_well() {
    let counts = Rc::new([Cell::new(0), Cell::new(0)]);
    let router = Router::new().route("/hold", get(local(holding(&counts))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(on_tokio(with_server(router, async |addr| {
        let client = ask(addr, "GET", "/hold", "").await;
        wait_until(|| counts[0].get() == 1).await;
        drop(client);
        wait_until(|| counts[1].get() == 1).await;
    })));
}

/// Serves on so many workers while `talk` runs, and ends in good order then.
async fn with_workers(workers: usize, router: impl Fn() -> Router + Send + Sync, talk: impl AsyncFnOnce(SocketAddr)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = async {
        talk(addr).await;
    };
    serve_on(workers, &listener, router).until(stop).await;
}

/// Counts of what has begun, and of what has released.
type Counts = Arc<[AtomicUsize; 2]>;

/// A router with a handler, and a job, that hold a bracket for ever, and one that says which thread it is on.
fn holding_router(counts: &Counts) -> Router {
    // Of the worker.
    let alone = Rc::new(thread::current().id());
    let hold = {
        let counts = Arc::clone(counts);
        async move || {
            let usage = async |_: &mut ()| {
                counts[0].fetch_add(1, SeqCst);
                sleep(LONG).await;
            };
            let release = async |()| {
                sleep(millis(1)).await;
                counts[1].fetch_add(1, SeqCst);
            };
            bracket((), usage, release).await;
        }
    };
    let job = hold.clone();
    let start = async move |jobs: Jobs| {
        let job = job.clone();
        jobs.spawn(async move { job().await }).unwrap();
    };
    let thread = async move || {
        xiio::yield_now().await;
        assert_eq!(*alone, thread::current().id());
        format!("{alone:?}")
    };
    Router::new().route("/hold", get(local(hold))).route("/job", get(local(start))).route("/thread", get(local(thread)))
}

/// Serves twelve clients, who stay, on so many workers, and asserts that each of so many threads with a router has as many of them.
async fn deal_out(workers: usize, n_threads: usize) {
    let (counts, n_routers) = (Counts::default(), AtomicUsize::new(0));
    let router = || {
        n_routers.fetch_add(1, SeqCst);
        holding_router(&counts)
    };
    let talk = async |addr| {
        let mut of_threads: BTreeMap<String, usize> = BTreeMap::new();
        let mut clients = Vec::new();
        for _ in 0..12 {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(b"GET /thread HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b")") {
                let mut buf = [0; 512];
                let n = client.read(&mut buf).await.unwrap();
                assert!(n > 0, "hung up on");
                answer.extend_from_slice(&buf[..n]);
            }
            let answer = String::from_utf8(answer).unwrap();
            *of_threads.entry(answer.rsplit("\r\n").next().unwrap().to_owned()).or_default() += 1;
            // It stays, so the next one goes to somebody else.
            clients.push(client);
        }
        assert_eq!(of_threads.len(), n_threads, "{of_threads:?}");
        assert!(of_threads.values().all(|n| *n == 12 / n_threads), "{of_threads:?}");
    };
    timeout(millis(30_000), with_workers(workers, router, talk)).await.expect("all are served");
    assert_eq!(n_routers.into_inner(), n_threads);
}

#[test]
fn clients_are_dealt_out_to_workers_with_routers_of_their_own() {
    for workers in [0, 1, 2, 3] {
        run(deal_out(workers, workers.max(1)));
    }
}

#[test]
fn clients_are_all_served_here_where_a_group_gets_no_workers() {
    run_virtually(deal_out(3, 1));
    Tester::new().seeds(0..3).run(|| deal_out(3, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(on_tokio(deal_out(3, 1)));
}

#[test]
fn client_of_a_worker_that_leaves_gets_its_handler_cleaned_up() {
    for workers in [0, 2] {
        let counts = Counts::default();
        run(with_workers(
            workers,
            || holding_router(&counts),
            async |addr| {
                let clients = [ask(addr, "GET", "/hold", "").await, ask(addr, "GET", "/hold", "").await];
                wait_until(|| counts[0].load(SeqCst) == 2).await;
                assert_eq!(counts[1].load(SeqCst), 0);
                drop(clients);
                wait_until(|| counts[1].load(SeqCst) == 2).await;
            },
        ));
    }
}

#[test]
fn graceful_end_answers_what_runs_on_workers() {
    for workers in [0, 2] {
        let n_begun = AtomicUsize::new(0);
        let slow = async |State(n_begun): State<Arc<AtomicUsize>>| {
            n_begun.fetch_add(1, SeqCst);
            sleep(millis(50)).await;
            "answered"
        };
        let n_begun = Arc::new(n_begun);
        let router = || Router::new().route("/slow", get(local(slow))).with_state(Arc::clone(&n_begun));
        run(async {
            let mut clients = Vec::new();
            with_workers(workers, router, async |addr| {
                for _ in 0..4 {
                    clients.push(ask(addr, "GET", "/slow", "").await);
                }
                wait_until(|| n_begun.load(SeqCst) == 4).await;
            })
            .await;
            for mut client in clients {
                let mut text = String::new();
                client.read_to_string(&mut text).await.unwrap();
                assert!(text.ends_with("answered"), "{text}");
            }
        });
    }
}

#[test]
fn grace_cancels_what_is_left_on_workers_with_its_cleanup() {
    for workers in [0, 2] {
        let counts = Counts::default();
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let kept = RefCell::new(Vec::new());
            let stop = async {
                for path in ["/hold", "/hold", "/job", "/job"] {
                    let client = ask(addr, "GET", path, "").await;
                    kept.borrow_mut().push(client);
                }
                wait_until(|| counts[0].load(SeqCst) == 4).await;
            };
            serve_on(workers, &listener, || holding_router(&counts)).until(stop).grace(millis(50)).await;
            assert_eq!(counts[1].load(SeqCst), 4, "{workers}");
        });
    }
}

#[test]
fn router_that_cannot_be_made_ends_the_server() {
    let text = panic_text(|| {
        run(with_workers(2, || panic!("no router"), async |_| sleep(LONG).await));
    });
    assert_eq!(text, "no router");
}
