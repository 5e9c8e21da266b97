//! Trees inside tokio: sleeping, reading, writing, threads, beside tasks of tokio's own.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use xiio::compat::on_tokio;
use xiio::io::Read as _;
use xiio::{Promise, in_thread, sleep, task_group};

const LONG: Duration = Duration::from_secs(20);

fn tokio() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a future inside tokio, with room for local tasks, and not for ever.
fn run<T>(future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let value = tokio().block_on(async { tokio::time::timeout(LONG, LocalSet::new().run_until(future)).await });
    // The end of the timeout is a wake as well, and may be what a tree that hung goes on with.
    assert!(start.elapsed() < LONG, "it hung");
    value.unwrap()
}

#[test]
fn sleep_lasts_and_gives_the_value() {
    let start = Instant::now();
    let value = run(on_tokio(async {
        sleep(Duration::from_millis(30)).await;
        7
    }));
    assert_eq!(value, 7);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn sleeps_of_both_kinds_pass_side_by_side_and_in_turn() {
    let start = Instant::now();
    run(on_tokio(async {
        task_group!(|tg| {
            for _ in 0..3 {
                tg.spawn(async {
                    sleep(Duration::from_millis(20)).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sleep(Duration::from_millis(20)).await;
                });
            }
        });
    }));
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_tree_reads_and_writes_what_tokio_has_the_other_end_of() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    run(async {
        let echo = tokio::task::spawn_local(async {
            let mut theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
            let mut buf = [0; 1024];
            loop {
                match theirs.read(&mut buf).await.unwrap() {
                    0 => return,
                    n => theirs.write_all(&buf[..n]).await.unwrap(),
                }
            }
        });
        on_tokio(async move {
            for round in 0..1_000_u32 {
                xiio::write_all(&ours, &round.to_ne_bytes()).await.unwrap();
                let mut buf = [0; 4];
                assert_eq!(xiio::read(&ours, &mut buf).await.unwrap(), 4);
                assert_eq!(u32::from_ne_bytes(buf), round);
            }
        })
        .await;
        echo.await.unwrap();
    });
}

#[test]
fn tasks_of_both_kinds_wake_each_other_on_one_thread() {
    run(async {
        let (to_tree, mut in_tree) = mpsc::unbounded_channel::<u32>();
        let (to_tokio, mut in_tokio) = mpsc::unbounded_channel::<u32>();
        let theirs = tokio::task::spawn_local(async move {
            while let Some(ball) = in_tokio.recv().await {
                to_tree.send(ball + 1).unwrap();
            }
        });
        let last = on_tokio(async move {
            task_group!(|tg| {
                let player = tg.spawn(async move {
                    let mut ball = 0;
                    while ball < 10_000 {
                        to_tokio.send(ball).unwrap();
                        ball = in_tree.recv().await.unwrap();
                    }
                    ball
                });
                player.await
            })
        })
        .await;
        assert_eq!(last, 10_000);
        theirs.await.unwrap();
    });
}

#[test]
fn many_trees_on_one_thread_hear_of_their_own_events() {
    run(async {
        let trees: Vec<_> = (0..8_u64)
            .map(|number| {
                tokio::task::spawn_local(on_tokio(async move {
                    let (ours, mut theirs) = UnixStream::pair().unwrap();
                    task_group!(|tg| {
                        tg.spawn(async move {
                            let mut buf = [0; 8];
                            for _ in 0..50 {
                                assert_eq!(xiio::read(&ours, &mut buf).await.unwrap(), 1);
                            }
                        });
                        tg.spawn(async move {
                            for _ in 0..50 {
                                let byte = in_thread(|| b"x").await;
                                theirs.write_all(byte).unwrap();
                                sleep(Duration::from_micros(100 * number)).await;
                            }
                        });
                    });
                    number
                }))
            })
            .collect();
        for (number, tree) in trees.into_iter().enumerate() {
            assert_eq!(tree.await.unwrap(), number as u64);
        }
    });
}

#[test]
fn trees_that_wait_for_one_socket_are_each_woken() {
    run(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = xiio::net::UnixStream::try_from(ours).unwrap();
        let n_waiting = Cell::new(0);
        let read_one = || {
            on_tokio(async {
                let (mut byte, mut ours) = ([0], &ours);
                let mut read = pin!(ours.read(&mut byte));
                assert!(futures::poll!(read.as_mut()).is_pending());
                n_waiting.set(n_waiting.get() + 1);
                read.await.unwrap()
            })
        };
        let write = async {
            while n_waiting.get() < 2 {
                tokio::task::yield_now().await;
            }
            theirs.write_all(b"xy").unwrap();
        };
        assert_eq!(tokio::join!(read_one(), read_one(), write), (1, 1, ()));
    });
}

#[test]
fn a_wake_that_is_posted_during_a_turn_is_heard() {
    run(async {
        let tree = tokio::task::spawn_local(on_tokio(async {
            let promise = Promise::new();
            let setter = promise.clone();
            task_group!(|tg| {
                tg.spawn(promise.wait());
                tg.spawn(async move {
                    // The whole turn stands still until it is posted.
                    std::thread::spawn(move || setter.set(()).unwrap()).join().unwrap();
                });
            });
        }));
        tree.await.unwrap();
    });
}

#[test]
fn a_timeout_inside_runs_the_cleanup() {
    let has_cleaned_up = Cell::new(false);
    run(on_tokio(async {
        let work = xiio::bracket(
            (),
            async |()| pending::<()>().await,
            async |()| {
                tokio::time::sleep(Duration::from_millis(5)).await;
                has_cleaned_up.set(true);
            },
        );
        assert!(xiio::timeout(Duration::from_millis(5), work).await.is_err());
    }));
    assert!(has_cleaned_up.get());
}

#[test]
fn wakes_from_threads_reach_a_tree_that_rests() {
    run(async {
        let value = on_tokio(async {
            task_group!(|tg| {
                let mut sum = 0;
                for n in 0..500 {
                    let promise = Promise::new();
                    let setter = promise.clone();
                    let waiter = tg.spawn(async move { promise.wait().await });
                    xiio::yield_now().await;
                    let set = async { in_thread(move || setter.set(n).unwrap()).await };
                    set.await;
                    sum += waiter.await;
                }
                sum
            })
        })
        .await;
        assert_eq!(value, 499 * 500 / 2);
    });
}

#[test]
fn what_came_while_another_runtime_ran_on_the_thread_is_not_lost() {
    run(async {
        let promise = Promise::new();
        let (setter, is_waiting) = (promise.clone(), Rc::new(Cell::new(false)));
        let waiting = Rc::clone(&is_waiting);
        let tree = tokio::task::spawn_local(on_tokio(async move {
            task_group!(|tg| {
                let waiter = tg.spawn(async move {
                    waiting.set(true);
                    promise.wait().await
                });
                waiter.await
            })
        }));
        while !is_waiting.get() {
            tokio::task::yield_now().await;
        }
        // The wake of the tree's task goes to the inbox they share, and this runtime ends without looking into it.
        xiio::run(async {
            sleep(Duration::from_millis(1)).await;
            std::thread::spawn(move || setter.set(7).unwrap()).join().unwrap();
        });
        assert_eq!(tree.await.unwrap(), 7);
    });
}

#[test]
fn a_panic_in_the_tree_comes_out_of_tokios_task() {
    run(async {
        let tree = tokio::task::spawn_local(on_tokio(async {
            task_group!(|tg| {
                tg.spawn(pending::<()>());
                tg.spawn(async { panic!("in the tree") });
            });
        }));
        let panic = tree.await.unwrap_err().into_panic();
        assert_eq!(*panic.downcast_ref::<&str>().unwrap(), "in the tree");
        assert_eq!(on_tokio(async { 7 }).await, 7);
    });
}

#[test]
fn a_handle_that_outlives_its_tree_still_has_the_value() {
    run(async {
        let tree = on_tokio(async {
            let task = task_group!(|tg| { tg.spawn(async { String::from("kept") }) });
            Some(task)
        });
        let mut task = tree.await.unwrap();
        assert_eq!(task.take().as_deref(), Some("kept"));
        drop(task);
    });
}

#[test]
fn a_busy_tree_leaves_tokio_its_turn() {
    run(async {
        let is_over = Rc::new(Cell::new(false));
        let over = Rc::clone(&is_over);
        let busy = tokio::task::spawn_local(on_tokio(async move {
            while !over.get() {
                xiio::yield_now().await;
            }
        }));
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        is_over.set(true);
        busy.await.unwrap();
    });
}

#[test]
fn a_busy_tokio_leaves_the_tree_its_turn() {
    run(async {
        let is_over = Rc::new(Cell::new(false));
        let over = Rc::clone(&is_over);
        let busy = tokio::task::spawn_local(async move {
            while !over.get() {
                tokio::task::yield_now().await;
            }
        });
        on_tokio(async {
            for _ in 0..20 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        is_over.set(true);
        busy.await.unwrap();
    });
}

#[test]
fn the_root_of_a_multi_threaded_runtime_may_be_a_tree() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let value = runtime.block_on(on_tokio(async {
        let theirs = tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            7
        });
        theirs.await.unwrap()
    }));
    assert_eq!(value, 7);
}

#[test]
fn a_tree_whose_runtime_is_shut_down_panics_and_does_not_hang() {
    let tokio = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = tokio.handle().clone();
    let (reader, _writer) = std::io::pipe().unwrap();
    let (begin, begun) = std::sync::mpsc::channel();
    let tree = std::thread::spawn(move || {
        handle.block_on(on_tokio(async {
            begin.send(()).unwrap();
            xiio::readable(&reader).await
        }))
    });
    begun.recv().unwrap();
    tokio.shutdown_background();
    let text = tree.join().unwrap_err().downcast::<String>().unwrap();
    assert!(text.starts_with("tokio watches a xiio tree no longer: "), "{text}");
}

#[test]
fn inside_a_running_runtime_it_panics_with_advice() {
    let inside = || xiio::run(async { tokio().block_on(on_tokio(async {})) });
    let panic = catch_unwind(AssertUnwindSafe(inside)).unwrap_err();
    let text = panic.downcast_ref::<&str>().unwrap();
    assert!(text.contains("await the tree's future there instead"), "{text}");
}

#[test]
fn outside_of_its_turns_no_runtime_is_around() {
    run(async {
        let tree = tokio::task::spawn_local(on_tokio(sleep(Duration::from_millis(20))));
        tokio::task::yield_now().await;
        let polled = poll_fn(|cx| {
            let mut nap = std::pin::pin!(sleep(Duration::from_millis(1)));
            Poll::Ready(catch_unwind(AssertUnwindSafe(|| nap.as_mut().poll(cx).is_ready())))
        });
        assert!(polled.await.is_err(), "a sleep outside of the tree found a runtime");
        tree.await.unwrap();
    });
}
