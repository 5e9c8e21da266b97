//! A server that runs out of descriptors. A process of its own, as the limit is one of the process.
#![allow(missing_docs)]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use xiio::io::{Read, Write, copy};
use xiio::net::{TcpListener, TcpStream};
use xiio::{task_group, timeout};

const LIMIT: libc::rlim_t = 64;
const LONG: Duration = Duration::from_secs(60);

#[test]
fn an_accept_loop_goes_on_when_there_are_descriptors_again() {
    set_limit(LIMIT);
    xiio::run(accept_loop_goes_on(LONG));
    // A loop that now and then does something else comes to its next attempt, too.
    xiio::run(accept_loop_goes_on(Duration::from_millis(5)));
}

/// The loop of the server gives up each wait after its `patience`, and waits again.
async fn accept_loop_goes_on(patience: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (n_clients, n_errors) = (Cell::new(0), Cell::new(0));
    task_group!(|tg| {
        let server = tg.spawn(async {
            task_group!(|clients| {
                let mut incoming = listener.incoming();
                loop {
                    let Ok(Some(client)) = timeout(patience, incoming.next()).await else { continue };
                    match client {
                        Ok(client) => {
                            n_clients.set(n_clients.get() + 1);
                            clients.spawn(async move {
                                let _ = copy(&mut &client, &mut &client).await;
                            });
                        }
                        Err(error) => {
                            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                            n_errors.set(n_errors.get() + 1);
                        }
                    }
                }
            });
        });

        let mut first = TcpStream::connect(addr).await.unwrap();
        echoes(&mut first).await;
        // Files take all descriptors but one, and a client takes that: the server has none for it, however many the
        // process was started with.
        let mut held = Vec::new();
        let last = loop {
            match File::open("/dev/null") {
                Ok(file) => held.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!(last.raw_os_error(), Some(libc::EMFILE));
        drop(held.pop());
        let mut late = TcpStream::connect(addr).await.unwrap();

        // It neither ends nor spins meanwhile, and serves those it has.
        let (begun, errors_before) = (Instant::now(), n_errors.get());
        while n_errors.get() < errors_before + 3 {
            assert!(begun.elapsed() < LONG);
            echoes(&mut first).await;
            xiio::sleep(Duration::from_millis(5)).await;
        }
        let n_new = n_errors.get() - errors_before;
        let pauses = begun.elapsed().as_millis() / 20 + 2;
        assert!(n_new as u128 <= pauses, "{n_new} errors in {:?}", begun.elapsed());

        assert_eq!(n_clients.get(), 1);
        drop(held);
        echoes(&mut late).await;
        assert_eq!(n_clients.get(), 2);
        server.cancel().await;
    });
}

async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"x").await.unwrap();
    timeout(LONG, stream.read_exact(&mut [0])).await.unwrap().unwrap();
}

#[expect(unsafe_code, reason = "std does not set limits")]
fn set_limit(limit: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: the limit lives until the call returns.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}
