//! WebSockets, with a client of another library on a thread.
#![allow(missing_docs)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{IntoFuture, pending};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::routing::{any, get};
use futures::{SinkExt, StreamExt};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket as Client};
use xiio::compat::{GroupExecutor, HyperStream, HyperTimer};
use xiio::io::{DuplexStream, Read, Write};
use xiio::net::TcpListener;
use xiio::{Promise, bracket, in_thread, now, sleep, task_group, timeout};
use xiio_axum::ws::{WebSocket, WebSocketUpgrade};
use xiio_axum::{TimeLimit, here, serve, serve_connection, serve_on};
use xiio_tests::{millis, run, run_virtually};

/// Serves `router`, and runs `talk` on a thread beside it.
fn with_server(router: Router, talk: impl FnOnce(SocketAddr, Promise<()>) + Send + 'static) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Promise::new();
        let stopper = stop.clone();
        task_group!(|tg| {
            tg.spawn(serve(&listener, router).until(stop.wait()).into_future());
            in_thread(move || talk(addr, stopper)).await;
            let _ = stop.set(());
        });
    });
}

fn open(addr: SocketAddr, path: &str) -> Client<TcpStream> {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(millis(30_000))).unwrap();
    tungstenite::client(format!("ws://{addr}{path}"), stream).unwrap().0
}

/// Sends back each text; counts those that have said goodbye.
fn echo(
    n_goodbyes: &Rc<Cell<usize>>,
) -> impl Fn(WebSocketUpgrade) -> std::future::Ready<axum::response::Response> + Clone + Send + Sync + 'static {
    let n_goodbyes = here(Rc::clone(n_goodbyes));
    move |upgrade| {
        let n_goodbyes = n_goodbyes.clone();
        let talk = move |socket| async move {
            let usage = async |socket: &mut WebSocket| {
                while let Some(Ok(message)) = socket.recv().await {
                    assert!(message.to_text().is_ok_and(|text| text != "bug"), "a client that is odd");
                    if message.is_text() && socket.send(message).await.is_err() {
                        break;
                    }
                }
            };
            let release = async |mut socket: WebSocket| {
                n_goodbyes.set(n_goodbyes.get() + 1);
                let _ = socket.send(Message::text("goodbye")).await;
                let _ = timeout(millis(10_000), socket.close()).await;
            };
            bracket(socket, usage, release).await;
        };
        std::future::ready(upgrade.protocols(&["one", "two"]).max_message_bytes(100).on_upgrade(talk))
    }
}

fn router(n_goodbyes: &Rc<Cell<usize>>) -> Router {
    Router::new().route("/echo", any(echo(n_goodbyes))).route("/", get("hello"))
}

#[test]
fn messages_go_both_ways_until_the_client_closes() {
    let n_goodbyes = Rc::new(Cell::new(0));
    with_server(router(&n_goodbyes), |addr, _| {
        let mut client = open(addr, "/echo");
        for text in ["one", "two", "three"] {
            client.send(Message::text(text)).unwrap();
            assert_eq!(client.read().unwrap(), Message::text(text));
        }
        client.send(Message::Ping("x".into())).unwrap();
        assert_eq!(client.read().unwrap(), Message::Pong("x".into()));
        client.close(None).unwrap();
        while client.read().is_ok() {}
    });
    assert_eq!(n_goodbyes.get(), 1);
}

#[test]
fn end_of_the_server_says_goodbye_to_each() {
    let n_goodbyes = Rc::new(Cell::new(0));
    with_server(router(&n_goodbyes), |addr, stop| {
        let mut clients: Vec<_> = (0..10).map(|_| open(addr, "/echo")).collect();
        for client in &mut clients {
            client.send(Message::text("hello")).unwrap();
            assert_eq!(client.read().unwrap(), Message::text("hello"));
        }
        stop.set(()).unwrap();
        for client in &mut clients {
            assert_eq!(client.read().unwrap(), Message::text("goodbye"));
            assert!(client.read().unwrap().is_close());
        }
    });
    assert_eq!(n_goodbyes.get(), 10);
}

#[test]
fn sockets_that_stay_count_for_their_worker() {
    let talk = async |mut socket: WebSocket| {
        let thread = format!("{:?}", std::thread::current().id());
        let _ = socket.send(Message::text(thread)).await;
        while socket.recv().await.is_some() {}
    };
    let router = || Router::new().route("/", any(async move |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk)));
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = async {
            let threads = in_thread(move || {
                let mut clients = Vec::new();
                let mut threads = BTreeMap::<String, usize>::new();
                for _ in 0..8 {
                    let mut client = open(addr, "/");
                    *threads.entry(client.read().unwrap().to_string()).or_default() += 1;
                    clients.push(client);
                }
                threads
            });
            assert_eq!(threads.await.into_values().collect::<Vec<_>>(), [4, 4]);
        };
        serve_on(2, &listener, router).until(stop).await;
    });
}

/// Asks for a WebSocket over HTTP/1, and gets it.
async fn become_websocket(client: &mut DuplexStream) {
    assert_eq!(ask_for_websocket(client).await, "HTTP/1.1 101");
}

/// Asks for a WebSocket over HTTP/1; gives the beginning of the answer.
async fn ask_for_websocket(client: &mut DuplexStream) -> String {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n";
    client.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    String::from_utf8(head.to_vec()).unwrap()
}

#[test]
fn websocket_that_the_answer_does_not_open_is_never_talked_to() {
    let has_begun = Rc::new(Cell::new(false));
    let held = Rc::new(());
    let begin = here((Rc::clone(&has_begun), Rc::clone(&held)));
    let handler = move |upgrade: WebSocketUpgrade| {
        let begin = begin.clone();
        let opened = upgrade.on_upgrade(async move |_| begin.0.set(true));
        here(async {
            drop(opened);
            xiio::sleep(millis(1_000)).await;
            StatusCode::INTERNAL_SERVER_ERROR
        })
    };
    let router = Router::new().route("/", any(handler));
    let with_limit = router.clone().layer(TimeLimit::new(millis(500)));
    for (router, status) in [(router, "500"), (with_limit, "503")] {
        run_virtually(async {
            let (mut client, stream) = xiio::io::duplex(1024);
            let n_holders = Rc::strong_count(&held);
            task_group!(|tg| {
                tg.spawn(serve_connection(stream, router, std::future::pending()));
                assert!(ask_for_websocket(&mut client).await.ends_with(status));
                xiio::sleep(millis(1_000)).await;
                let n_left = Rc::strong_count(&held);
                drop(client);
                xiio::sleep(millis(1_000)).await;
                assert!(!has_begun.get());
                assert!(n_left <= n_holders, "what was to talk is dropped with the answer");
            });
        });
    }
}

#[test]
fn websocket_whose_client_leaves_before_the_answer_is_never_talked_to() {
    let has_begun = Rc::new(Cell::new(false));
    let begin = here(Rc::clone(&has_begun));
    let handler = move |upgrade: WebSocketUpgrade| {
        let begin = begin.clone();
        let opened = upgrade.on_upgrade(async move |_| begin.set(true));
        here(async {
            xiio::sleep(millis(1_000)).await;
            opened
        })
    };
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        task_group!(|tg| {
            let router = Router::new().route("/", any(handler));
            tg.spawn(serve_connection(stream, router, std::future::pending()));
            let _ = timeout(millis(500), ask_for_websocket(&mut client)).await;
            drop(client);
        });
    });
    assert!(!has_begun.get());
}

#[test]
fn client_that_does_not_answer_the_goodbye_does_not_hold_up_the_end() {
    let close = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |socket| {
            let usage = async |socket: &mut WebSocket| while socket.recv().await.is_some() {};
            bracket(socket, usage, async |socket| socket.close().await).await;
        })
    };
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        let stop = Promise::new();
        let start = now();
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, Router::new().route("/", any(close)), stop.wait()));
            become_websocket(&mut client).await;
            stop.set(()).unwrap();
        });
        assert!(now() - start < millis(10_000));
    });
}

#[test]
fn client_with_many_small_messages_keeps_no_task_from_its_turn() {
    const N_MESSAGES: usize = 10_000;
    let n_received = Rc::new(Cell::new(0));
    let talk = {
        let n_received = here(Rc::clone(&n_received));
        move |upgrade: WebSocketUpgrade| {
            let n_received = n_received.clone();
            let talk = async move |mut socket: WebSocket| {
                while let Some(Ok(_)) = socket.recv().await {
                    n_received.set(n_received.get() + 1);
                }
            };
            std::future::ready(upgrade.on_upgrade(talk))
        }
    };
    run(async {
        let (mut client, stream) = xiio::io::duplex(1 << 20);
        let stop = Promise::new();
        let mut longest_turn = 0;
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, Router::new().route("/", any(talk)), stop.wait()));
            become_websocket(&mut client).await;
            // A text of one byte, under a mask of zeros.
            client.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x'].repeat(N_MESSAGES)).await.unwrap();
            while n_received.get() < N_MESSAGES {
                let before = n_received.get();
                xiio::yield_now().await;
                longest_turn = longest_turn.max(n_received.get() - before);
            }
            stop.set(()).unwrap();
        });
        assert!(longest_turn <= 1_000, "{longest_turn} messages in one turn");
    });
}

/// A message to the server, under a mask of zeros.
fn masked(kind: u8, text: &[u8]) -> Vec<u8> {
    [&[0x80 | kind, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0], text].concat()
}

#[test]
fn client_that_sends_pings_and_reads_nothing_makes_the_server_hold_little() {
    let talk = async |mut socket: WebSocket| while let Some(Ok(_)) = socket.recv().await {};
    let router = Router::new().route("/", any(async move |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk)));
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        let stop = Promise::new();
        let mut n_bytes = 0;
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, router, stop.wait()));
            become_websocket(&mut client).await;
            let pings = masked(9, &[b'x'; 125]).repeat(100_000);
            let _ = timeout(millis(60_000), client.write_all(&pings)).await;
            let mut buf = [0; 4096];
            while let Ok(Ok(n @ 1..)) = timeout(millis(1_000), client.read(&mut buf)).await {
                n_bytes += n;
            }
            stop.set(()).unwrap();
        });
        assert!(n_bytes > 10 * 127, "pings are answered");
        assert!(n_bytes < 100_000, "{n_bytes} bytes were held");
    });
}

#[test]
fn client_that_pings_and_reads_later_gets_each_answer_and_is_heard() {
    const N_PINGS: usize = 10_000;
    let talk = async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    };
    let router = Router::new().route("/", any(async move |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk)));
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, router, std::future::pending()));
            become_websocket(&mut client).await;
            let (mut reader, mut writer) = (&client, &client);
            tg.spawn(async move {
                writer.write_all(&masked(9, b"ping").repeat(N_PINGS)).await.unwrap();
                writer.write_all(&masked(1, b"text")).await.unwrap();
                writer.write_all(&masked(8, b"")).await.unwrap();
            });
            xiio::sleep(millis(60_000)).await;
            let mut answers = Vec::new();
            reader.read_to_end(&mut answers).await.unwrap();
            let head_end = answers.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            let expected = [b"\x8a\x04ping".repeat(N_PINGS), b"\x81\x04text\x88\x00".to_vec()].concat();
            assert_eq!(&answers[head_end..], &expected);
        });
    });
}

#[test]
fn answer_that_cannot_be_sent_is_one_error_and_the_end() {
    let n_errors = Rc::new(Cell::new(0));
    let ended = here(Rc::clone(&n_errors));
    let talk = async move |upgrade: WebSocketUpgrade| {
        let ended = ended.clone();
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            let mut errors = 0;
            while let Some(received) = socket.recv().await {
                errors += usize::from(received.is_err());
            }
            ended.set(errors);
        })
    };
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, Router::new().route("/", any(talk)), std::future::pending()));
            become_websocket(&mut client).await;
            client.write_all(&masked(9, b"ping").repeat(2)).await.unwrap();
            drop(client);
        });
    });
    assert_eq!(n_errors.get(), 1);
}

#[test]
fn client_that_pings_and_closes_and_reads_later_gets_all_answers_and_a_goodbye() {
    let talk = async |mut socket: WebSocket| while let Some(Ok(_)) = socket.recv().await {};
    let router = Router::new().route("/", any(async move |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk)));
    let mut answers = Vec::new();
    run_virtually(async {
        let (mut client, stream) = xiio::io::duplex(1024);
        task_group!(|tg| {
            tg.spawn(serve_connection(stream, router, std::future::pending()));
            become_websocket(&mut client).await;
            // More than fits on the way, and less than is held.
            client.write_all(&masked(9, &[b'x'; 50]).repeat(100)).await.unwrap();
            client.write_all(&masked(8, b"")).await.unwrap();
            sleep(millis(1000)).await;
            client.read_to_end(&mut answers).await.unwrap();
        });
    });
    let pong = [&[0x8a, 50][..], &[b'x'; 50]].concat();
    assert!(answers.ends_with(&[pong.repeat(100), vec![0x88, 0]].concat()), "{} bytes", answers.len());
}

#[test]
fn client_that_vanishes_and_one_that_meets_a_bug_disturb_nobody() {
    let n_goodbyes = Rc::new(Cell::new(0));
    with_server(router(&n_goodbyes), |addr, _| {
        let mut neighbour = open(addr, "/echo");
        drop(open(addr, "/echo"));
        let mut odd = open(addr, "/echo");
        odd.send(Message::text("bug")).unwrap();
        assert_eq!(odd.read().unwrap(), Message::text("goodbye"), "cleanup runs after a panic");
        let mut long = open(addr, "/echo");
        long.send(Message::text("x".repeat(101))).unwrap();
        assert_eq!(long.read().unwrap(), Message::text("goodbye"), "too long a message is an error");
        neighbour.send(Message::text("still here")).unwrap();
        assert_eq!(neighbour.read().unwrap(), Message::text("still here"));
    });
    assert_eq!(n_goodbyes.get(), 4);
}

#[test]
fn protocol_is_the_first_that_both_know() {
    use tungstenite::client::IntoClientRequest;
    let n_goodbyes = Rc::new(Cell::new(0));
    with_server(router(&n_goodbyes), |addr, _| {
        let mut request = format!("ws://{addr}/echo").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "three, two".parse().unwrap());
        let (_client, response) = tungstenite::client(request, TcpStream::connect(addr).unwrap()).unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "two");
    });
}

#[test]
fn protocols_may_be_asked_for_in_several_lines() {
    use std::io::{BufRead, BufReader, Write};
    let n_goodbyes = Rc::new(Cell::new(0));
    with_server(router(&n_goodbyes), |addr, _| {
        let mut client = TcpStream::connect(addr).unwrap();
        let upgrade =
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n";
        let protocols = "sec-websocket-protocol: three\r\nsec-websocket-protocol: four, two\r\n";
        write!(client, "GET /echo HTTP/1.1\r\nhost: x\r\n{upgrade}{protocols}\r\n").unwrap();
        let head = BufReader::new(client).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        let chosen: Vec<_> = head.filter(|line| line.starts_with("sec-websocket-protocol")).collect();
        assert_eq!(chosen, ["sec-websocket-protocol: two"]);
    });
}

#[test]
fn messages_go_both_ways_over_http_2() {
    let n_goodbyes = Rc::new(Cell::new(0));
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = HyperStream::new(xiio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let stop = Promise::new();
        task_group!(|tg| {
            tg.spawn(serve(&listener, router(&n_goodbyes)).until(stop.wait()).into_future());
            let mut builder = hyper::client::conn::http2::Builder::new(GroupExecutor::new(tg));
            let (mut sender, connection) = builder.timer(HyperTimer).handshake(stream).await.unwrap();
            tg.spawn(connection);
            // Before it has answered it has not said that it knows of `:protocol`.
            sender.send_request(Request::get("http://x/").body(String::new()).unwrap()).await.unwrap();
            let mut request = Request::connect("http://x/echo").header("sec-websocket-version", "13");
            request.extensions_mut().unwrap().insert(Protocol::from_static("websocket"));
            let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
            let mut client = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
            for text in ["one", "two"] {
                client.send(Message::text(text)).await.unwrap();
                assert_eq!(client.next().await.unwrap().unwrap(), Message::text(text));
            }
            client.close(None).await.unwrap();
            while client.next().await.is_some() {}
            drop(sender);
            let _ = stop.set(());
        });
    });
    assert_eq!(n_goodbyes.get(), 1);
}

/// Has a text sent back over HTTP/2, ends the server, and hears the goodbye.
async fn hear_goodbye_over_http_2(router: Router) {
    let stop = Promise::new();
    let (client, stream) = xiio::io::duplex(1 << 16);
    task_group!(|tg| {
        tg.spawn(serve_connection(stream, router, stop.wait()));
        let mut builder = hyper::client::conn::http2::Builder::new(GroupExecutor::new(tg));
        let (mut sender, connection) = builder.timer(HyperTimer).handshake(HyperStream::new(client)).await.unwrap();
        tg.spawn(connection);
        sender.send_request(Request::get("http://x/").body(String::new()).unwrap()).await.unwrap();
        let mut request = Request::connect("http://x/echo").header("sec-websocket-version", "13");
        request.extensions_mut().unwrap().insert(Protocol::from_static("websocket"));
        let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
        let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut client = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
        client.send(Message::text("one")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("one"));
        let _ = stop.set(());
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("goodbye"));
        assert!(client.next().await.unwrap().unwrap().is_close());
        while client.next().await.is_some() {}
        drop(sender);
    });
}

#[test]
fn end_of_the_server_says_goodbye_over_http_2() {
    let n_goodbyes = Rc::new(Cell::new(0));
    run(hear_goodbye_over_http_2(router(&n_goodbyes)));
    assert_eq!(n_goodbyes.get(), 1);
}

#[test]
fn goodbye_over_http_2_may_take_its_time() {
    let talk = async |socket| {
        let usage = async |socket: &mut WebSocket| {
            let text = socket.recv().await.unwrap().unwrap();
            socket.send(text).await.unwrap();
            pending::<()>().await;
        };
        let release = async |mut socket: WebSocket| {
            sleep(Duration::from_secs(1_000)).await;
            socket.send(Message::text("goodbye")).await.unwrap();
            socket.close().await;
        };
        bracket(socket, usage, release).await;
    };
    let upgrade = async move |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk);
    run_virtually(hear_goodbye_over_http_2(Router::new().route("/echo", any(upgrade)).route("/", get("hello"))));
}

#[test]
fn request_that_asks_for_none_is_told_what_is_missing() {
    let n_goodbyes = Rc::new(Cell::new(0));
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Promise::new();
        task_group!(|tg| {
            tg.spawn(serve(&listener, router(&n_goodbyes)).until(stop.wait()).into_future());
            let upgrade = "upgrade: websocket\r\n";
            let (get, post) = ("GET", "POST");
            let upgrade = format!("connection: close, upgrade\r\n{upgrade}");
            let with_key = format!("{upgrade}sec-websocket-key: x\r\n");
            let old = format!("{with_key}sec-websocket-version: 8\r\n");
            let cases = [
                (post, upgrade.clone(), "405", "asked for with GET", "allow: GET, CONNECT"),
                (get, "connection: close\r\n".to_owned(), "426", "`connection: upgrade`", "upgrade: websocket"),
                (get, upgrade, "400", "`sec-websocket-key` is missing", ""),
                (get, with_key, "400", "must be 13", "sec-websocket-version: 13"),
                (get, old, "400", "must be 13", "sec-websocket-version: 13"),
            ];
            for (method, headers, status, why, header) in cases {
                let mut client = xiio::net::TcpStream::connect(addr).await.unwrap();
                let request = format!("{method} /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(why), "{answer}");
                assert!(answer.contains(header), "{answer}");
            }
            stop.set(()).unwrap();
        });
    });
}
