//! Futures of tokio's inside a xiio tree: its sockets, timers and tasks, cancellation and panics.

use std::cell::Cell;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use xiio::compat::{on_tokio, with_tokio};
use xiio::thread::ThreadPool;
use xiio::{Promise, bracket, in_thread, run_in_thread, sleep, task_group, yield_now};
use xiio_tests::os::{ends_in_a_fork, rerun};
use xiio_tests::poll::{leak, once};
use xiio_tests::{DropCount, LONG, Trace, assert_cancels_cleanly, assert_panics, millis, rounds, run, takes};

fn has_context() -> bool {
    Handle::try_current().is_ok()
}

/// The name of the thread that runs the tasks of the tokio runtime that is around.
async fn thread_of_tasks() -> Option<String> {
    tokio::spawn(async { std::thread::current().name().map(ToOwned::to_owned) }).await.unwrap()
}

#[test]
fn a_timer_of_tokios_lasts_and_the_value_comes_out() {
    let value = takes(millis(30), || {
        run(with_tokio(async {
            tokio::time::sleep(millis(30)).await;
            7
        }))
    });
    assert_eq!(value, 7);
}

#[test]
fn an_error_is_the_group_s() {
    let refused: std::io::Result<()> = run(async {
        xiio::try_task_group!(|tg| {
            tg.spawn(async {
                // Nobody listens there.
                with_tokio(TcpStream::connect("127.0.0.1:1")).await?;
                Ok(())
            });
            sleep(LONG).await;
        })
    });
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn sockets_of_tokios_and_timers_of_xiio_s_pass_side_by_side() {
    let sum = run(with_tokio(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        task_group!(|tg| {
            tg.spawn(async {
                for _ in 0..20 {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    tg.spawn(async move {
                        let byte = stream.read_u8().await.unwrap();
                        sleep(millis(1)).await;
                        stream.write_u8(byte).await.unwrap();
                    });
                }
            });
            let mut sum = 0;
            for n in 0..20 {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                stream.write_u8(n).await.unwrap();
                sum += u32::from(stream.read_u8().await.unwrap());
            }
            sum
        })
    }));
    assert_eq!(sum, 190);
}

#[test]
fn the_context_is_there_in_the_future_and_its_groups_and_nowhere_else() {
    run(async {
        task_group!(|tg| {
            assert!(!has_context());
            let with = tg.spawn(with_tokio(async {
                assert!(has_context());
                task_group!(|inner| {
                    inner.spawn(async {
                        sleep(millis(1)).await;
                        assert!(has_context());
                    });
                });
                sleep(millis(10)).await;
            }));
            while !with.is_finished() {
                sleep(millis(1)).await;
                assert!(!has_context());
            }
        });
    });
}

#[test]
fn the_context_goes_along_to_other_threads() {
    let patient = xiio::Builder::new().detect_deadlock(millis(20));
    let on_them_all = async {
        task_group!(workers = 1, |tg| {
            let on_worker = tg.workers().spawn(async || {
                tokio::time::sleep(millis(50)).await;
                thread_of_tasks().await
            });
            assert_eq!(on_worker.await.as_deref(), Some("xiio-tokio"));
        });
        let tree = run_in_thread(async || {
            tokio::time::sleep(millis(50)).await;
            thread_of_tasks().await
        });
        assert_eq!(tree.await.as_deref(), Some("xiio-tokio"));
        let job = in_thread(|| Handle::current().block_on(thread_of_tasks()));
        assert_eq!(job.await.as_deref(), Some("xiio-tokio"));
    };
    patient.run(with_tokio(on_them_all));
    // The threads are used again.
    run(async {
        task_group!(workers = 1, |tg| assert!(!tg.workers().spawn(async || has_context()).await));
        assert!(!run_in_thread(async || has_context()).await);
        assert!(!in_thread(has_context).await);
    });
}

#[test]
fn all_threads_and_runs_share_one_helper() {
    let threads: Vec<_> =
        (0..4).map(|_| std::thread::spawn(|| run(with_tokio(async { thread_of_tasks().await })))).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().as_deref(), Some("xiio-tokio"));
    }
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    assert_eq!(names.filter(|name| name == "xiio-tokio\n").count(), 1);
}

#[test]
fn what_was_spawned_in_one_run_goes_on_in_the_next() {
    let (ask, asked) = oneshot::channel::<()>();
    let mut server = None;
    run(with_tokio(async {
        server = Some(tokio::spawn(async move {
            asked.await.unwrap();
            tokio::time::sleep(millis(1)).await;
            7
        }));
    }));
    let value = run(with_tokio(async {
        ask.send(()).unwrap();
        server.unwrap().await.unwrap()
    }));
    assert_eq!(value, 7);
}

#[test]
fn a_tokio_runtime_that_is_around_is_used() {
    let name = std::thread::current().name().map(ToOwned::to_owned);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(on_tokio(async { with_tokio(thread_of_tasks()).await }));
    assert_eq!(found, name);
}

#[test]
fn other_executors_may_poll_it_as_well() {
    futures::executor::block_on(with_tokio(tokio_sleeps(millis(1))));
}

#[test]
fn cancelled_it_leaves_nothing_behind() {
    assert_cancels_cleanly(|| with_tokio(tokio_sleeps(LONG)));
    assert_cancels_cleanly(|| with_tokio(pending::<()>()));
}

async fn tokio_sleeps(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Cancels what has been polled. Not by a limit of time, which may be over before that.
async fn cancel_half_way(work: impl Future) {
    task_group!(|tg| {
        let task = tg.spawn(work);
        yield_now().await;
        assert!(task.cancel().await.is_none());
    });
}

#[test]
fn cancelled_half_way_its_destructors_have_the_context() {
    struct LooksForContext<'a>(&'a Trace);
    impl Drop for LooksForContext<'_> {
        fn drop(&mut self) {
            self.0.note(format!("context in a destructor: {}", has_context()));
        }
    }
    let trace = Trace::new();
    run(async {
        let waits = with_tokio(async {
            let _looks = LooksForContext(&trace);
            tokio_sleeps(LONG).await;
        });
        cancel_half_way(waits).await;
        trace.note("cancel returned");
    });
    trace.assert(&["context in a destructor: true", "cancel returned"]);
}

#[test]
fn cancelled_half_way_its_cleanup_awaits_tokio() {
    let trace = Trace::new();
    run(async {
        let work = bracket(
            (),
            async |()| tokio_sleeps(LONG).await,
            async |()| {
                tokio_sleeps(millis(5)).await;
                trace.note("released");
            },
        );
        cancel_half_way(with_tokio(work)).await;
        trace.note("cancel returned");
    });
    trace.assert(&["released", "cancel returned"]);
}

#[test]
fn a_branch_of_a_foreign_combinator_does_not_go_on_while_another_cleans_up() {
    let went_on = Cell::new(false);
    run(async {
        let (send, receive) = oneshot::channel();
        let cleans_up = bracket(
            (),
            async |()| pending::<()>().await,
            async |()| {
                send.send(()).unwrap();
                rounds(3).await;
            },
        );
        let waits = with_tokio(async {
            receive.await.unwrap();
            went_on.set(true);
        });
        let both = async { futures::join!(cleans_up, waits) };
        cancel_half_way(both).await;
    });
    assert!(!went_on.get());
}

#[test]
fn a_panic_inside_comes_out_and_the_helper_lives() {
    let drops = DropCount::new();
    assert_panics(&["inside"], || {
        run(with_tokio(async {
            let _flag = drops.flag();
            tokio_sleeps(millis(1)).await;
            panic!("inside");
        }))
    });
    assert_eq!(drops.get(), 1);
    let lost = run(with_tokio(async { tokio::spawn(async { panic!("of a task of tokio's") }).await }));
    assert!(lost.unwrap_err().is_panic());
    assert_eq!(run(with_tokio(async { 7 })), 7);
}

#[test]
fn a_wait_for_it_is_no_deadlock() {
    let patient = xiio::Builder::new().detect_deadlock(millis(20));
    takes(millis(100), || patient.run(with_tokio(tokio_sleeps(millis(100)))));
}

#[test]
fn dropped_half_way_it_ends_the_connection() {
    run(async {
        let taken = Promise::new();
        let listener = xiio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        task_group!(|tg| {
            let client = tg.spawn(with_tokio(async {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                let _ = stream.read_u8().await;
            }));
            tg.spawn(async {
                let (stream, _) = listener.accept().await.unwrap();
                taken.set(()).unwrap();
                assert_eq!(xiio::read(&stream, &mut [0; 1]).await.unwrap(), 0);
            });
            taken.wait().await;
            client.cancel().await;
        });
    });
}

#[test]
fn a_started_future_that_outlives_its_thread_s_context_is_dropped_quietly() {
    type Kept = Pin<Box<dyn Future<Output = ()>>>;
    thread_local! {
        static KEPT: Cell<Option<Kept>> = const { Cell::new(None) };
    }
    let ended = std::thread::spawn(|| {
        // Before tokio's own thread-local, so that it is dropped after that.
        KEPT.set(None);
        run(async {
            let mut waits: Kept = Box::pin(with_tokio(tokio_sleeps(LONG)));
            assert!(once(waits.as_mut()).await.is_none());
            KEPT.set(Some(waits));
        });
    });
    ended.join().unwrap();
}

#[test]
fn many_waits_at_once_end_at_their_times() {
    let all = with_tokio(async {
        task_group!(|tg| {
            for n in 0..1000 {
                tg.spawn(tokio_sleeps(millis(n % 50)));
            }
        });
    });
    takes(millis(49), || run(all));
}

#[xiio::test(tokio)]
async fn a_whole_program_may_have_the_context() {
    assert!(has_context());
    xiio::task_group!(|tg| {
        tg.spawn(async { tokio::time::sleep(Duration::from_millis(1)).await });
    });
}

#[test]
fn a_leaf_on_the_thread_of_tokios_tasks_says_how_it_came_there() {
    let spawned = async {
        tokio::spawn(async {
            xiio::yield_now().await;
            xiio::sleep(Duration::ZERO).await;
        })
        .await
    };
    let payload = run(with_tokio(spawned)).unwrap_err().into_panic();
    let text = payload.downcast_ref::<&str>().unwrap();
    assert!(text.contains("it was handed to `tokio::spawn`"), "{text}");
}

#[test]
fn process_that_is_forked_off_has_a_runtime_of_tokio_of_its_own() {
    let output = rerun("program_that_forks").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above, in which nothing else runs"]
fn program_that_forks() {
    let use_tokio = || {
        assert_eq!(run(with_tokio(async { tokio::spawn(tokio::time::sleep(millis(1))).await.unwrap() })), ());
    };
    use_tokio();
    assert!(ends_in_a_fork(use_tokio));
    use_tokio();
}

/// Tokio panics where guards are dropped out of order. The thread goes on, and the value is there.
#[test]
fn job_that_leaves_the_context_of_a_runtime_behind_keeps_its_value_and_its_thread() {
    let pool = ThreadPool::new(1);
    let values = run(with_tokio(async {
        let keeps = pool.run(|| {
            leak(leak(Handle::current()).enter());
            7
        });
        (keeps.await, pool.run(|| 8).await)
    }));
    assert_eq!(values, (7, 8));
}
