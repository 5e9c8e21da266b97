//! Streams in memory: `io::duplex`.

use std::cell::Cell;
use std::io::ErrorKind;
use std::time::Duration;

use xiio::io::{BufRead, BufReader, BufWriter, Read, Write, copy, copy_bidirectional, duplex};
use xiio::{bracket, join, sleep, task_group, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(2);
const HOUR: Duration = Duration::from_secs(3600);

#[xiio::test(virtual_time)]
async fn what_is_written_is_read_and_the_end_comes_after_it() {
    let (mut a, mut b) = duplex(64);
    a.write_all(b"hello").await.unwrap();
    a.close().await.unwrap();
    assert_eq!(a.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    b.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    b.write_all(b"bye").await.unwrap();
    drop(b);
    assert_eq!(a.read(&mut [0; 8]).await.unwrap(), 3);
    assert_eq!(a.read(&mut [0; 8]).await.unwrap(), 0);
}

#[xiio::test(virtual_time)]
async fn a_full_stream_makes_its_writer_wait() {
    let (mut a, mut b) = duplex(4);
    assert_eq!(a.write(b"longer").await.unwrap(), 4);
    assert_eq!(a.write(b"").await.unwrap(), 0);
    assert!(timeout(HOUR, a.write(b"x")).await.is_err());
    let (written, read) = join!(a.write(b"er"), async {
        sleep(HOUR).await;
        b.read(&mut [0; 1]).await
    });
    assert_eq!((written.unwrap(), read.unwrap()), (1, 1));
    assert_eq!(b.read(&mut []).await.unwrap(), 0);
}

#[xiio::test(virtual_time)]
async fn who_waits_is_told_when_the_other_end_goes() {
    let (mut a, b) = duplex(1);
    let (mut c, d) = duplex(1);
    a.write_all(b"x").await.unwrap();
    join!(
        async { assert_eq!(a.write(b"y").await.unwrap_err().kind(), ErrorKind::BrokenPipe) },
        async { assert_eq!(c.read(&mut [0]).await.unwrap(), 0) },
        async {
            sleep(HOUR).await;
            drop((b, d));
        },
    );
}

#[xiio::test(virtual_time)]
async fn a_wait_is_cancelled_before_and_after_it_began_and_nothing_is_lost() {
    let (mut a, mut b) = duplex(8);
    drop(b.read(&mut [0; 8]));
    assert!(timeout(SHORT, b.read(&mut [0; 8])).await.is_err());
    a.write_all(b"12345678").await.unwrap();
    drop(a.write(b"9"));
    assert!(timeout(SHORT, a.write(b"9")).await.is_err());
    let mut buf = [0; 8];
    b.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"12345678");
    assert!(timeout(SHORT, b.read(&mut [0])).await.is_err());
}

#[xiio::test(virtual_time)]
async fn every_task_that_waits_is_woken() {
    let (a, b) = duplex(64);
    let n_read = Cell::new(0);
    task_group!(|tg| {
        for _ in 0..3 {
            tg.spawn(async {
                let n_bytes = (&b).read(&mut [0; 1]).await.unwrap();
                n_read.set(n_read.get() + n_bytes);
            });
        }
        yield_now().await;
        (&a).write_all(b"123").await.unwrap();
    });
    assert_eq!(n_read.get(), 3);
}

#[xiio::test(virtual_time)]
async fn a_task_that_never_waits_does_not_starve_the_others() {
    let (a, b) = duplex(64);
    let has_run = Cell::new(false);
    task_group!(|tg| {
        let busy = tg.spawn(async {
            loop {
                (&a).write_all(b"x").await.unwrap();
                (&b).read_exact(&mut [0]).await.unwrap();
            }
        });
        tg.spawn(async {
            has_run.set(true);
            busy.cancel().await
        });
    });
    assert!(has_run.get());
}

#[xiio::test(virtual_time)]
async fn a_server_is_tested_in_no_time_and_cleans_up() {
    let (client, server) = duplex(1024);
    let is_released = Cell::new(false);
    let began = std::time::Instant::now();
    task_group!(|tg| {
        tg.spawn(async {
            let serve = async |stream: &mut BufWriter<_>| {
                let mut lines = BufReader::new(&server).lines();
                while let Ok(Some(line)) = timeout(HOUR, lines.next()).await {
                    sleep(HOUR).await;
                    Write::write_all(stream, line.unwrap().to_uppercase().as_bytes()).await.unwrap();
                    Write::flush(stream).await.unwrap();
                }
            };
            let goodbye = async |mut stream: BufWriter<_>| {
                Write::write_all(&mut stream, b" goodbye").await.unwrap();
                Write::close(&mut stream).await.unwrap();
                is_released.set(true);
            };
            bracket(BufWriter::new(&server), serve, goodbye).await;
        });
        Write::write_all(&mut &client, b"hello\n").await.unwrap();
        let mut answer = String::new();
        Read::read_to_string(&mut &client, &mut answer).await.unwrap();
        assert_eq!(answer, "HELLO goodbye");
    });
    assert!(is_released.get());
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[xiio::test(virtual_time)]
async fn streams_in_memory_are_copied_both_ways() {
    let ((client, inner), (outer, server)) = (duplex(7), duplex(5));
    let much = vec![7; 10_000];
    task_group!(|tg| {
        tg.spawn(async { assert_eq!(copy_bidirectional(&inner, &outer).await.unwrap(), (10_000, 10_000)) });
        tg.spawn(async {
            copy(&mut &server, &mut &server).await.unwrap();
            Write::close(&mut &server).await.unwrap();
        });
        join!(
            async {
                Write::write_all(&mut &client, &much).await.unwrap();
                Write::close(&mut &client).await.unwrap();
            },
            async {
                let mut answer = Vec::new();
                Read::read_to_end(&mut &client, &mut answer).await.unwrap();
                assert!(answer == much);
            }
        );
    });
}

#[xiio::test(virtual_time)]
async fn the_tools_of_futures_work_on_it() {
    let (mut a, b) = duplex(3);
    join!(
        async {
            futures::AsyncWriteExt::write_all(&mut a, b"hello").await.unwrap();
            futures::AsyncWriteExt::close(&mut a).await.unwrap();
        },
        async {
            let mut text = String::new();
            futures::AsyncReadExt::read_to_string(&mut &b, &mut text).await.unwrap();
            assert_eq!(text, "hello");
        }
    );
    let mut buf = [0; 8];
    let (read, ()) = join!(futures::AsyncReadExt::read(&mut a, &mut buf), async {
        sleep(HOUR).await;
        drop(b);
    });
    assert_eq!(read.unwrap(), 0);
}

#[test]
#[should_panic(expected = "`duplex(0)` could never move a byte")]
fn a_stream_without_room_is_refused() {
    let _ = duplex(0);
}
