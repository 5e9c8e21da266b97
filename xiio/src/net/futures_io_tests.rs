//! Streams, halves and `Async` in the hands of the `futures` crate.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;

use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy};
use futures::{AsyncRead, AsyncWrite, StreamExt};

use super::{TcpListener, TcpStream, UnixStream};
use crate::io::Async;
use crate::{join, task_group, yield_now};

fn has_the_traits(_stream: &(impl AsyncRead + AsyncWrite + Unpin)) {}

#[test]
fn a_stream_is_read_by_the_tools_of_futures() {
    crate::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, server) = join!(TcpStream::connect(addr), listener.accept());
        let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
        has_the_traits(&client);
        has_the_traits(&&client);
        let mut lines = BufReader::new(server).lines();
        join!(
            async {
                AsyncWriteExt::write_all(&mut client, b"one\ntw").await.unwrap();
                yield_now().await;
                AsyncWriteExt::write_all(&mut client, b"o\n").await.unwrap();
                client.close().await.unwrap();
            },
            async {
                assert_eq!(lines.next().await.unwrap().unwrap(), "one");
                assert_eq!(lines.next().await.unwrap().unwrap(), "two");
                assert!(lines.next().await.is_none());
            }
        );
    });
}

#[test]
fn a_stream_that_both_ends_have_closed_is_closed_again() {
    crate::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.close().await.unwrap();
        assert_eq!(AsyncReadExt::read(&mut server, &mut [0]).await.unwrap(), 0);
        server.close().await.unwrap();
        assert_eq!(AsyncReadExt::read(&mut client, &mut [0]).await.unwrap(), 0);
        assert_eq!(client.shutdown(Shutdown::Write).unwrap_err().kind(), io::ErrorKind::NotConnected);
        client.close().await.unwrap();
    });
}

#[test]
fn halves_are_copied_by_the_tools_of_futures() {
    let sent = vec![7; 1 << 20];
    let mut received = Vec::new();
    crate::run(async {
        let (a, b) = UnixStream::pair().unwrap();
        let (read_a, mut write_a) = a.into_split();
        let (read_b, mut write_b) = b.split();
        join!(
            async {
                AsyncWriteExt::write_all(&mut write_a, &sent).await.unwrap();
                drop(write_a);
            },
            async {
                copy(read_b, &mut write_b).await.unwrap();
                write_b.close().await.unwrap();
            },
            async {
                let mut read_a = read_a;
                AsyncReadExt::read_to_end(&mut read_a, &mut received).await.unwrap();
            },
        );
    });
    assert!(received == sent);
}

#[test]
fn both_directions_wait_at_once() {
    let (reader, writer) = io::pipe().unwrap();
    let (reader, writer) = (Async::new(reader).unwrap(), Async::new(writer).unwrap());
    let n_read = Cell::new(0);
    crate::run(async {
        task_group!(|tg| {
            tg.spawn(async {
                let mut buf = vec![0; 1 << 20];
                AsyncReadExt::read_exact(&mut &reader, &mut buf).await.unwrap();
                n_read.set(buf.len());
            });
            tg.spawn(async { AsyncWriteExt::write_all(&mut &writer, &vec![0; 1 << 20]).await.unwrap() });
        });
    });
    assert_eq!(n_read.get(), 1 << 20);
}
