//! What an outsider can push, and what a program does about it: the rows of `SECURITY.md` that are not bounded by default.
//!
//! The others: `net_emfile` (accept loops without descriptors), `io_async` (endless lines), `process` (a child that
//! ignores `SIGTERM`), `signal_storm`; the tests of `xiio/src/net/addr.rs` (names that are looked up) and of `xiio-axum/tests`
//! (its clients).
#![allow(missing_docs)]

use std::cell::Cell;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_lock::Semaphore;
use xiio::io::{BufRead, BufReader, Read, Write, copy};
use xiio::net::{TcpListener, TcpStream};
use xiio::process::{Command, Stdio};
use xiio::{bracket, catch_panic, gather, in_thread, join, race, sleep, task_group, timeout, yield_now};
use xiio_tests::poll::OnDrop;
use xiio_tests::{LONG, millis, rounds};

const SHORT: Duration = Duration::from_millis(20);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = join!(connecting, listener.accept());
    (client.unwrap(), server.unwrap().0)
}

#[xiio::test]
async fn a_permit_before_each_client_bounds_how_many_are_held() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let permits = Arc::new(Semaphore::new(3));
    let (n_held, most) = (Cell::new(0), Cell::new(0));
    let serve = async {
        task_group!(|clients| {
            let mut incoming = listener.incoming();
            loop {
                let permit = permits.acquire_arc().await;
                let client = incoming.next().await.unwrap().unwrap();
                let (n_held, most) = (&n_held, &most);
                clients.spawn(async move {
                    n_held.set(n_held.get() + 1);
                    most.set(most.get().max(n_held.get()));
                    let _ = copy(&mut &client, &mut &client).await;
                    n_held.set(n_held.get() - 1);
                    drop(permit);
                });
            }
        });
    };
    let visit = async |_| {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    };
    let visits = async { drop(gather((0..20).map(visit)).await) };
    timeout(LONG, async { race!(serve, visits) }).await.unwrap();
    assert_eq!(most.get(), 3);
}

#[xiio::test]
async fn a_permit_before_there_is_something_to_clean_up_bounds_the_requests_that_clean_up() {
    let permits = Semaphore::new(3);
    let (n_held, most) = (Cell::new(0), Cell::new(0));
    task_group!(|requests| {
        for _ in 0..20 {
            let request = requests.spawn(async {
                n_held.set(n_held.get() + 1);
                most.set(most.get().max(n_held.get()));
                let _held = OnDrop(|| n_held.set(n_held.get() - 1));
                let _permit = permits.acquire().await;
                bracket((), async |()| pending::<()>().await, async |()| sleep(SHORT).await).await;
            });
            yield_now().await;
            drop(request.cancel_on_drop());
            yield_now().await;
        }
    });
    // Those with a permit, and the newest one.
    assert_eq!(most.get(), 4);
}

#[xiio::test]
async fn a_client_that_says_nothing_is_given_up_after_a_time() {
    let (_client, server) = pair().await;
    let mut lines = BufReader::new(server).lines();
    assert!(timeout(SHORT, lines.next()).await.is_err());
}

#[xiio::test]
async fn a_line_without_an_end_from_the_network_is_held_up_to_the_bound() {
    let (client, server) = pair().await;
    let mut reader = BufReader::new(server);
    let send = async {
        loop {
            if (&client).write_all(&[b'x'; 4096]).await.is_err() {
                return io::Result::Err(ErrorKind::BrokenPipe.into());
            }
        }
    };
    let error = race!(send, async { reader.read_line(&mut String::new()).await.map(drop) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let n_held = reader.buffer().len();
    assert!((64 * 1024..128 * 1024).contains(&n_held), "{n_held} bytes");
}

#[xiio::test]
async fn a_client_that_sends_for_ever_is_cut_by_take() {
    let (client, server) = pair().await;
    let send = async { while (&client).write_all(&[b'x'; 4096]).await.is_ok() {} };
    let mut body = Vec::new();
    let receive = async {
        assert_eq!(server.take(100_000).read_to_end(&mut body).await.unwrap(), 100_000);
    };
    race!(send, receive);
    assert_eq!(body.len(), 100_000);
}

#[xiio::test]
async fn a_client_that_reads_nothing_costs_no_more_than_the_time_of_a_write() {
    let (_client, mut server) = pair().await;
    let chunk = vec![b'x'; 1 << 16];
    let endless = async { while server.write_all(&chunk).await.is_ok() {} };
    assert!(timeout(Duration::from_millis(200), endless).await.is_err());
}

#[xiio::test]
async fn a_process_that_writes_for_ever_is_read_as_far_as_wanted_and_stopped() {
    let mut output = Vec::new();
    Command::new("yes")
        .stdout(Stdio::piped())
        .scope(async |child| child.stdout.take().unwrap().take(10_000).read_to_end(&mut output).await)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.len(), 10_000);
}

/// Look-ups of names are jobs of the shared pool.
#[xiio::test]
async fn jobs_of_the_shared_pool_are_bounded_and_the_others_wait() {
    static N_NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let job = |_| {
        in_thread(|| {
            MOST.fetch_max(N_NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(millis(5));
            N_NOW.fetch_sub(1, Ordering::SeqCst);
        })
    };
    gather((0..100).map(job)).await;
    let most = MOST.load(Ordering::SeqCst);
    assert!((1..=32).contains(&most), "{most} at once");
}

#[xiio::test]
async fn a_copy_holds_a_chunk_and_slows_the_reader_down() {
    struct Counted(Cell<usize>);
    impl Read for &Counted {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + buf.len());
            Ok(buf.len())
        }
    }
    struct Full;
    impl Write for Full {
        async fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
            std::future::pending().await
        }
    }
    let source = Counted(Cell::new(0));
    race!(async { drop(copy(&mut &source, &mut Full).await) }, async {
        rounds(10).await;
        sleep(millis(1)).await;
    });
    assert_eq!(source.0.get(), 64 * 1024);
}

#[xiio::test]
async fn a_client_that_meets_a_bug_disturbs_no_other() {
    let n_served = Cell::new(0);
    task_group!(|clients| {
        for n in 0..4 {
            let n_served = &n_served;
            clients.spawn(catch_panic(async move {
                sleep(SHORT * n).await;
                assert!(n != 1, "client 1 is odd");
                n_served.set(n_served.get() + 1);
            }));
        }
    });
    assert_eq!(n_served.get(), 3);
}
