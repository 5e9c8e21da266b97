//! Copying: what is held back is passed on before a copy waits, and both directions at once.

use std::cell::Cell;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use xiio::io::{Async, BufWriter, Read, Write, copy, copy_bidirectional};
use xiio::net::UnixStream;
use xiio::{bracket, join, race, task_group, timeout, yield_now};
use xiio_tests::run_virtually;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_question_through_a_buffer_is_answered() {
    xiio::run(async {
        let ((mut client, inner), (outer, server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (mut inner_read, mut inner_write) = inner.into_split();
        let (mut outer_read, outer_write) = outer.into_split();
        let mut held_back = BufWriter::new(outer_write);
        let proxied = timeout(LONG, async {
            task_group!(|tg| {
                tg.spawn(async { copy(&mut inner_read, &mut held_back).await.unwrap() });
                tg.spawn(async { copy(&mut outer_read, &mut inner_write).await.unwrap() });
                let echo = tg.spawn(async { copy(&mut &server, &mut &server).await.unwrap() });
                for question in [b"one", b"two"] {
                    client.write_all(question).await.unwrap();
                    let mut answer = [0; 3];
                    client.read_exact(&mut answer).await.unwrap();
                    assert_eq!(&answer, question);
                }
                tg.cancel();
                assert!(echo.outcome().await.is_err());
            });
        });
        proxied.await.expect("a copy holds back what an answer depends on");
    });
}

/// Gives one byte, waits for ever, and refuses to be read again once it has waited.
struct OneByte {
    has_given: Cell<bool>,
}

impl Read for OneByte {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.has_given.replace(true) {
            std::future::pending::<()>().await;
        }
        buf[0] = b'x';
        Ok(1)
    }
}

struct CannotFlush;

impl Write for CannotFlush {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    async fn flush(&mut self) -> io::Result<()> {
        yield_now().await;
        Err(ErrorKind::StorageFull.into())
    }
}

#[test]
fn an_error_of_that_flush_ends_the_copy() {
    let mut reader = OneByte { has_given: Cell::new(false) };
    let error = xiio::run(copy(&mut reader, &mut CannotFlush)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

#[test]
fn a_wake_that_comes_during_the_flush_is_not_lost() {
    struct FlushesLong<'a>(&'a UnixStream, Cell<bool>);

    impl Write for FlushesLong<'_> {
        async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        // The reader has its data, and its end, before this returns.
        async fn flush(&mut self) -> io::Result<()> {
            if !self.1.replace(true) {
                self.0.write_all(b"late").await?;
                self.0.close().await?;
            }
            for _ in 0..100 {
                yield_now().await;
            }
            Ok(())
        }
    }

    xiio::run(async {
        let (a, mut b) = UnixStream::pair().unwrap();
        let copied = timeout(LONG, copy(&mut b, &mut FlushesLong(&a, Cell::default()))).await.unwrap();
        assert_eq!(copied.unwrap(), 4);
    });
}

#[test]
fn a_copy_is_cancelled_before_it_began_while_it_waits_and_while_it_flushes() {
    xiio::run(async {
        let (_a, mut b) = UnixStream::pair().unwrap();
        drop(copy(&mut b, &mut Vec::new()));
        assert!(timeout(Duration::from_millis(1), copy(&mut b, &mut Vec::new())).await.is_err());

        struct NeverFlushes;
        impl Write for NeverFlushes {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                Ok(buf.len())
            }
            async fn flush(&mut self) -> io::Result<()> {
                std::future::pending().await
            }
        }
        assert!(timeout(Duration::from_millis(1), copy(&mut b, &mut NeverFlushes)).await.is_err());
    });
}

/// A stream of which an operation never ends that it is to do, and holds something meanwhile. Another one fails.
#[derive(Default)]
struct Holding {
    reads: bool,
    fails_to_write: bool,
    n_released: Cell<usize>,
}

impl Holding {
    async fn hold(&self) {
        let release = async |()| {
            yield_now().await;
            self.n_released.set(self.n_released.get() + 1);
        };
        bracket((), async |_| pending::<()>().await, release).await;
    }
}

impl Read for &Holding {
    async fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        if self.reads {
            return Ok(1);
        }
        self.hold().await;
        Ok(0)
    }
}

impl Write for &Holding {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        yield_now().await;
        if self.fails_to_write { Err(ErrorKind::StorageFull.into()) } else { Ok(buf.len()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.fails_to_write {
            yield_now().await;
            return Err(ErrorKind::StorageFull.into());
        }
        self.hold().await;
        Ok(())
    }
}

#[test]
fn what_a_reader_and_a_writer_hold_is_released_when_a_copy_is_cancelled() {
    let (reader, writer) = (Holding::default(), Holding::default());
    run_virtually(async {
        assert!(timeout(LONG, copy(&mut &reader, &mut &writer)).await.is_err());
        assert_eq!((reader.n_released.get(), writer.n_released.get()), (1, 1));
        assert!(timeout(LONG, copy_bidirectional(&reader, &writer)).await.is_err());
        // Each of the two is read and flushed.
        assert_eq!((reader.n_released.get(), writer.n_released.get()), (3, 3));
    });
}

#[test]
fn what_a_reader_holds_is_released_when_the_writer_fails() {
    let reader = Holding::default();
    let full = Holding { reads: true, fails_to_write: true, ..Holding::default() };
    run_virtually(async {
        let error = copy(&mut &reader, &mut &full).await.unwrap_err();
        assert_eq!((error.kind(), reader.n_released.get()), (ErrorKind::StorageFull, 1));
        // One direction waits in the flush of the reader, the other one for it to be read.
        let error = copy_bidirectional(&full, &reader).await.unwrap_err();
        assert_eq!((error.kind(), reader.n_released.get()), (ErrorKind::StorageFull, 2));
    });
}

/// A client and a server with a proxy between them.
async fn proxied(between: impl AsyncFnOnce(&UnixStream, &UnixStream)) -> (io::Result<(u64, u64)>, ()) {
    let ((client, inner), (outer, server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    join!(async move { timeout(LONG, copy_bidirectional(&inner, &outer)).await.expect("the proxy ends") }, async move {
        between(&client, &server).await;
    })
}

#[test]
fn both_directions_are_copied_at_once_and_their_ends_passed_on() {
    let much = vec![7; 1 << 20];
    let (copied, ()) = xiio::run(proxied(async |mut client: &UnixStream, mut server: &UnixStream| {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let (mut client_again, mut server_again) = (client, server);
        join!(
            async {
                client.write_all(&much).await.unwrap();
                client.close().await.unwrap();
            },
            async { server.write_all(&much).await.unwrap() },
            async { server_again.read_to_end(&mut to_server).await.unwrap() },
            async {
                to_client.resize(much.len(), 0);
                client_again.read_exact(&mut to_client).await.unwrap();
            },
        );
        // The client has ended, and hears the server nevertheless.
        server.write_all(b"goodbye").await.unwrap();
        server.close().await.unwrap();
        client_again.read_to_end(&mut to_client).await.unwrap();
        assert!(to_server == much);
        assert_eq!(to_client.len(), much.len() + 7);
    }));
    assert_eq!(copied.unwrap(), (1 << 20, (1 << 20) + 7));
}

#[test]
fn ends_are_passed_on_through_sockets_of_std() {
    let pair = || std::os::unix::net::UnixStream::pair().unwrap();
    let ((client, inner), (outer, server)) = (pair(), pair());
    let [mut client, inner, outer, mut server] = [client, inner, outer, server].map(|end| Async::new(end).unwrap());
    let all = async {
        join!(async { copy_bidirectional(&inner, &outer).await.unwrap() }, async {
            client.write_all(b"question").await.unwrap();
            client.close().await.unwrap();
            let mut question = String::new();
            server.read_to_string(&mut question).await.unwrap();
            // Its other direction is open still.
            server.write_all(b"answer").await.unwrap();
            server.close().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            (question, answer)
        })
    };
    let (copied, said) = xiio::run(timeout(LONG, all)).expect("the ends are passed on");
    assert_eq!(copied, (8, 6));
    assert_eq!(said, ("question".to_owned(), "answer".to_owned()));
}

#[test]
fn an_error_of_one_direction_ends_both() {
    let (copied, ()) = xiio::run(proxied(async |mut client: &UnixStream, server: &UnixStream| {
        server.shutdown(std::net::Shutdown::Read).unwrap();
        client.write_all(b"nobody reads this").await.unwrap();
        // Neither of the two is closed: only the error ends the copy.
        let _ = client.read(&mut [0]).await;
    }));
    assert_eq!(copied.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn copying_both_ways_is_cancelled_and_nothing_is_closed() {
    xiio::run(async {
        let ((mut client, inner), (outer, mut server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        drop(copy_bidirectional(&inner, &outer));
        race!(
            _ = copy_bidirectional(&inner, &outer) => panic!("nothing has ended"),
            () = async {
                client.write_all(b"x").await.unwrap();
                server.read_exact(&mut [0]).await.unwrap();
            } => {},
        );
        let mut again = pin!(copy_bidirectional(&inner, &outer));
        assert!(timeout(Duration::from_millis(1), again.as_mut()).await.is_err());
        client.close().await.unwrap();
        server.close().await.unwrap();
    });
}
