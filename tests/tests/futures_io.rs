//! Streams of the crate `futures-io` in the hands of `xiio::io`, and the other way round.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite, Cursor};
use futures_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector, client, server};
use xiio::compat::FuturesIo;
use xiio::io::{Async, BufRead, BufReader, DynReadWrite, Read, Write, copy, copy_bidirectional};
use xiio::net::UnixStream;
use xiio::{join, race, shield, sleep, task_group, timeout};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(60);

type Tls = (FuturesIo<client::TlsStream<UnixStream>>, FuturesIo<server::TlsStream<UnixStream>>);

/// Both ends of a connection that is encrypted.
async fn tls() -> Tls {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let certificate = signed.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (a, b) = UnixStream::pair().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) =
        join!(TlsConnector::from(Arc::new(client)).connect(name, a), TlsAcceptor::from(Arc::new(server)).accept(b));
    (FuturesIo::new(client.unwrap()), FuturesIo::new(server.unwrap()))
}

#[test]
fn a_stream_of_tls_is_read_by_lines_and_closed() {
    xiio::run(async {
        let (mut client, server) = tls().await;
        task_group!(|tg| {
            tg.spawn(async {
                client.write_all(b"one\ntwo\n").await.unwrap();
                client.close().await.unwrap();
            });
            let mut lines = BufReader::new(server).lines();
            assert_eq!(lines.next().await.unwrap().unwrap(), "one");
            assert_eq!(lines.next().await.unwrap().unwrap(), "two");
            assert!(lines.next().await.is_none());
        });
    });
}

#[test]
fn plain_and_encrypted_streams_are_one_type_and_are_copied_both_ways() {
    let much = vec![7; 1 << 20];
    xiio::run(async {
        let (client, server) = tls().await;
        let (plain, mut service) = UnixStream::pair().unwrap();
        task_group!(|tg| {
            tg.spawn(async {
                let copied = timeout(LONG, copy_bidirectional(&server, &plain)).await.unwrap();
                assert_eq!(copied.unwrap(), (1 << 20, 1 << 20));
            });
            tg.spawn(async {
                copy(&mut &service, &mut &service).await.unwrap();
                service.close().await.unwrap();
            });
            join!(
                async {
                    (&client).write_all(&much).await.unwrap();
                    (&client).close().await.unwrap();
                },
                async {
                    let mut answer = Vec::new();
                    (&client).read_to_end(&mut answer).await.unwrap();
                    assert!(answer == much);
                }
            );
        });
        let mut streams: [Box<dyn DynReadWrite>; 2] = [Box::new(client), Box::new(service)];
        for stream in &mut streams {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
    });
}

#[test]
fn a_read_of_tls_is_cancelled_and_nothing_is_lost() {
    xiio::run(async {
        let (mut client, mut server) = tls().await;
        drop(server.read(&mut [0; 8]));
        for _ in 0..3 {
            assert!(timeout(SHORT, server.read(&mut [0; 8])).await.is_err());
        }
        client.write_all(b"x").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn what_was_cancelled_does_not_go_on_though_the_stream_is_ready() {
    xiio::run(async {
        let mut cursor = FuturesIo::new(Cursor::new(vec![0; 8]));
        let mut has_read = false;
        race!(
            () = async {
                futures::join!(shield(sleep(SHORT)), async {
                    futures::pending!();
                    cursor.read(&mut [0; 8]).await.unwrap();
                    has_read = true;
                });
            } => {},
            () = std::future::ready(()) => {},
        );
        assert!(!has_read);
    });
}

#[test]
fn a_stream_that_polls_itself_is_told_so() {
    use std::cell::RefCell;
    use std::rc::{Rc, Weak};

    struct Itself(Rc<RefCell<Weak<FuturesIo<Itself>>>>);

    impl AsyncRead for Itself {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            let wrapper = self.0.borrow().upgrade().unwrap();
            let mut reader = &*wrapper;
            let read = std::pin::pin!(reader.read(buf));
            read.poll(cx)
        }
    }

    let itself = Rc::new(RefCell::new(Weak::new()));
    let wrapper = Rc::new(FuturesIo::new(Itself(Rc::clone(&itself))));
    *itself.borrow_mut() = Rc::downgrade(&wrapper);
    let error = xiio::run(async { (&*wrapper).read(&mut [0]).await }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    itself.take();
}

#[test]
fn a_panic_of_the_stream_comes_through_and_the_stream_stays_usable() {
    struct PanicsOnce(bool);
    impl AsyncWrite for PanicsOnce {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            assert!(std::mem::replace(&mut self.0, true), "once");
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let mut stream = FuturesIo::new(PanicsOnce(false));
    let write = std::panic::AssertUnwindSafe(|| xiio::run(stream.write(b"x")));
    assert!(std::panic::catch_unwind(write).is_err());
    assert_eq!(xiio::run(stream.write(b"x")).unwrap(), 1);
}

#[test]
fn a_socket_of_std_ends_its_direction_to_write_when_it_is_closed() {
    let (socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut socket, mut other) = (Async::new(socket).unwrap(), Async::new(other).unwrap());
    xiio::run(async {
        futures::AsyncWriteExt::close(&mut socket).await.unwrap();
        assert_eq!(timeout(LONG, Read::read(&mut other, &mut [0])).await.unwrap().unwrap(), 0);
        other.write_all(b"x").await.unwrap();
        Read::read_exact(&mut socket, &mut [0]).await.unwrap();
    });
}

#[test]
fn what_moves_nothing_needs_no_room() {
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut socket = Async::new(socket).unwrap();
    xiio::run(async {
        while timeout(Duration::from_millis(20), Write::write(&mut socket, &[0; 4096])).await.is_ok() {}
        assert_eq!(timeout(LONG, futures::AsyncWriteExt::write(&mut socket, &[])).await.unwrap().unwrap(), 0);
        timeout(LONG, futures::AsyncWriteExt::flush(&mut socket)).await.unwrap().unwrap();
        timeout(LONG, futures::AsyncWriteExt::close(&mut socket)).await.unwrap().unwrap();
    });
}
