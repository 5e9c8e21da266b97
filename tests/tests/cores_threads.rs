//! Threads that serve the workers of one group after those of another. As they are the process's, each test has one.

use std::collections::HashSet;
use std::future::{pending, poll_fn};
use std::mem::forget;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;
use std::{env, fs, process};

use xiio::inspect::ReportKind;
use xiio::net::TcpStream;
use xiio::{Builder, catch_panic, in_thread, run, run_in_thread, sleep, task_group, timeout, yield_now};
use xiio_tests::{LONG, Reports, os};

xiio::local! {
    static NAME: &'static str;
}

/// Runs a test in a process of its own; gives what that has printed, but not in there.
#[track_caller]
fn alone(test: &str, body: impl FnOnce()) -> Option<String> {
    ends_with(0, test, body)
}

/// [`alone`], where the process ends with this code.
#[track_caller]
fn ends_with(code: i32, test: &str, body: impl FnOnce()) -> Option<String> {
    const IS_ALONE: &str = "XIIO_TEST_IS_ALONE";
    if env::var_os(IS_ALONE).is_some() {
        body();
        return None;
    }
    let mut command = os::with_usual_signals(Command::new(env::current_exe().unwrap()));
    let output = command.args(["--exact", test, "--nocapture"]).env(IS_ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}: {said}", output.status);
    Some(said)
}

/// The threads of a group with so many workers.
async fn threads_of_a_group(workers: usize) -> HashSet<ThreadId> {
    let ids = task_group!(workers = workers, |tg| { tg.workers().each(async |_| thread::current().id()).await });
    HashSet::from_iter(ids)
}

/// How many pollers there are in this process. A sanitizer opens descriptors of its own.
fn n_pollers() -> usize {
    let fds = fs::read_dir("/proc/self/fd").unwrap();
    let names = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    names.filter(|name| name.to_string_lossy().contains("eventpoll")).count()
}

/// How many threads of workers there are in this process.
fn n_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may end meanwhile.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "xiio-worker").count()
}

#[test]
fn the_workers_of_the_next_group_run_on_the_threads_of_the_last() {
    alone("the_workers_of_the_next_group_run_on_the_threads_of_the_last", || {
        run(async {
            let first = threads_of_a_group(2).await;
            assert_eq!(first.len(), 2);
            for _ in 0..100 {
                assert!(threads_of_a_group(2).await.is_subset(&first));
            }
            // A group beside it has others.
            task_group!(workers = 2, |tg| {
                tg.workers().each(async |_| ()).await;
                assert_eq!(threads_of_a_group(2).await.len(), 2);
            });
        });
        // Of another thread, in a run of its own.
        let n_before = n_threads();
        thread::spawn(|| run(threads_of_a_group(2))).join().unwrap();
        assert!(n_threads() <= n_before, "a thread was started although others were idle");
    });
}

#[test]
fn a_thousand_groups_have_as_many_threads_as_one_has_workers() {
    alone("a_thousand_groups_have_as_many_threads_as_one_has_workers", || {
        let mut ids = HashSet::new();
        run(async {
            for _ in 0..1000 {
                ids.extend(threads_of_a_group(3).await);
            }
        });
        assert_eq!(ids.len(), 3);
        assert_eq!(n_threads(), 3);
    });
}

/// Has two workers count on, in what the task around the group has, until the process ends.
async fn count_until_the_exit(exit: impl AsyncFnOnce()) {
    let counters = [const { AtomicUsize::new(0) }; 2];
    task_group!(workers = 2, |tg| {
        for counter in &counters {
            tg.workers().spawn(async || {
                loop {
                    counter.fetch_add(1, Relaxed);
                    yield_now().await;
                }
            });
        }
        while counters.iter().any(|counter| counter.load(Relaxed) < 100) {
            sleep(Duration::from_millis(1)).await;
        }
        exit().await;
    });
}

#[test]
fn a_process_may_exit_at_home_while_its_workers_run() {
    ends_with(7, "a_process_may_exit_at_home_while_its_workers_run", || {
        run(count_until_the_exit(async || process::exit(7)));
    });
}

#[test]
fn a_process_may_exit_on_a_worker() {
    ends_with(7, "a_process_may_exit_on_a_worker", || {
        run(count_until_the_exit(async || {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async || process::exit(7));
            });
        }));
    });
}

#[test]
fn a_process_may_exit_beside_a_tree_with_workers() {
    ends_with(7, "a_process_may_exit_beside_a_tree_with_workers", || {
        let (counts, is_counting) = channel();
        let tree = async move || {
            counts.send(()).unwrap();
            pending::<()>().await;
        };
        thread::spawn(|| run(count_until_the_exit(tree)));
        is_counting.recv().unwrap();
        process::exit(7);
    });
}

#[test]
fn the_threads_of_a_leaked_group_serve_no_other() {
    alone("the_threads_of_a_leaked_group_serve_no_other", || {
        static LEAKED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
        run(async {
            let mut group: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
                task_group!(workers = 2, |tg| {
                    for _ in 0..2 {
                        tg.workers().spawn(async || {
                            LEAKED.lock().unwrap().push(thread::current().id());
                            pending::<()>().await;
                        });
                    }
                });
            });
            let mut have_begun = pin!(async {
                while LEAKED.lock().unwrap().len() < 2 {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            poll_fn(|cx| {
                let _ = group.as_mut().poll(cx);
                have_begun.as_mut().poll(cx)
            })
            .await;
            forget(group);
            let leaked = HashSet::from_iter(LEAKED.lock().unwrap().drain(..));
            for _ in 0..1000 {
                assert!(threads_of_a_group(2).await.is_disjoint(&leaked));
            }
        });
        assert_eq!(n_threads(), 4);
    });
}

#[test]
fn an_idle_thread_has_no_poller() {
    alone("an_idle_thread_has_no_poller", || {
        run(async {
            let n_before = n_pollers();
            threads_of_a_group(2).await;
            // The end of a group does not wait for its threads.
            os::wait_until("the pollers of the workers are closed", || n_pollers() == n_before);
            assert!(n_threads() >= 2);
        });
    });
}

/// Workers that leave wake the thread that has lent to them, whatever it does by then.
#[test]
fn an_idle_thread_that_was_woken_for_nothing_has_no_poller() {
    alone("an_idle_thread_that_was_woken_for_nothing_has_no_poller", || {
        run(async {
            let n_before = n_pollers();
            let lend = async || {
                threads_of_a_group(2).await;
                thread::current().unpark();
            };
            task_group!(workers = 1, |tg| tg.workers().spawn(lend).await);
            os::wait_until("the pollers of the workers are closed", || n_pollers() == n_before);
            assert!(n_threads() >= 3, "the thread has kept its poller to its end");
        });
    });
}

#[test]
fn nothing_of_a_group_is_left_on_its_threads() {
    alone("nothing_of_a_group_is_left_on_its_threads", || {
        let reports = Reports::new();
        let too_long = async || thread::sleep(Duration::from_millis(60));
        let first = Builder::new().slow_poll(Duration::from_millis(20)).run(NAME.scope("first", async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(too_long).await;
                tg.workers().spawn(async || (NAME.try_with(|name| *name).ok(), thread::current().id())).await
            })
        }));
        assert_eq!(first.0, Some("first"));
        assert!(reports.kinds().contains(&ReportKind::SlowPoll));
        let reports = Reports::new();
        let second = run(async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(too_long).await;
                tg.workers().spawn(async || (NAME.try_with(|name| *name).ok(), thread::current().id())).await
            })
        });
        assert_eq!(second, (None, first.1));
        reports.assert_none();
    });
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a destructor");
        }
    }
}

#[test]
fn threads_on_which_tasks_and_destructors_have_panicked_go_on() {
    alone("threads_on_which_tasks_and_destructors_have_panicked_go_on", || {
        let ids = Mutex::new(HashSet::new());
        for round in 0..60 {
            let failed = catch_unwind(AssertUnwindSafe(|| {
                run(async {
                    task_group!(workers = 2, |tg| {
                        tg.workers().spawn(async || {
                            let _bomb = (round % 3 != 0).then_some(Bomb);
                            ids.lock().unwrap().insert(thread::current().id());
                            match round % 3 {
                                1 => drop(timeout(Duration::from_micros(10), pending::<()>()).await),
                                _ => panic!("a task"),
                            }
                        });
                    });
                });
            }));
            assert!(failed.is_err());
        }
        let n_threads = ids.lock().unwrap().len();
        assert!(n_threads <= 2, "{n_threads} threads for a group after the other");
    });
}

/// What becomes of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ends,
    IsDropped,
    IsLeaked,
}

/// Has a group whose tasks have groups with workers of their own.
async fn nest(fate: Fate, data: &AtomicUsize) {
    let inner = async || {
        let mut group: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
            task_group!(workers = 2, |tg| {
                for _ in 0..4 {
                    tg.workers().spawn(async || {
                        if fate == Fate::Ends {
                            return;
                        }
                        loop {
                            data.fetch_add(1, Relaxed);
                            yield_now().await;
                        }
                    });
                }
            });
        });
        if fate == Fate::Ends {
            return group.await;
        }
        let mut time = pin!(sleep(Duration::from_millis(1)));
        poll_fn(|cx| {
            let _ = group.as_mut().poll(cx);
            time.as_mut().poll(cx)
        })
        .await;
        if fate == Fate::IsLeaked { forget(group) } else { drop(group) }
    };
    task_group!(workers = 2, |tg| {
        tg.workers().spawn(inner);
        tg.workers().spawn(inner);
    });
}

#[test]
fn groups_in_tasks_of_workers_are_ended_left_and_leaked_and_the_next_have_threads() {
    alone("groups_in_tasks_of_workers_are_ended_left_and_leaked_and_the_next_have_threads", || {
        let fates = [Fate::Ends, Fate::IsDropped, Fate::IsLeaked, Fate::IsDropped, Fate::Ends];
        run(async {
            for fate in fates.repeat(10) {
                let data = AtomicUsize::new(0);
                nest(fate, &data).await;
                assert_eq!(threads_of_a_group(2).await.len(), 2);
            }
        });
        // Ten times two groups, each with two threads, and what the others have together.
        assert!(n_threads() <= 40 + 8, "{} threads", n_threads());
    });
}

/// A waker that waits for a message when it is dropped.
struct Waits(Mutex<Receiver<()>>);

impl Wake for Waits {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Waits {
    fn drop(&mut self) {
        HAS_COME.store(self.0.get_mut().unwrap().recv_timeout(PATIENCE).is_ok(), Relaxed);
        HAS_WAITED.store(true, Relaxed);
    }
}

/// How long it waits where nobody sends one.
const PATIENCE: Duration = Duration::from_secs(20);

static HAS_COME: AtomicBool = AtomicBool::new(false);
static HAS_WAITED: AtomicBool = AtomicBool::new(false);

#[test]
fn a_group_does_not_wait_for_destructors_of_what_the_last_has_left_behind() {
    alone("a_group_does_not_wait_for_destructors_of_what_the_last_has_left_behind", || {
        let (sender, receiver) = channel();
        run(async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async move || {
                    let waker = Waker::from(Arc::new(Waits(Mutex::new(receiver))));
                    let mut left = Box::pin(sleep(LONG));
                    assert!(left.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    forget(left);
                });
            });
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async move || sender.send(()).unwrap());
            });
        });
        os::wait_until("the waker is dropped", || HAS_WAITED.load(Relaxed));
        assert!(HAS_COME.load(Relaxed), "a worker waited for the thread of another, which waited for it");
    });
}

/// How many descriptors this process may have open, from now on and before.
#[expect(unsafe_code, reason = "std does not set limits")]
fn set_limit(n_fds: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives until the call returns.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let before = std::mem::replace(&mut limit.rlim_cur, n_fds);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    before
}

#[test]
fn a_thread_whose_runtime_has_failed_serves_no_other_group() {
    alone("a_thread_whose_runtime_has_failed_serves_no_other_group", || {
        run(async {
            let n_before = n_pollers();
            let first = threads_of_a_group(1).await;
            os::wait_until("its poller is closed", || n_pollers() == n_before);
            let before = set_limit(3);
            let failed = catch_panic(threads_of_a_group(1)).await;
            set_limit(before);
            let panic = failed.expect_err("a worker has a poller of its own");
            assert!(format!("{panic}").contains("cannot start a runtime"), "{panic}");
            assert!(threads_of_a_group(1).await.is_disjoint(&first));
            os::wait_until("the first thread has ended", || n_threads() == 1);
        });
    });
}

#[test]
fn panic_of_what_gets_no_thread_is_heard_of_and_an_operation_on_a_file_has_an_error() {
    alone("panic_of_what_gets_no_thread_is_heard_of_and_an_operation_on_a_file_has_an_error", || {
        static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
        // As where a container has a limit of threads, whichever call the C library makes.
        os::refuse_system_call(libc::SYS_clone3, libc::EAGAIN);
        os::refuse_system_call(libc::SYS_clone, libc::EAGAIN);
        panic::set_hook(Box::new(|panic| HEARD.lock().unwrap().push(panic.to_string())));
        let thrown = [
            catch_unwind(|| run(in_thread(|| ()))),
            catch_unwind(|| run(run_in_thread(async || ()))),
            catch_unwind(|| run(async { task_group!(workers = 1, |tg| drop(tg.workers().spawn(async || ()))) })),
        ];
        drop(panic::take_hook());
        let heard = HEARD.lock().unwrap();
        assert_eq!(heard.len(), thrown.len(), "{heard:?}");
        for ((thrown, heard), part) in thrown.into_iter().zip(&*heard).zip([file!(), file!(), "`workers`"]) {
            let text = thrown.unwrap_err().downcast::<String>().unwrap();
            assert!(heard.ends_with(&*text), "{heard}");
            assert!(text.starts_with("cannot start ") && text.contains(part), "{text}");
        }
        let of_file = run(xiio::fs::read("/dev/null")).unwrap_err();
        let of_name = run(TcpStream::connect("localhost:1")).unwrap_err();
        assert_eq!([of_file, of_name].map(|error| error.raw_os_error()), [Some(libc::EAGAIN); 2]);
    });
}

/// A waker that is dropped when its thread has no group any more.
struct Late(std::sync::mpsc::Sender<()>);

impl Wake for Late {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Late {
    fn drop(&mut self) {
        let _ = self.0.send(());
        panic!("too late for the group");
    }
}

#[test]
fn what_a_thread_reports_behind_the_end_of_its_group_is_printed() {
    let said = alone("what_a_thread_reports_behind_the_end_of_its_group_is_printed", || {
        let (dropped, are_dropped) = channel();
        run(async {
            task_group!(workers = 1, |tg| {
                tg.workers().spawn(async move || {
                    for _ in 0..2 {
                        let waker = Waker::from(Arc::new(Late(dropped.clone())));
                        let mut forgotten = Box::pin(sleep(LONG));
                        assert!(forgotten.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                        forget(forgotten);
                    }
                });
            });
        });
        // Behind the second one the first is reported.
        for _ in 0..2 {
            are_dropped.recv_timeout(LONG).unwrap();
        }
    });
    if let Some(said) = said {
        assert!(said.contains("xiio: a waker panicked: too late for the group"), "{said}");
    }
}
