//! Programs that are told to stop: each runs in a process of its own, and the parent looks how it ends.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use xiio::signal::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGWINCH};
use xiio::{bracket, shield, sleep, task_group, yield_now};
use xiio_tests::os::{
    Inherited, OnTerminal, children_of, errno_after_raise, full_pipe, handler_of, is_running, limit_fds, rerun,
    rerun_in_namespace, send, send_self, start_until, start_with, state_of, take_all_fds, wait_until,
};

const LONG: Duration = Duration::from_secs(3600);

/// How a program ended, and what it said after it was ready.
struct End {
    status: ExitStatus,
    output: String,
    errors: String,
}

/// Starts a program of this file, sends it a signal for each word it says, and waits for its end.
fn run_program(test: &str, signals: &[(&str, i32)]) -> End {
    let mut command = rerun(test);
    command.stderr(Stdio::piped());
    let ((first_word, first_signal), others) = signals.split_first().unwrap();
    let (mut child, mut output) = start_until(&mut command, first_word);
    assert!(send(child.id(), *first_signal));
    let mut said = String::new();
    for (word, signal) in others {
        while !said.trim_end().ends_with(word) {
            assert_ne!(std::io::BufRead::read_line(&mut output, &mut said).unwrap(), 0, "no `{word}` in {said:?}");
        }
        assert!(send(child.id(), *signal));
    }
    output.read_to_string(&mut said).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    End { status: child.wait().unwrap(), output: said, errors }
}

fn say(word: &str) {
    println!("{word}");
}

#[test]
fn without_the_attribute_a_signal_ends_the_program_as_any_other() {
    let end = run_program("plain_program", &[("ready", SIGTERM)]);
    assert_eq!((end.status.signal(), &*end.output), (Some(SIGTERM), ""));
}

#[test]
#[ignore = "a program for the test above"]
fn plain_program() {
    xiio::run(async {
        bracket((), async |_| ready_and_wait().await, async |_| say("cleaned up")).await;
    });
}

async fn ready_and_wait() {
    say("ready");
    sleep(LONG).await;
    unreachable!("cancelled code does not run on");
}

#[test]
fn first_signal_cleans_up_and_ends_the_program_by_itself() {
    for signal in [SIGINT, SIGTERM] {
        let end = run_program("program_with_cleanup", &[("ready", signal)]);
        assert_eq!(end.status.signal(), Some(signal), "{}", end.errors);
        assert_eq!(end.output, "task\nbody\nno newline at the end");
        assert_eq!(end.errors, "", "a quick cleanup is not spoken of");
    }
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_cleanup() {
    #[xiio::main(cancel_on(SIGINT, SIGTERM), name = "main")]
    async fn main() {
        let cleanup = async |word| {
            sleep(Duration::from_millis(5)).await;
            say(word);
        };
        bracket(
            (),
            async |_| {
                task_group!(|tg| {
                    tg.spawn(bracket((), async |_| ready_and_wait().await, async |_| cleanup("task").await));
                    sleep(LONG).await;
                });
            },
            async |_| {
                cleanup("body").await;
                print!("no newline at the end");
            },
        )
        .await;
    }
    main();
    unreachable!("a program that was told to stop does not go on after its root");
}

#[test]
fn what_comes_within_a_second_is_the_same_request() {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let end = run_program("program_that_is_told_thrice", &[("ready", signal)]);
        assert_eq!((end.status.signal(), &*end.output), (Some(signal), "cleaned up\n"), "{}", end.errors);
    }
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_told_thrice() {
    xiio::Builder::new().cancel_on(&[SIGINT, SIGTERM, SIGHUP]).run(async {
        bracket(
            (),
            async |_| ready_and_wait().await,
            async |_| {
                // A wrapper has heard of it too, and a service manager sends two of them.
                [SIGINT, SIGTERM, SIGHUP].into_iter().for_each(send_self);
                sleep(Duration::from_millis(50)).await;
                say("cleaned up");
            },
        )
        .await;
    });
}

#[test]
fn slow_cleanup_is_spoken_of_and_goes_on_until_somebody_is_impatient() {
    let end = run_program("program_with_slow_cleanup", &[("ready", SIGTERM)]);
    assert_eq!((end.status.signal(), &*end.output), (Some(SIGINT), "second request\nimpatience\n"), "{}", end.errors);
    let errors = end.errors;
    let said = "still cleaning up 1 s after SIGTERM; SIGINT or SIGQUIT ends the process at once:";
    assert_eq!(errors.matches(said).count(), 2, "once by itself, once for the second SIGTERM: {errors}");
    assert!(errors.contains("group `server`"), "{errors}");
    assert!(errors.contains("signal_shutdown.rs:"), "where the task was spawned: {errors}");
    assert!(errors.contains("sleep, 3"), "what it waits for: {errors}");
}

#[test]
fn errors_that_nobody_reads_keep_no_cleanup() {
    let (_nobody_reads, full) = full_pipe();
    let mut command = rerun("program_with_much_to_say");
    command.stderr(full);
    let (mut child, mut output) = start_until(&mut command, "ready");
    assert!(send(child.id(), SIGQUIT));
    assert!(send(child.id(), SIGTERM));
    wait_until("the program ends", || state_of(child.id()) == Some('Z'));
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!((&*said, child.wait().unwrap().signal()), ("cleaned up\n", Some(SIGTERM)));
}

#[test]
fn terminal_that_was_stopped_keeps_no_cleanup() {
    let mut terminal = OnTerminal::start(&mut rerun("program_with_a_report"));
    terminal.read_until("ready");
    // Ctrl-S.
    terminal.type_in("\x13");
    let pid = terminal.child.id();
    assert!(send(pid, SIGTERM));
    wait_until("the program ends", || state_of(pid) == Some('Z'));
    assert_eq!(terminal.child.wait().unwrap().signal(), Some(SIGTERM));
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_a_report() {
    xiio::Builder::new().cancel_on(&[SIGTERM]).run(async {
        // It is spoken of after a second.
        bracket((), async |_| ready_and_wait().await, async |_| sleep(Duration::from_millis(1200)).await).await;
    });
}

#[test]
#[ignore = "a program for the test further above"]
fn program_with_much_to_say() {
    xiio::Builder::new().cancel_on(&[SIGTERM]).tree_on(&[SIGQUIT]).run(async {
        let cleanup = async |_| {
            // It is spoken of after a second.
            sleep(Duration::from_millis(1200)).await;
            say("cleaned up");
        };
        bracket((), async |_| ready_and_wait().await, cleanup).await;
    });
}

#[test]
fn what_does_not_end_the_process_is_not_said_to_do_so() {
    let end = run_program("program_that_prints_its_tree_at_one_of_them", &[("ready", SIGTERM)]);
    assert!(end.errors.contains("after SIGTERM; SIGINT ends the process at once:"), "{}", end.errors);
    let mut command = rerun("program_that_prints_its_tree_at_one_of_them");
    command.stderr(Stdio::piped());
    start_with(&mut command, SIGINT, Inherited::Ignored);
    let (child, _output) = start_until(&mut command, "ready");
    assert!(send(child.id(), SIGTERM));
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("after SIGTERM; only SIGKILL ends the process sooner:"), "{errors}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_prints_its_tree_at_one_of_them() {
    xiio::Builder::new().cancel_on(&[SIGTERM]).tree_on(&[SIGQUIT]).run(async {
        bracket((), async |_| ready_and_wait().await, async |_| sleep(Duration::from_millis(1500)).await).await;
    });
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_slow_cleanup() {
    let n_reports = Rc::new(Cell::new(0));
    let count = Rc::clone(&n_reports);
    let _listening = xiio::inspect::listen(move |report| {
        eprintln!("{report}");
        count.set(count.get() + 1);
    });
    let reported = async |n_expected| {
        while n_reports.get() < n_expected {
            sleep(Duration::from_millis(5)).await;
        }
    };
    xiio::Builder::new().name("server").cancel_on(&[SIGINT, SIGTERM]).run(async {
        task_group!(|tg| {
            tg.spawn(bracket((), async |_| ready_and_wait().await, async |_| sleep(LONG).await));
            let cleanup = async |_| {
                reported(1).await;
                say("second request");
                send_self(SIGTERM);
                reported(2).await;
                say("impatience");
                send_self(SIGINT);
                say("lives on");
            };
            bracket((), async |_| sleep(LONG).await, cleanup).await;
        });
    });
}

#[test]
fn impatience_ends_a_program_whose_thread_is_stuck() {
    for (program, signal) in [("program_that_is_stuck", SIGINT), ("program_that_is_strict", SIGTERM)] {
        let end = run_program(program, &[("ready", signal), ("stuck", signal)]);
        assert_eq!((end.status.signal(), &*end.output), (Some(signal), "stuck\n"), "{program}");
    }
}

async fn get_stuck(moment: Duration) {
    bracket(
        (),
        async |_| ready_and_wait().await,
        async |_| {
            std::thread::sleep(moment);
            say("stuck");
            std::thread::sleep(LONG);
        },
    )
    .await;
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_stuck() {
    xiio::Builder::new().cancel_on(&[SIGINT]).run(get_stuck(Duration::from_millis(1100)));
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_strict() {
    #[xiio::main(cancel_on(SIGINT, SIGTERM), impatience = Duration::ZERO, impatient_on(SIGTERM))]
    async fn main() {
        get_stuck(Duration::ZERO).await;
    }
    main();
}

#[test]
fn impatience_ends_the_first_process_of_a_namespace() {
    let Some(mut command) = rerun_in_namespace("program_that_is_stuck") else { return };
    let (mut unshare, mut output) = start_until(&mut command, "ready");
    let first = children_of(unshare.id())[0];
    assert!(send(first, SIGINT));
    let mut said = String::new();
    while !said.ends_with("stuck\n") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said:?}");
    }
    assert!(send(first, SIGINT));
    wait_until("it ends", || !is_running(first));
    // The default action of no signal ends such a process.
    assert_eq!(unshare.wait().unwrap().code(), Some(128 + SIGINT));
}

#[test]
fn impatience_can_be_refused() {
    let end = run_program("program_without_impatience", &[("ready", SIGINT)]);
    assert_eq!((end.status.signal(), &*end.output), (Some(SIGINT), "cleaned up\n"), "{}", end.errors);
    assert!(end.errors.contains("1 s after SIGINT; only SIGKILL ends the process sooner:"), "{}", end.errors);
}

#[test]
#[ignore = "a program for the test above"]
fn program_without_impatience() {
    #[xiio::main(cancel_on(SIGINT), impatience = None)]
    async fn main() {
        let cleanup = async |_| {
            sleep(Duration::from_millis(1100)).await;
            send_self(SIGINT);
            say("cleaned up");
        };
        bracket((), async |_| ready_and_wait().await, cleanup).await;
    }
    main();
}

// What is inherited

#[test]
fn signal_that_is_ignored_at_the_start_stays_ignored() {
    let mut command = rerun("program_that_hears_of_a_hang_up");
    start_with(&mut command, SIGHUP, Inherited::Ignored);
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGTERM));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("lives on\ncleaned up\n"), "{output:?}");
}

#[test]
fn signal_that_is_blocked_at_the_start_is_let_through() {
    let mut command = rerun("program_that_hears_of_a_hang_up");
    start_with(&mut command, SIGHUP, Inherited::Blocked);
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGHUP));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("cleaned up\n") && !said.contains("lives on"), "{output:?}");
}

#[test]
#[ignore = "a program for the tests above"]
fn program_that_hears_of_a_hang_up() {
    xiio::Builder::new().cancel_on(&[SIGHUP, SIGTERM]).run(async {
        let wait = async |_: &mut ()| {
            assert!(send(std::process::id(), SIGHUP));
            sleep(Duration::from_millis(100)).await;
            say("lives on");
            send_self(SIGTERM);
            sleep(LONG).await;
        };
        bracket((), wait, async |_| say("cleaned up")).await;
    });
}

// A subscription that takes one signal and is gone

#[test]
fn echo_of_a_signal_that_was_received_is_swallowed_and_a_later_one_is_not() {
    let output = rerun("program_that_takes_one_signal").output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGINT), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("lives on\n"), "{output:?}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_takes_one_signal() {
    xiio::run(async {
        let mut signals = xiio::signal::subscribe(&[SIGINT, SIGTERM]).unwrap();
        send_self(SIGTERM);
        assert_eq!(signals.recv().await.unwrap(), SIGTERM);
        drop(signals);
        [SIGINT, SIGTERM].into_iter().for_each(send_self);
        let again = xiio::signal::subscribe(&[SIGINT]).unwrap();
        drop(again);
        send_self(SIGTERM);
        sleep(Duration::from_millis(1100)).await;
        say("lives on");
        send_self(SIGINT);
        say("longer than it should");
    });
}

#[test]
fn grace_bounds_the_cleanup() {
    let start = Instant::now();
    let end = run_program("program_with_grace", &[("ready", SIGHUP)]);
    assert_eq!(end.status.signal(), Some(SIGHUP));
    assert!(end.errors.contains("the grace of group `main` is over"), "{}", end.errors);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_grace() {
    let grace = Duration::from_millis(50);
    xiio::Builder::new().name("main").grace(grace).cancel_on(&[SIGHUP]).run(async {
        bracket((), async |_| ready_and_wait().await, async |_| sleep(LONG).await).await;
    });
}

#[test]
fn signal_in_the_last_poll_ends_the_program_too() {
    let output = rerun("program_that_ends_with_its_signal").output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGTERM), "{output:?}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_ends_with_its_signal() {
    xiio::Builder::new().cancel_on(&[SIGINT, SIGTERM]).run(async {
        // A computation, without an await.
        errno_after_raise(0, SIGTERM);
    });
    unreachable!("a program that was told to stop does not go on after its root");
}

#[test]
fn a_thread_that_holds_standard_output_keeps_no_program_from_its_signal() {
    let end = run_program("program_whose_output_is_held", &[("ready", SIGTERM)]);
    assert_eq!(end.status.signal(), Some(SIGTERM));
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_output_is_held() {
    xiio::Builder::new().cancel_on(&[SIGTERM]).run(async {
        std::thread::spawn(|| {
            let mut held = io::stdout().lock();
            writeln!(held, "ready").unwrap();
            std::thread::sleep(LONG);
        });
        sleep(LONG).await;
    });
}

#[test]
fn a_program_that_holds_standard_output_itself_loses_nothing_of_it() {
    let end = run_program("program_that_holds_its_output", &[("ready", SIGTERM)]);
    assert_eq!(end.status.signal(), Some(SIGTERM));
    assert!(end.output.contains("half a line"), "{}", end.output);
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_holds_its_output() {
    let mut held = io::stdout().lock();
    xiio::Builder::new().cancel_on(&[SIGTERM]).run(async {
        writeln!(held, "ready").unwrap();
        write!(held, "half a line").unwrap();
        sleep(LONG).await;
    });
}

#[test]
fn program_without_a_signal_returns_its_value() {
    #[xiio::main(cancel_on(SIGWINCH))]
    async fn main() -> Result<i32, std::io::Error> {
        sleep(Duration::from_millis(1)).await;
        Ok(7)
    }
    assert_eq!(main().unwrap(), 7);
}

#[test]
fn signal_that_ends_nothing_by_default_still_ends_the_program() {
    let end = run_program("program_that_ends_on_winch", &[("ready", SIGWINCH)]);
    assert_eq!(end.status.code(), Some(128 + SIGWINCH));
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_ends_on_winch() {
    xiio::Builder::new().cancel_on(&[SIGWINCH]).run(ready_and_wait());
}

#[test]
#[should_panic = "cannot subscribe to signal 0: there is no such signal"]
fn impatience_takes_no_signal_that_there_is_not() {
    xiio::Builder::new().cancel_on(&[SIGINT]).impatient_on(&[0]).run(async {});
}

#[test]
#[should_panic = "`cancel_on`: cannot subscribe to SIGKILL: the kernel lets nobody catch it"]
fn signal_that_cannot_be_caught_panics() {
    xiio::Builder::new().cancel_on(&[libc::SIGKILL]).run(async {});
}

#[test]
fn shielded_work_is_finished_before_the_program_dies() {
    let end = run_program("program_that_shields", &[("ready", SIGTERM)]);
    assert_eq!((end.status.signal(), &*end.output), (Some(SIGTERM), "shielded\n"));
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_shields() {
    xiio::Builder::new().cancel_on(&[SIGTERM]).run(async {
        let stopping = xiio::Promise::new();
        let work = async {
            shield(async {
                stopping.wait().await;
                say("shielded");
            })
            .await;
            say("went on");
        };
        let stop = async |_| stopping.set(()).unwrap();
        xiio::join!(work, bracket((), async |_| ready_and_wait().await, stop));
    });
}

#[test]
fn a_cleanup_that_panics_keeps_no_program_from_its_signal() {
    for program in ["program_whose_cleanup_panics", "program_whose_destructor_panics"] {
        let end = run_program(program, &[("ready", SIGTERM)]);
        assert_eq!((end.status.signal(), &*end.output), (Some(SIGTERM), "cleaned up\n"), "{program}: {}", end.errors);
        assert!(end.errors.contains("xiio: a ") && end.errors.contains("panicked: in the end"), "{}", end.errors);
    }
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_cleanup_panics() {
    xiio::Builder::new().cancel_on(&[SIGTERM]).run(async {
        let cleans_up = bracket(
            (),
            async |_| sleep(LONG).await,
            async |_| {
                sleep(Duration::from_millis(5)).await;
                say("cleaned up");
            },
        );
        let panics = bracket((), async |_| ready_and_wait().await, async |_| panic!("in the end"));
        futures::join!(cleans_up, panics);
    });
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_destructor_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            say("cleaned up");
            panic!("in the end");
        }
    }
    xiio::Builder::new().cancel_on(&[SIGTERM]).run(async {
        let _bomb = Bomb;
        ready_and_wait().await;
    });
}

/// Starts a program of this file, sends it SIGQUIT when it is ready, and gives what it says on standard error up to `last`.
fn tree_of(test: &str, last: &str) -> Vec<String> {
    let (mut child, _output) = start_until(rerun(test).stderr(Stdio::piped()), "ready");
    assert!(send(child.id(), SIGQUIT));
    let mut lines = Vec::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    while lines.last().is_none_or(|line: &String| !line.contains(last)) {
        lines.push(errors.next().expect("the program goes on").unwrap());
    }
    // It goes on, and what was asked of the signal is done again.
    assert!(send(child.id(), SIGQUIT));
    assert!(errors.any(|line| line.unwrap().contains(last)));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
    lines
}

#[test]
fn the_tree_is_printed_at_each_signal_that_was_named_for_it() {
    let lines = tree_of("program_with_a_tree", "sleep, ");
    assert!(lines[0].ends_with(" at SIGQUIT:") && lines[0].starts_with("xiio: the tree of process "), "{lines:?}");
    let said = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(said("group `server`") && said("task `sleeper`, spawned at "), "{lines:?}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_a_tree() {
    #[xiio::main(tree_on(SIGQUIT))]
    async fn main() {
        task_group!(name = "server", |tg| {
            tg.spawn_named("sleeper", async {
                yield_now().await;
                ready_and_wait().await;
            });
        });
    }
    main();
}

#[test]
fn a_loop_that_is_blocked_says_so_at_the_signal_and_prints_its_tree_later() {
    let programs =
        [("program_that_blocks_for_a_while", "sleep, "), ("program_whose_worker_blocks_for_a_while", "worker 0")];
    for (program, end) in programs {
        let lines = tree_of(program, end);
        assert!(lines[0].contains("comes when the loop does: a task keeps it"), "{program} {lines:?}");
    }
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_blocks_for_a_while() {
    xiio::Builder::new().tree_on(&[SIGQUIT]).run(async {
        task_group!(|tg| {
            tg.spawn(async {
                say("ready");
                std::thread::sleep(Duration::from_secs(3));
                sleep(LONG).await;
            });
        });
    });
}

#[test]
#[ignore = "a program for the test above"]
fn program_whose_worker_blocks_for_a_while() {
    xiio::Builder::new().tree_on(&[SIGQUIT]).run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || {
                say("ready");
                std::thread::sleep(Duration::from_secs(3));
                sleep(LONG).await;
            });
        });
    });
}

#[test]
fn a_tree_that_takes_long_to_draw_is_no_task_that_keeps_the_loop() {
    let lines = tree_of("program_that_is_slowly_drawn", "task, ");
    assert!(lines[0].ends_with(" at SIGQUIT:"), "{lines:?}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_that_is_slowly_drawn() {
    let mut n_polls = 0;
    let slow = std::future::poll_fn(|_| {
        n_polls += 1;
        if n_polls > 1 {
            std::thread::sleep(Duration::from_secs(1));
        }
        std::task::Poll::<()>::Pending
    });
    xiio::Builder::new().tree_on(&[SIGQUIT]).run(async {
        task_group!(|tg| {
            tg.spawn(slow);
            yield_now().await;
            sleep(Duration::from_millis(50)).await;
            say("ready");
        });
    });
}

#[test]
fn without_its_run_a_signal_of_the_tree_does_what_it_did_before() {
    let end = run_program("program_after_a_tree", &[("ready", SIGQUIT)]);
    assert_eq!(end.status.signal(), Some(SIGQUIT), "{}", end.errors);
}

#[test]
#[ignore = "a program for the test above"]
fn program_after_a_tree() {
    assert_eq!(xiio::Builder::new().tree_on(&[SIGQUIT]).run(async { 7 }), 7);
    say("ready");
    std::thread::sleep(LONG);
}

#[test]
fn without_descriptors_for_the_tree_a_run_does_not_begin() {
    let output = rerun("program_with_few_descriptors_for_a_tree").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_few_descriptors_for_a_tree() {
    limit_fds(64);
    let mut taken = take_all_fds();
    let mut begins = false;
    while !begins {
        // One more in each round.
        taken.pop().unwrap();
        begins = catch_unwind(|| {
            xiio::Builder::new().tree_on(&[SIGQUIT]).run(async {
                for _ in 0..20 {
                    sleep(Duration::from_millis(1)).await;
                    assert_ne!(handler_of(SIGQUIT), libc::SIG_DFL, "nobody waits for the signal");
                }
            });
        })
        .inspect_err(|panic| assert!(panic.downcast_ref::<String>().unwrap().contains("Too many open files")))
        .is_ok();
    }
}
