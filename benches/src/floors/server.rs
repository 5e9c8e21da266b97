//! The floor of a TCP server: one level-triggered epoll loop.

use std::net::{TcpListener, TcpStream};

use super::descriptors::{Epoll, Events, read_ready, write_few};
use crate::clock::Stopwatch;

/// Serves so many connections to their end, each request, which comes in one piece, with what `answer` makes of it; the
/// clock runs from when the connections are there.
pub fn serve(listener: TcpListener, n_connections: u64, answer: impl Fn(&[u8]) -> &[u8]) -> Stopwatch {
    let (epoll, mut events) = (Epoll::new(), Events::new());
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    for key in 0..n_connections {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        epoll.add(&stream, key);
        streams.push(Some(stream));
    }
    let clock = Stopwatch::start();
    let mut buffer = [0; 1024];
    let mut n_open = n_connections;
    while n_open > 0 {
        for key in epoll.wait(&mut events) {
            let place = &mut streams[key as usize];
            let stream = place.as_ref().expect("closed connections are not watched");
            match read_ready(stream, &mut buffer) {
                None => {}
                Some(0) => {
                    *place = None;
                    n_open -= 1;
                }
                Some(n) => write_few(stream, answer(&buffer[..n])),
            }
        }
    }
    clock
}
