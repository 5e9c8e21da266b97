//! Trees on the reactor of `async-io`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use futures::future::{Either, join, select};
use xiio::compat::on_async_io;
use xiio::{in_thread, sleep, task_group};

#[test]
fn a_tree_sleeps_reads_and_waits_for_threads() {
    let start = Instant::now();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sum = async_io::block_on(on_async_io(async {
        task_group!(|tg| {
            let read = tg.spawn(async move {
                let (mut buf, mut sum) = ([0; 1], 0);
                while xiio::read(&ours, &mut buf).await.unwrap() > 0 {
                    sum += u32::from(buf[0]);
                }
                sum
            });
            tg.spawn(async move {
                for byte in 1..=100 {
                    let byte = in_thread(move || byte).await;
                    theirs.write_all(&[byte]).unwrap();
                }
                sleep(Duration::from_millis(30)).await;
            });
            read.await
        })
    }));
    assert_eq!(sum, 5050);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn trees_live_side_by_side_with_tasks_of_the_executor() {
    async_io::block_on(async {
        let (sender, receiver) = async_channel::bounded::<u32>(1);
        let (answers, answer) = async_channel::bounded::<u32>(1);
        let tree = |receiver: async_channel::Receiver<u32>| {
            on_async_io(async move {
                task_group!(|tg| {
                    tg.spawn(async move {
                        while let Ok(number) = receiver.recv().await {
                            answers.send(number + 1).await.unwrap();
                        }
                    });
                });
            })
        };
        let outside = async {
            for number in 0..1_000 {
                sender.send(number).await.unwrap();
                assert_eq!(answer.recv().await.unwrap(), number + 1);
            }
            drop(sender);
        };
        join(tree(receiver), outside).await;
    });
}

#[test]
fn a_tree_that_is_dropped_half_way_leaves_nothing() {
    async_io::block_on(async {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let tree = on_async_io(async {
            task_group!(|tg| {
                tg.spawn(sleep(Duration::from_secs(3600)));
                tg.spawn(async { xiio::readable(&ours).await.unwrap() });
            });
        });
        let timer = async_io::Timer::after(Duration::from_millis(20));
        let Either::Right(_) = select(std::pin::pin!(tree), timer).await else { panic!("the tree ended") };
        assert_eq!(on_async_io(async { 7 }).await, 7);
    });
}
