//! Requests of hyper as tasks: whoever leaves, and however, every bracket releases, once.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Ready;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures::stream::{self, StreamExt};
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Buf, Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::rt::Executor as _;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use xiio::compat::{GroupExecutor, HyperStream, HyperTimer, RequestTasks};
use xiio::inspect::ReportKind;
use xiio::net::{TcpListener, TcpStream};
use xiio::{Promise, bracket, race, sleep, task_group, timeout};
use xiio_tests::{DropBomb, LONG, Reports, millis, run};

type Answer = Response<Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>>;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Language {
    Http1,
    Http2,
}
use Language::{Http1, Http2};

/// What the handlers have opened and released.
#[derive(Default)]
struct Ledger {
    n_opened: Cell<usize>,
    n_released: Cell<usize>,
    n_finished: Cell<usize>,
}

impl Ledger {
    async fn hold(&self, how_long: Duration) {
        self.n_opened.set(self.n_opened.get() + 1);
        let usage = async |_: &mut ()| {
            sleep(how_long).await;
            self.n_finished.set(self.n_finished.get() + 1);
        };
        let release = async |()| {
            sleep(millis(1)).await;
            self.n_released.set(self.n_released.get() + 1);
        };
        bracket((), usage, release).await;
    }

    fn n_held(&self) -> usize {
        self.n_opened.get() - self.n_released.get()
    }

    /// Polls for what has to come; there is no event to wait for at this end of a connection.
    async fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                sleep(millis(1)).await;
            }
        };
        timeout(millis(30_000), waiting).await.expect("the requests come to that");
    }
}

fn answer(text: &'static str) -> Answer {
    Response::new(Box::pin(Full::from(text)))
}

/// Answers with what the path asks for.
async fn handle(request: Request<Incoming>, ledger: &Ledger) -> Answer {
    let number = request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(0);
    match request.uri().path() {
        "/hold" => ledger.hold(Duration::from_micros(number)).await,
        "/panic" => panic!("a bug in a handler"),
        _ => {}
    }
    answer("done")
}

/// Serves one connection, to its end, and that of all its requests.
async fn serve<S>(stream: S, language: Language, ledger: &Ledger)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    serve_with(stream, language, async |request| handle(request, ledger).await).await;
}

async fn serve_with<S, H>(stream: S, language: Language, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: AsyncFn(Request<Incoming>) -> Answer,
{
    let handler = &handler;
    let service = service_fn(async move |request| Ok::<_, Infallible>(handler(request).await));
    let stream = HyperStream::new(stream);
    task_group!(name = "requests", |requests| {
        let service = RequestTasks::new(requests, service);
        // Errors are those of clients that leave.
        let _ = match language {
            Http1 => http1::Builder::new().timer(HyperTimer).serve_connection(stream, service).await,
            Http2 => {
                let executor = GroupExecutor::new(requests);
                http2::Builder::new(executor).timer(HyperTimer).serve_connection(stream, service).await
            }
        };
        requests.cancel();
    });
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

async fn ask(client: &mut (impl AsyncWrite + Unpin), path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap()
}

/// Runs `talk` with a client of HTTP/2.
async fn with_http2<T>(stream: TcpStream, talk: impl AsyncFnOnce(SendRequest<Empty<Bytes>>) -> T) -> T {
    task_group!(|tg| {
        let mut builder = hyper::client::conn::http2::Builder::new(GroupExecutor::new(tg));
        let (sender, connection) = builder.timer(HyperTimer).handshake(HyperStream::new(stream)).await.unwrap();
        tg.spawn(connection);
        let value = talk(sender).await;
        tg.cancel();
        value
    })
}

#[test]
fn what_hyper_spawns_is_drawn_with_the_place_of_its_executor() {
    let (line, tree) = run(async {
        task_group!(|tg| {
            let (executor, line) = (GroupExecutor::new(tg), line!());
            executor.execute(std::future::pending::<()>());
            xiio::yield_now().await;
            let tree = xiio::inspect::tree().await.to_string();
            tg.cancel();
            (line, tree)
        })
    });
    assert!(tree.contains(&format!("task, spawned at tests/tests/hyper_requests.rs:{line}")), "{tree}");
}

#[test]
fn client_of_http1_that_leaves_gets_its_request_cleaned_up() {
    run(async {
        let ledger = Ledger::default();
        let (mut client, server) = pair().await;
        task_group!(|tg| {
            tg.spawn(serve(server, Http1, &ledger));
            ask(&mut client, "/hold?3600000000").await;
            ledger.wait_until(|ledger| ledger.n_opened.get() == 1).await;
            drop(client);
        });
        assert_eq!((ledger.n_held(), ledger.n_finished.get()), (0, 0));
    });
}

#[test]
fn client_of_http1_that_leaves_with_more_behind_its_request_is_noticed_when_it_is_written_to() {
    run(async {
        let more = ["GET /hold?300000 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2), {
            let head = "POST /hold?300000 HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
            format!("{head}{}", "x".repeat(50_000))
        }];
        for said in more {
            let ledger = Ledger::default();
            let (mut client, server) = pair().await;
            task_group!(|tg| {
                tg.spawn(serve(server, Http1, &ledger));
                client.write_all(said.as_bytes()).await.unwrap();
                ledger.wait_until(|ledger| ledger.n_opened.get() == 1).await;
                drop(client);
            });
            assert_eq!((ledger.n_opened.get(), ledger.n_finished.get(), ledger.n_held()), (1, 1, 0));
        }
    });
}

#[test]
fn client_of_http1_that_leaves_in_the_middle_of_its_upload_is_an_error_of_the_body() {
    run(async {
        let ledger = &Ledger::default();
        let (mut client, server) = pair().await;
        task_group!(|tg| {
            let handler = async move |request: Request<Incoming>| {
                request.into_body().collect().await.unwrap_err();
                // It is not cancelled.
                ledger.hold(millis(50)).await;
                answer("too little")
            };
            tg.spawn(serve_with(server, Http1, handler));
            client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\npart").await.unwrap();
            drop(client);
        });
        assert_eq!(ledger.n_finished.get(), 1);
    });
}

#[test]
fn limit_of_the_requests_streams_where_hyper_has_another_group() {
    run(async {
        let ledger = leaked_ledger();
        let (client, server) = pair().await;
        task_group!(|tg| {
            tg.spawn(async {
                let handler = async |_: Request<Incoming>| Ok::<_, Infallible>(slow_body(ledger, millis(1), None));
                task_group!(|of_hyper| {
                    task_group!(limit = 1, |requests| {
                        let service = RequestTasks::new(requests, service_fn(handler));
                        let builder = http2::Builder::new(GroupExecutor::new(of_hyper));
                        let _ = builder.serve_connection(HyperStream::new(server), service).await;
                    });
                });
            });
            let talk = async |mut sender: SendRequest<_>| {
                let both = [(); 2].map(|()| sender.send_request(get("/")));
                for asked in both {
                    let body = asked.await.unwrap().into_body().collect().await.unwrap();
                    assert_eq!(body.to_bytes(), "frame frame frame ");
                }
            };
            with_http2(client, talk).await;
        });
    });
}

#[test]
fn stream_of_http2_that_is_reset_is_cleaned_up_and_its_neighbour_goes_on() {
    run(async {
        let ledger = Ledger::default();
        let (client, server) = pair().await;
        task_group!(|tg| {
            tg.spawn(serve(server, Http2, &ledger));
            let talk = async |mut sender: SendRequest<_>| {
                let neighbour = sender.send_request(get("/hold?300000"));
                assert!(timeout(millis(50), sender.send_request(get("/hold?3600000000"))).await.is_err());
                ledger.wait_until(|ledger| ledger.n_released.get() == 1).await;
                assert_eq!(ledger.n_finished.get(), 0, "the one that was reset");
                assert_eq!(neighbour.await.unwrap().status(), StatusCode::OK);
            };
            with_http2(client, talk).await;
        });
        assert_eq!((ledger.n_opened.get(), ledger.n_held(), ledger.n_finished.get()), (2, 0, 1));
    });
}

#[test]
fn connection_of_http2_that_is_lost_takes_all_its_requests_along() {
    run(async {
        let ledger = Ledger::default();
        let (client, server) = pair().await;
        task_group!(|tg| {
            tg.spawn(serve(server, Http2, &ledger));
            let talk = async |mut sender: SendRequest<_>| {
                let _running: Vec<_> = (0..10).map(|_| sender.send_request(get("/hold?3600000000"))).collect();
                ledger.wait_until(|ledger| ledger.n_opened.get() == 10).await;
            };
            with_http2(client, talk).await;
        });
        assert_eq!((ledger.n_held(), ledger.n_finished.get()), (0, 0));
    });
}

#[test]
fn end_of_the_server_cancels_what_runs_and_waits_for_it() {
    run(async {
        for language in [Http1, Http2] {
            let ledger = Ledger::default();
            let (mut client, server) = pair().await;
            let stop = Promise::new();
            task_group!(|tg| {
                let serving = tg.spawn(serve(server, language, &ledger));
                tg.spawn(async {
                    if language == Http1 {
                        ask(&mut client, "/hold?3600000000").await;
                        return stop.wait().await;
                    }
                    let talk = async |mut sender: SendRequest<_>| {
                        let _running = sender.send_request(get("/hold?3600000000"));
                        stop.wait().await;
                    };
                    with_http2(client, talk).await;
                });
                ledger.wait_until(|ledger| ledger.n_opened.get() == 1).await;
                serving.cancel().await;
                assert_eq!((ledger.n_held(), ledger.n_finished.get()), (0, 0), "{language:?}");
                stop.set(()).unwrap();
            });
        }
    });
}

#[test]
fn graceful_end_answers_what_runs() {
    run(async {
        let ledger = &Ledger::default();
        let (mut client, server) = pair().await;
        let service = service_fn(async move |request| Ok::<_, Infallible>(handle(request, ledger).await));
        task_group!(|requests| {
            let service = RequestTasks::new(requests, service);
            let mut connection = pin!(http1::Builder::new().serve_connection(HyperStream::new(server), service));
            ask(&mut client, "/hold?50000").await;
            let _ = timeout(millis(20), connection.as_mut()).await;
            connection.as_mut().graceful_shutdown();
            connection.await.unwrap();
        });
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("done"), "{text}");
        assert_eq!((ledger.n_held(), ledger.n_finished.get()), (0, 1));
    });
}

#[test]
fn panic_in_a_request_is_a_500_and_a_report_and_no_one_elses() {
    let reports = Reports::new();
    run(async {
        let ledger = &Ledger::default();
        for language in [Http1, Http2] {
            let (client, server) = pair().await;
            task_group!(|tg| {
                tg.spawn(serve(server, language, ledger));
                if language == Http1 {
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake(HyperStream::new(client)).await.unwrap();
                    tg.spawn(connection);
                    let get = |path: &str| Request::get(path).header("host", "x").body(Empty::<Bytes>::new()).unwrap();
                    let failed = sender.send_request(get("/panic")).await.unwrap();
                    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
                    assert!(failed.into_body().collect().await.unwrap().to_bytes().is_empty());
                    assert_eq!(sender.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
                } else {
                    let talk = async |mut sender: SendRequest<_>| {
                        let neighbour = sender.send_request(get("/hold?50000"));
                        let failed = sender.send_request(get("/panic")).await.unwrap();
                        assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
                        assert_eq!(neighbour.await.unwrap().status(), StatusCode::OK);
                    };
                    with_http2(client, talk).await;
                }
            });
        }
    });
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 2]);
    assert!(reports.texts()[0].contains("a bug in a handler"), "{:?}", reports.texts());
}

#[test]
fn request_that_another_cancels_is_a_503() {
    run(async {
        let (mut client, server) = pair().await;
        task_group!(|tg| {
            tg.spawn(async {
                let has_begun = Promise::new();
                let service = service_fn(async |_: Request<Incoming>| {
                    has_begun.set(()).unwrap();
                    std::future::pending::<()>().await;
                    Ok::<_, Infallible>(answer("never"))
                });
                task_group!(|requests| {
                    let service = RequestTasks::new(requests, service);
                    let mut connection =
                        pin!(http1::Builder::new().serve_connection(HyperStream::new(server), service));
                    race!(has_begun.wait(), async { connection.as_mut().await.unwrap() });
                    requests.cancel();
                    // It ends after the answer.
                    connection.as_mut().graceful_shutdown();
                    connection.await.unwrap();
                });
            });
            ask(&mut client, "/").await;
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("HTTP/1.1 503"), "{text}");
        });
    });
}

/// A body of three frames with a pause before each, in which its stream holds a bracket.
fn slow_body(ledger: &'static Ledger, pause: Duration, fails_at: Option<usize>) -> Answer {
    let frames = stream::iter(0..3).then(move |n| async move {
        ledger.hold(pause).await;
        assert!(fails_at != Some(n), "a bug in a body");
        Ok(Frame::data(Bytes::from_static(b"frame ")))
    });
    Response::new(Box::pin(StreamBody::new(frames)))
}

/// hyper asks for bodies that borrow nothing.
fn leaked_ledger() -> &'static Ledger {
    Box::leak(Box::default())
}

#[test]
fn body_that_is_streamed_comes_whole_and_one_that_panics_breaks_off() {
    let reports = Reports::new();
    run(async {
        let ledger = leaked_ledger();
        for language in [Http1, Http2] {
            let (client, server) = pair().await;
            task_group!(|tg| {
                let handler = async |request: Request<Incoming>| match request.uri().path() {
                    "/good" => slow_body(ledger, millis(1), None),
                    "/early" => slow_body(ledger, millis(1), Some(0)),
                    _ => slow_body(ledger, millis(1), Some(1)),
                };
                tg.spawn(serve_with(server, language, handler));
                let fetch = async |response: Response<Incoming>| response.into_body().collect().await;
                if language == Http2 {
                    let talk = async |mut sender: SendRequest<_>| {
                        for path in ["/good", "/bad", "/early", "/good"] {
                            let body = fetch(sender.send_request(get(path)).await.unwrap()).await;
                            match path {
                                "/good" => assert_eq!(body.unwrap().to_bytes(), "frame frame frame "),
                                _ => assert!(body.is_err()),
                            }
                        }
                    };
                    with_http2(client, talk).await;
                } else {
                    let stream = HyperStream::new(client);
                    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                    tg.spawn(connection);
                    let get = |path: &str| Request::get(path).header("host", "x").body(Empty::<Bytes>::new()).unwrap();
                    let body = fetch(sender.send_request(get("/good")).await.unwrap()).await.unwrap();
                    assert_eq!(body.to_bytes(), "frame frame frame ");
                    assert!(fetch(sender.send_request(get("/bad")).await.unwrap()).await.is_err());
                }
            });
        }
        assert_eq!(ledger.n_held(), 0);
    });
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 3], "{:?}", reports.texts());
}

/// A service for requests that no client sends.
struct ByHand<F>(F);

impl<F, A, B, E> Service<Request<()>> for ByHand<F>
where
    F: Fn() -> A,
    A: Future<Output = Result<Response<B>, E>>,
{
    type Response = Response<B>;
    type Error = E;
    type Future = A;

    fn call(&self, _: Request<()>) -> A {
        self.0()
    }
}

/// What panics when it is dropped, where hyper wants data or an error.
struct Odd(DropBomb);

fn odd(text: &'static str) -> Odd {
    Odd(DropBomb(text))
}

impl Buf for Odd {
    fn remaining(&self) -> usize {
        1
    }

    fn chunk(&self) -> &[u8] {
        b"x"
    }

    fn advance(&mut self, _: usize) {}
}

impl fmt::Debug for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.0)
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.0)
    }
}

impl Error for Odd {}

#[test]
fn panic_in_what_a_request_leaves_that_never_begins_is_only_reported() {
    let reports = Reports::new();
    run(async {
        task_group!(|requests| {
            let service = ByHand(|| {
                let left = DropBomb("a bug in what is left");
                async {
                    drop(left);
                    Ok::<_, Infallible>(answer("never"))
                }
            });
            // As hyper does where the client sends and closes at once.
            drop(RequestTasks::new(requests, service).call(Request::new(())));
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["a bug in what is left"]);
}

#[test]
fn panic_before_a_request_begins_is_reported_though_nobody_waits_for_it() {
    let reports = Reports::new();
    run(async {
        task_group!(|requests| {
            let service = ByHand(|| -> Ready<Result<Answer, Infallible>> { panic!("a bug in a call") });
            drop(RequestTasks::new(requests, service).call(Request::new(())));
        });
    });
    reports.assert_one(ReportKind::LaterFailure, &["a bug in a call"]);
}

#[test]
fn panic_in_what_nobody_takes_of_an_answer_is_only_reported() {
    let reports = Reports::new();
    run(async {
        task_group!(|requests| {
            let service = ByHand(async || Err::<Answer, _>(odd("a bug in an error")));
            let request = RequestTasks::new(requests, service).call(Request::new(()));
            xiio::yield_now().await;
            drop(request);
            let service = ByHand(async || {
                let texts = ["a bug in a first frame", "a bug in a frame", "a bug in a frame that waits"];
                let frames = texts.map(|text| Ok::<_, Infallible>(Frame::data(odd(text))));
                Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(frames))))
            });
            let service = RequestTasks::new(requests, service);
            // Before its head is taken, and after.
            let request = service.call(Request::new(()));
            xiio::yield_now().await;
            drop(request);
            let response = service.call(Request::new(())).await.unwrap();
            xiio::yield_now().await;
            drop(response);
        });
    });
    assert_eq!(reports.kinds(), [ReportKind::LaterFailure; 7], "{:?}", reports.texts());
}

#[test]
fn body_is_not_polled_after_its_error() {
    let reports = Reports::new();
    let n_polls = Cell::new(0);
    run(async {
        task_group!(|requests| {
            let service = ByHand(async || {
                let frames = stream::poll_fn(|_| {
                    n_polls.set(n_polls.get() + 1);
                    Poll::Ready(Some(match n_polls.get() {
                        1 | 2 => Ok(Frame::data(Bytes::from_static(b"frame "))),
                        3 => Err("no more"),
                        n => panic!("poll {n}"),
                    }))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
            });
            let service = RequestTasks::new(requests, service);
            let error = service.call(Request::new(())).await.unwrap().into_body().collect().await.unwrap_err();
            assert_eq!(error.to_string(), "no more");
        });
    });
    reports.assert_none();
    assert_eq!(n_polls.get(), 3);
}

#[test]
fn body_whose_error_waits_is_not_polled_when_the_client_leaves() {
    let reports = Reports::new();
    let has_failed = Cell::new(false);
    run(async {
        task_group!(|requests| {
            let service = ByHand(async || {
                let held = stream::once(bracket((), async |_| sleep(LONG).await, async |()| sleep(millis(1)).await));
                let held = held.filter_map(async |()| None);
                let frames = stream::iter(0..4).map(|n| {
                    has_failed.set(n == 2);
                    assert!(n < 3, "polled after its error");
                    if n < 2 { Ok(Frame::data(Bytes::from_static(b"frame "))) } else { Err("no more") }
                });
                let frames = stream::select(Box::pin(held), frames);
                Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
            });
            let response = RequestTasks::new(requests, service).call(Request::new(())).await.unwrap();
            while !has_failed.get() {
                xiio::yield_now().await;
            }
            drop(response);
        });
    });
    // What it holds beside its error has nobody to poll it.
    reports.assert_one(ReportKind::CleanupSkipped, &["a `bracket`"]);
}

/// A body without end that always has a frame, and a bracket beside.
fn greedy_body(ledger: &'static Ledger) -> Answer {
    let frames = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 1 << 16]))));
    let held = stream::once(ledger.hold(LONG)).filter_map(async |()| None);
    Response::new(Box::pin(StreamBody::new(stream::select(frames, Box::pin(held)))))
}

#[test]
fn body_that_the_client_leaves_in_the_middle_cleans_up() {
    body_that_is_left(|ledger| slow_body(ledger, LONG, None));
}

#[test]
fn body_that_the_client_leaves_while_a_frame_waits_cleans_up() {
    body_that_is_left(greedy_body);
}

fn body_that_is_left(body: impl Fn(&'static Ledger) -> Answer) {
    run(async {
        for language in [Http1, Http2] {
            let ledger = leaked_ledger();
            let (mut client, server) = pair().await;
            task_group!(|tg| {
                tg.spawn(serve_with(server, language, async |_| body(ledger)));
                if language == Http1 {
                    ask(&mut client, "/").await;
                    ledger.wait_until(|ledger| ledger.n_opened.get() == 1).await;
                    drop(client);
                } else {
                    let talk = async |mut sender: SendRequest<_>| {
                        let response = sender.send_request(get("/")).await.unwrap();
                        ledger.wait_until(|ledger| ledger.n_opened.get() == 1).await;
                        // Resets the stream.
                        drop(response);
                        ledger.wait_until(|ledger| ledger.n_held() == 0).await;
                    };
                    with_http2(client, talk).await;
                }
            });
            assert_eq!((ledger.n_held(), ledger.n_finished.get()), (0, 0), "{language:?}");
        }
    });
}

/// A generator of numbers below a bound, the same in each run.
struct Dice(Cell<u64>);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state % bound
    }
}

fn certificate() -> (TlsAcceptor, TlsConnector) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(certified.cert);
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Plain(Language),
    Tls,
}

/// A client that comes to `addr` and leaves at a moment that the dice say: before its request, while it runs, or after it.
async fn come_and_leave(way: Way, addr: SocketAddr, tls: &TlsConnector, dice: &Dice) {
    let path = format!("/hold?{}", dice.below(3000));
    // Some wait for their answer.
    let stay = if dice.below(3) == 0 { LONG } else { Duration::from_micros(dice.below(4000)) };
    let mut stream = TcpStream::connect(addr).await.unwrap();
    match way {
        Way::Plain(Http1) => {
            let _ = timeout(stay, ask_and_wait(&mut stream, &path)).await;
        }
        Way::Plain(Http2) => {
            let talk = async |mut sender: SendRequest<_>| {
                let mut running: Vec<_> = (0..4).map(|_| sender.send_request(get(&path))).collect();
                // One is reset, before the connection is lost.
                sleep(stay.min(millis(4)) / 2).await;
                running.pop();
                for answer in running {
                    let _ = answer.await;
                }
            };
            let _ = timeout(stay, with_http2(stream, talk)).await;
        }
        Way::Tls => {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = tls.connect(name, stream).await.unwrap();
            // Asked whatever the hour: the handshakes of the others are slow in a debug build, and hold up all clocks.
            ask(&mut stream, &path).await;
            stream.flush().await.unwrap();
            let _ = timeout(stay, stream.read(&mut [0; 1000])).await;
        }
    }
}

async fn ask_and_wait(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) {
    ask(stream, path).await;
    let _ = stream.read(&mut [0; 1000]).await;
}

/// `n_clients` come, `n_at_once` of them, and leave.
fn storm(way: Way, n_clients: usize, n_at_once: usize) {
    let (acceptor, connector) = certificate();
    run(async {
        let dice = Dice(Cell::new(0x2545_F491_4F6C_DD1D));
        let ledger = Ledger::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let has_come = Cell::new(0);
        task_group!(|tg| {
            tg.spawn(async {
                task_group!(name = "clients", |clients| {
                    while has_come.get() < n_clients {
                        let (stream, _) = listener.accept().await.unwrap();
                        has_come.set(has_come.get() + 1);
                        let (ledger, acceptor) = (&ledger, &acceptor);
                        clients.spawn(async move {
                            match way {
                                Way::Plain(language) => serve(stream, language, ledger).await,
                                Way::Tls => serve(acceptor.accept(stream).await.unwrap(), Http1, ledger).await,
                            }
                        });
                    }
                });
            });
            task_group!(limit = n_at_once, |clients| {
                for _ in 0..n_clients {
                    clients.spawn(come_and_leave(way, addr, &connector, &dice));
                }
            });
        });
        let n_cancelled = ledger.n_opened.get() - ledger.n_finished.get();
        println!("{way:?}: {} opened, {n_cancelled} of them cancelled", ledger.n_opened.get());
        assert_eq!(ledger.n_held(), 0);
        assert!(n_cancelled > n_clients / 20 && ledger.n_finished.get() > n_clients / 20, "of each kind some");
    });
}

#[test]
fn storm_of_clients_of_http1_that_leave_at_random_releases_every_bracket() {
    storm(Way::Plain(Http1), 2000, 20);
}

#[test]
fn storm_of_clients_of_http2_that_leave_at_random_releases_every_bracket() {
    storm(Way::Plain(Http2), 1000, 20);
}

#[test]
fn storm_of_clients_of_tls_that_leave_at_random_releases_every_bracket() {
    storm(Way::Tls, 500, 4);
}
