//! `?`, `return`, `break` and `continue` through the body of a group: what they mean, and what
//! happens to the tasks. The lints are here to see that the expansions add none of their own.
#![deny(warnings, unsafe_code, clippy::pedantic)]

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::num::ParseIntError;
use std::ops::ControlFlow;
use std::task::Poll;
use std::time::Duration;

use serde_json::json;
use xiio::{TaskGroup, TryTaskGroup, run, sleep, task_group, try_task_group, yield_now};
use xiio_tests::poll::OnDrop;

/// What happened, in order; and the gate that the tasks wait at, so that nothing depends on how
/// many rounds anything takes.
#[derive(Default)]
struct Trace {
    events: RefCell<Vec<String>>,
    n_started: Cell<usize>,
    is_open: Cell<bool>,
}

impl Trace {
    fn note(&self, event: impl Into<String>) {
        self.events.borrow_mut().push(event.into());
    }

    fn assert(&self, expected: &[&str]) {
        assert_eq!(*self.events.borrow(), expected);
    }

    /// A task that ends behind the gate, and notes whether it came to that or was cancelled.
    async fn task(&self, name: &'static str) {
        let dropped = NoteDrop(self, name);
        self.n_started.set(self.n_started.get() + 1);
        while !self.is_open.get() {
            yield_now().await;
        }
        std::mem::forget(dropped);
        self.note(format!("{name} ended"));
    }

    /// Waits until `n_tasks` have started and wait at the gate; opens it, and notes `word`, which
    /// the body says next. So the tasks may end by themselves if nobody cancels them.
    async fn before(&self, word: &str, n_tasks: usize) {
        self.is_open.set(false);
        for _ in 0..1_000 {
            if self.n_started.get() == n_tasks {
                break;
            }
            yield_now().await;
        }
        assert_eq!(self.n_started.get(), n_tasks, "a task starves");
        self.n_started.set(0);
        self.is_open.set(true);
        self.note(word);
    }
}

/// Notes the end of a task that was cancelled.
struct NoteDrop<'a>(&'a Trace, &'static str);

impl Drop for NoteDrop<'_> {
    fn drop(&mut self) {
        self.0.note(format!("{} dropped", self.1));
    }
}

#[derive(Debug, PartialEq)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Broken {}

#[derive(Debug, PartialEq)]
enum Failure {
    Broken(Broken),
    Number,
}

impl From<Broken> for Failure {
    fn from(error: Broken) -> Self {
        Self::Broken(error)
    }
}

impl From<std::num::ParseIntError> for Failure {
    fn from(_: std::num::ParseIntError) -> Self {
        Self::Number
    }
}

fn checked(number: i32) -> Result<i32, Broken> {
    if number < 0 { Err(Broken("negative")) } else { Ok(number) }
}

// What each word does to the tasks.

#[xiio::test]
async fn the_last_expression_is_the_value_once_the_tasks_have_ended() {
    let trace = Trace::default();
    let five = task_group!(|tg| {
        tg.spawn(trace.task("task"));
        trace.before("body ended", 1).await;
        5
    });
    trace.note("group ended");
    assert_eq!(five, 5);
    trace.assert(&["body ended", "task ended", "group ended"]);
}

#[xiio::test]
async fn return_waits_for_the_tasks() {
    async fn returning(trace: &Trace) -> i32 {
        task_group!(|tg| {
            tg.spawn(trace.task("task"));
            trace.before("return", 1).await;
            return 7;
        })
    }
    let trace = Trace::default();
    assert_eq!(returning(&trace).await, 7);
    trace.assert(&["return", "task ended"]);
}

#[xiio::test]
async fn question_cancels_the_tasks_and_leaves_the_function() {
    async fn failing(trace: &Trace) -> Result<i32, Failure> {
        task_group!(|tg| {
            tg.spawn(trace.task("task"));
            trace.before("question", 1).await;
            checked(-1)?;
            trace.note("never");
        });
        trace.note("never");
        Ok(1)
    }
    let trace = Trace::default();
    assert_eq!(failing(&trace).await, Err(Failure::Broken(Broken("negative"))));
    trace.assert(&["question", "task dropped"]);
}

#[xiio::test]
async fn question_in_a_try_group_is_the_error_of_the_group() {
    let trace = Trace::default();
    let outcome = try_task_group!(error = Failure, |tg| {
        tg.spawn(async {
            trace.task("task").await;
            Ok(())
        });
        trace.before("question", 1).await;
        checked(-1)?;
        trace.note("never");
    });
    trace.note("group ended");
    assert_eq!(outcome, Err(Failure::Broken(Broken("negative"))));
    trace.assert(&["question", "task dropped", "group ended"]);
}

#[xiio::test]
async fn break_and_continue_wait_for_the_tasks() {
    let trace = Trace::default();
    let mut round = 0;
    let value = 'rounds: loop {
        round += 1;
        for step in 0..3 {
            task_group!(|tg| {
                tg.spawn(trace.task("task"));
                if round == 1 {
                    trace.before("continue outside", 1).await;
                    continue 'rounds;
                }
                if step == 0 {
                    trace.before("continue", 1).await;
                    continue;
                }
                trace.before("break", 1).await;
                break 'rounds round * 10;
            });
        }
    };
    trace.note("left");
    assert_eq!(value, 20);
    trace.assert(&["continue outside", "task ended", "continue", "task ended", "break", "task ended", "left"]);
}

#[xiio::test]
async fn the_tasks_of_all_groups_on_the_way_out_are_waited_for() {
    async fn returning(trace: &Trace) -> &'static str {
        task_group!(|outer| {
            outer.spawn(trace.task("outer"));
            task_group!(|inner| {
                inner.spawn(trace.task("inner"));
                trace.before("return", 2).await;
                return "from inside";
            });
        });
    }
    let trace = Trace::default();
    assert_eq!(returning(&trace).await, "from inside");
    let mut events = trace.events.take();
    assert_eq!(events.remove(0), "return");
    events.sort_unstable();
    assert_eq!(events, ["inner ended", "outer ended"]);
}

#[xiio::test]
async fn question_through_two_groups_cancels_both() {
    async fn failing(trace: &Trace) -> Option<()> {
        task_group!(|outer| {
            outer.spawn(trace.task("outer"));
            task_group!(|inner| {
                inner.spawn(trace.task("inner"));
                trace.before("question", 2).await;
                None::<()>?;
            });
            trace.note("never");
        });
        Some(())
    }
    let trace = Trace::default();
    assert_eq!(failing(&trace).await, None);
    trace.assert(&["question", "inner dropped", "outer dropped"]);
}

#[xiio::test]
async fn an_error_while_a_return_waits_wins_over_it() {
    async fn returning() -> Result<&'static str, Broken> {
        let outcome = try_task_group!(|tg| {
            tg.spawn(async {
                yield_now().await;
                Err::<(), _>(Broken("while waiting"))
            });
            return Ok("returned");
        });
        assert_eq!(outcome, Err(Broken("while waiting")));
        Ok("went on")
    }
    assert_eq!(returning().await, Ok("went on"));
}

// Where the words may stand.

#[xiio::test]
async fn several_errors_convert_into_the_one_of_the_function() {
    async fn sum(left: &str, right: i32) -> Result<i32, Failure> {
        let sum = task_group!(|tg| {
            tg.spawn(async {});
            let left: i32 = left.parse()?;
            left + checked(right)?
        });
        Ok(sum)
    }
    assert_eq!(sum("1", 2).await, Ok(3));
    assert_eq!(sum("x", 2).await, Err(Failure::Number));
    assert_eq!(sum("1", -2).await, Err(Failure::Broken(Broken("negative"))));
}

#[xiio::test]
async fn return_coerces_what_it_takes_along() {
    async fn boxed(number: i32) -> Result<i32, Box<dyn Error>> {
        task_group!(|tg| {
            tg.spawn(async {});
            if number == 0 {
                return Err(Box::new(Broken("zero")));
            }
            if number == 1 {
                return Err("one".into());
            }
        });
        let chosen: Box<dyn Fn() -> i32> = 'chosen: {
            task_group!(|tg| {
                tg.spawn(async {});
                if number == 2 {
                    break 'chosen Box::new(|| 20);
                }
                break 'chosen Box::new(move || number);
            });
        };
        Ok(chosen())
    }
    assert_eq!(boxed(0).await.unwrap_err().to_string(), "zero");
    assert_eq!(boxed(1).await.unwrap_err().to_string(), "one");
    assert_eq!(boxed(2).await.unwrap(), 20);
    assert_eq!(boxed(3).await.unwrap(), 3);
}

#[xiio::test]
async fn question_works_on_all_that_it_works_on_elsewhere() {
    async fn found(number: i32) -> ControlFlow<&'static str, i32> {
        let number = task_group!(|tg| {
            tg.spawn(async {});
            let even = if number % 2 == 0 { ControlFlow::Break("even") } else { ControlFlow::Continue(number) };
            even? + 1
        });
        ControlFlow::Continue(number)
    }
    async fn polled(result: Poll<Result<i32, Broken>>) -> Result<Poll<i32>, Failure> {
        Ok(task_group!(|tg| {
            tg.spawn(async {});
            result?
        }))
    }
    async fn polled_next(item: Poll<Option<Result<i32, Broken>>>) -> Result<Poll<Option<i32>>, Failure> {
        Ok(task_group!(|tg| {
            tg.spawn(async {});
            item?
        }))
    }
    assert_eq!(found(2).await, ControlFlow::Break("even"));
    assert_eq!(found(3).await, ControlFlow::Continue(4));
    assert_eq!(polled(Poll::Pending).await, Ok(Poll::Pending));
    assert_eq!(polled(Poll::Ready(checked(1))).await, Ok(Poll::Ready(1)));
    assert_eq!(polled(Poll::Ready(checked(-1))).await, Err(Failure::Broken(Broken("negative"))));
    assert_eq!(polled_next(Poll::Pending).await, Ok(Poll::Pending));
    assert_eq!(polled_next(Poll::Ready(None)).await, Ok(Poll::Ready(None)));
    assert_eq!(polled_next(Poll::Ready(Some(checked(1)))).await, Ok(Poll::Ready(Some(1))));
    assert_eq!(polled_next(Poll::Ready(Some(checked(-1)))).await, Err(Failure::Broken(Broken("negative"))));
}

#[xiio::test]
async fn words_work_in_every_kind_of_expression() {
    async fn leaving(way: i32) -> Option<i32> {
        let items = [Some(1), Some(2), None];
        task_group!(|tg| {
            tg.spawn(async {});
            let Some(first) = items[0] else {
                return Some(100);
            };
            let Ok(way) = usize::try_from(way) else {
                return None;
            };
            if items.get(way)?.is_some()
                && let Some(item) = items[way]
            {
                return match item {
                    1 => Some(first),
                    _ if items[way]? == 2 => Some(items[way]? + 20),
                    _ => unreachable!(),
                };
            }
            {
                let inner = async { items[2] }.await?;
                return Some(inner);
            }
        })
    }
    assert_eq!(leaving(0).await, Some(1));
    assert_eq!(leaving(1).await, Some(22));
    assert_eq!(leaving(2).await, None);
    assert_eq!(leaving(3).await, None);
    assert_eq!(leaving(-1).await, None);
}

#[xiio::test]
async fn words_work_in_the_arguments_of_macros() {
    async fn listed(last: Option<i32>) -> Option<String> {
        let text = task_group!(|tg| {
            tg.spawn(async {});
            let mut same = vec![last?; 2];
            same.extend(vec![1, last?]);
            assert_eq!(same.len(), 4, "{}", last?);
            assert!(matches!(last?, 1 | 2 if same.len() == 4));
            let leaving = format!("{named:?} {}", last?, named = Some(last?));
            let braces = vec![task_group!(|inner| {
                inner.spawn(async {});
                last?
            })];
            format!("{leaving} {braces:?}")
        });
        Some(text)
    }
    assert_eq!(listed(Some(2)).await.unwrap(), "Some(2) 2 [2]");
    assert_eq!(listed(None).await, None);
}

#[xiio::test]
async fn an_assertion_that_fails_shows_what_was_written() {
    async fn check(n: Option<i32>) -> Option<()> {
        task_group!(|tg| {
            tg.spawn(async {});
            assert!(n? > 3);
            debug_assert!(matches!(n?, 4 | 5) && format!("{n:?}").len() > 1,);
            assert!(n? > 4, "said by the user");
        });
        Some(())
    }
    let expected = [
        (Some(3), "assertion failed: n? > 3"),
        (Some(6), "assertion failed: matches!(n?, 4 | 5) && format!(\"{n:?}\").len() > 1"),
        (Some(4), "said by the user"),
    ];
    for (n, text) in expected {
        let panic = xiio::catch_panic(check(n)).await.unwrap_err();
        assert_eq!(panic.to_string(), format!("panicked: {text}"));
    }
    assert_eq!(check(None).await, None);
    assert_eq!(check(Some(5)).await, Some(()));
}

#[xiio::test]
async fn words_work_in_the_arms_of_race() {
    async fn leaving(how: i32) -> Option<i32> {
        let mut n_rounds = 0;
        'rounds: loop {
            n_rounds += 1;
            let value = task_group!(|tg| {
                tg.spawn(async {});
                xiio::race!(
                    how = async { how } => match how {
                        0 => return Some(n_rounds),
                        1 => { None?; 1 }
                        2 if n_rounds < 3 => continue 'rounds,
                        2 => break 'rounds,
                        how => how,
                    },
                    () = std::future::pending() => unreachable!("it never ends"),
                )
            });
            return Some(10 * value);
        }
        Some(100 * n_rounds)
    }
    assert_eq!(leaving(0).await, Some(1));
    assert_eq!(leaving(1).await, None);
    assert_eq!(leaving(2).await, Some(300));
    assert_eq!(leaving(3).await, Some(30));
}

#[xiio::test]
async fn loops_and_labels_of_the_body_keep_their_words() {
    let mut seen = Vec::new();
    let mut rounds = 0;
    loop {
        task_group!(|tg| {
            tg.spawn(async {});
            for number in 0..9 {
                if number % 2 == 0 {
                    continue;
                }
                if number > 5 {
                    break;
                }
                seen.push(number);
            }
            let found = 'found: {
                while rounds < 9 {
                    rounds += 1;
                    if rounds == 2 {
                        break 'found true;
                    }
                }
                false
            };
            if found {
                continue;
            }
            break;
        });
    }
    assert_eq!(seen, [1, 3, 5, 1, 3, 5]);
    assert_eq!(rounds, 9);
}

#[xiio::test]
async fn closures_async_blocks_and_items_keep_their_words() {
    async fn outside() -> Result<i32, Broken> {
        let sum = task_group!(|tg| {
            fn item(number: i32) -> Result<i32, Broken> {
                for _ in 0..number {
                    checked(-1)?;
                }
                Ok(1)
            }
            let closure = |number: i32| {
                if number == 0 {
                    return None;
                }
                Some(Some(number)? + 1)
            };
            let block = async {
                checked(-1)?;
                Ok::<_, Broken>(3)
            };
            let async_closure = async |number: i32| {
                if number == 0 {
                    return 0;
                }
                let seen = task_group!(|inner| {
                    inner.spawn(async {});
                    if number == 1 {
                        return 10;
                    }
                    number
                });
                seen * 100
            };
            assert!(item(1).is_err());
            assert!(closure(0).is_none());
            assert!(block.await.is_err());
            tg.spawn(async {
                let Some(number) = Some(3) else { return };
                assert_eq!(number, 3);
            });
            item(0)? + closure(1).unwrap_or(0) + async_closure(1).await + async_closure(2).await
        });
        Ok(sum)
    }
    assert_eq!(outside().await, Ok(1 + 2 + 10 + 200));
}

/// As those of other crates: the word is in the macro, not in its arguments.
macro_rules! bail {
    ($error:expr) => {
        return Err($error)
    };
}

macro_rules! or_break {
    ($option:expr) => {
        match $option {
            Some(value) => value,
            None => break,
        }
    };
}

#[xiio::test]
async fn a_return_inside_of_a_macro_is_the_error_of_a_try_group() {
    let trace = Trace::default();
    let outcome = try_task_group!(error = Broken, |tg| {
        tg.spawn(async {
            trace.task("task").await;
            Ok(())
        });
        trace.before("bail", 1).await;
        if trace.is_open.get() {
            bail!(Broken("bailed out"));
        }
    });
    assert_eq!(outcome, Err(Broken("bailed out")));
    trace.assert(&["bail", "task dropped"]);
}

/// A loop of its own, around code of its user.
macro_rules! repeat {
    ($n:expr, $body:block) => {
        for _ in 0..$n {
            $body
        }
    };
}

#[xiio::test]
async fn a_word_without_a_label_in_a_macro_with_a_loop_is_of_that_loop() {
    let mut n_rounds = 0;
    let mut seen = Vec::new();
    for _ in 0..3 {
        n_rounds += 1;
        let mut n = 0;
        task_group!(|tg| {
            tg.spawn(async {});
            repeat!(10, {
                n += 1;
                if n < 3 {
                    continue;
                }
                break;
            });
            repeat!(10, {
                n += 1;
                vec![if n == 5 {
                    break;
                }];
                task_group!(|inner| {
                    inner.spawn(async {});
                    continue;
                });
            });
            seen.push(n);
        });
    }
    assert_eq!((n_rounds, seen), (3, vec![5, 5, 5]));
}

#[xiio::test]
async fn a_word_with_a_label_leaves_a_macro_with_a_loop_and_the_body() {
    let mut n_rounds = 0;
    let found = 'rounds: loop {
        n_rounds += 1;
        task_group!(|tg| {
            tg.spawn(async {});
            repeat!(10, {
                if n_rounds < 3 {
                    continue 'rounds;
                }
                break 'rounds n_rounds * 10;
            });
        });
    };
    assert_eq!((n_rounds, found), (3, 30));
}

#[xiio::test]
async fn a_word_without_a_label_in_a_macro_without_a_loop_leaves_the_body() {
    let mut n_rounds = 0;
    loop {
        n_rounds += 1;
        task_group!(|tg| {
            tg.spawn(async {});
            assert_eq!(n_rounds, if n_rounds < 3 { continue } else { 3 });
            println!(
                "{}",
                xiio::join!(async { n_rounds }, std::future::ready(if n_rounds == 3 { break } else { n_rounds })).0
            );
        });
    }
    assert_eq!(n_rounds, 3);
}

/// A macro that expands to a group, around code of its user.
macro_rules! beside {
    ($task:expr, $value:expr) => {
        task_group!(|tg| {
            tg.spawn($task);
            $value
        })
    };
}

#[xiio::test]
async fn words_leave_through_a_macro_that_expands_to_a_group() {
    async fn leaving(how: Option<i32>, trace: &Trace) -> Option<i32> {
        let value = task_group!(|tg| {
            tg.spawn(trace.task("outer"));
            let value = beside!(trace.task("middle"), {
                beside!(trace.task("inner"), {
                    trace.before("word", 3).await;
                    if how == Some(1) {
                        return Some(10);
                    }
                    how?
                })
            });
            trace.note("never if it left");
            value
        });
        Some(value)
    }
    for (how, value, end) in [(None, None, "dropped"), (Some(1), Some(10), "ended"), (Some(2), Some(2), "ended")] {
        let trace = Trace::default();
        assert_eq!(leaving(how, &trace).await, value);
        let mut events = trace.events.take();
        assert_eq!(events.remove(0), "word");
        assert_eq!(events.iter().any(|event| event == "never if it left"), how == Some(2));
        events.retain(|event| event != "never if it left");
        events.sort_unstable();
        assert_eq!(events, ["inner", "middle", "outer"].map(|task| format!("{task} {end}")));
    }
}

#[xiio::test]
async fn a_loop_that_a_macro_breaks_ends_with_a_unit_behind_it() {
    let mut numbers = [1, 2].into_iter();
    let mut sum = 0;
    task_group!(|tg| {
        tg.spawn(async {});
        loop {
            sum += or_break!(numbers.next());
        }
        ()
    });
    assert_eq!(sum, 3);
}

// Where a group may stand.

#[xiio::test]
async fn a_group_is_an_expression_anywhere() {
    trait Counter {
        type Error;
        async fn count(&self, limit: i32) -> Result<i32, Self::Error>;
    }

    impl<T: AsRef<[i32]>> Counter for T {
        type Error = Broken;

        async fn count(&self, limit: i32) -> Result<i32, Broken> {
            let mut rounds = 0;
            while task_group!(|tg| {
                tg.spawn(async {});
                checked(limit - rounds)? > 0
            }) {
                rounds += 1;
            }
            let sum = task_group!(|tg| {
                tg.spawn(async {});
                self.as_ref().iter().sum::<i32>()
            }) + task_group!(|tg| tg.spawn(async { 1 }).await) * 2;
            try_task_group!(|tg: &TryTaskGroup<'_, Broken>| {
                tg.spawn(async { checked(rounds) });
                sum + rounds
            })
        }
    }

    let counting = async |limit| {
        let numbers = vec![1, 2];
        task_group!(|tg| {
            tg.spawn(async {});
            numbers.count(limit).await
        })
    };
    assert_eq!(counting(4).await, Ok(3 + 2 + 4));
    assert_eq!(counting(-1).await, Err(Broken("negative")));
}

#[xiio::test]
async fn a_function_may_end_behind_a_body_that_always_leaves() {
    async fn serving(trace: &Trace) -> Result<i32, Broken> {
        let mut n_served = 0;
        task_group!(|tg| {
            loop {
                n_served += 1;
                tg.spawn(trace.task("request"));
                if n_served == 2 {
                    return Ok(n_served);
                }
                checked(n_served)?;
            }
        });
    }
    let trace = Trace::default();
    trace.is_open.set(true);
    assert_eq!(serving(&trace).await, Ok(2));
    trace.assert(&["request ended", "request ended"]);
}

#[xiio::test]
async fn the_error_of_the_function_reaches_inline_tasks() {
    async fn working() -> Result<i32, Failure> {
        let number = try_task_group!(|tg| {
            let task = tg.spawn(async {
                let number: i32 = "5".parse()?;
                Ok(number + checked(1)?)
            });
            task.await
        })?;
        // Elsewhere than in a function, too, as long as something says what the block returns.
        async move {
            try_task_group!(|tg| {
                tg.spawn(async {
                    checked(number)?;
                    Ok(())
                });
            })?;
            Ok(number)
        }
        .await
    }
    assert_eq!(working().await, Ok(6));
}

#[xiio::test]
async fn options_are_evaluated_in_the_function_in_written_order() {
    fn noted<T>(trace: &Trace, event: &str, value: T) -> T {
        trace.note(event);
        value
    }

    async fn configured(trace: &Trace, limit: Option<usize>) -> Option<i32> {
        let outcome = task_group!(
            name = noted(trace, "name", "configured"),
            timeout = noted(trace, "timeout", Duration::from_mins(1)),
            limit = noted(trace, "limit", limit?),
            grace = async { noted(trace, "grace", Duration::from_secs(1)) }.await,
            |tg| {
                tg.spawn(async {});
                trace.note("body");
                5
            },
        );
        outcome.ok()
    }

    let trace = Trace::default();
    assert_eq!(configured(&trace, Some(3)).await, Some(5));
    trace.assert(&["name", "timeout", "limit", "grace", "body"]);
    let trace = Trace::default();
    assert_eq!(configured(&trace, None).await, None);
    trace.assert(&["name", "timeout"]);
}

#[xiio::test]
async fn a_body_whose_last_statement_is_configured_out_ends_before_it() {
    let mut n_ended = 0;
    task_group!(|tg| {
        tg.spawn(async {});
        #[cfg(any())]
        loop {}
    });
    n_ended += 1;
    task_group!(|tg| {
        tg.spawn(async {});
        #[cfg(any())]
        {
            panic!("not there")
        }
    });
    n_ended += 1;
    let value = task_group!(|tg| {
        tg.spawn(async {});
        #[cfg(all())]
        {
            7
        }
        #[cfg(any())]
        match 7 {
            _ => return,
        }
    });
    assert_eq!((n_ended, value), (2, 7));
}

#[xiio::test]
async fn an_exit_that_is_configured_away_leaves_no_trace() {
    struct Point {
        x: i32,
    }

    async fn leaving() -> Option<i32> {
        task_group!(|tg| {
            tg.spawn(async {});
            #[cfg(any())]
            {
                there::is::no::such::function()?;
                return "nor such a type";
            }
            let point = Point {
                x: Some(1)?,
                #[cfg(any())]
                y: there::is::no::such::function()?,
            };
            match point.x {
                #[cfg(any())]
                2 => return Err(3),
                number => return Some(number),
            }
        })
    }
    assert_eq!(leaving().await, Some(1));
}

#[xiio::test]
async fn where_no_exit_leads_to_that_is_not_configured_away_is_nowhere() {
    let mut n_rounds = 0;
    for _ in 0..2 {
        task_group!(|tg| {
            tg.spawn(async {});
            #[cfg(any())]
            break "a loop without a value";
        });
        n_rounds += 1;
    }
    task_group!(|tg| {
        tg.spawn(async {});
        #[cfg(any())]
        break "no loop";
        task_group!(|inner| {
            inner.spawn(async {});
            #[cfg(all())]
            #[cfg(any())]
            break "no loop here either";
        });
    });
    let found = 'search: {
        task_group!(|tg| {
            tg.spawn(async {});
            #[cfg(any())]
            break 'search "not of this type";
            #[cfg(all())]
            #[cfg(not(any()))]
            break 'search n_rounds;
        })
    };
    assert_eq!(found, 2);
}

#[xiio::test]
async fn an_attribute_that_configures_attributes_takes_an_exit_away_as_well() {
    async fn leaving() -> Option<i32> {
        task_group!(|tg| {
            tg.spawn(async {});
            #[cfg_attr(all(), allow(unreachable_code), cfg(any()))]
            return "no such type";
            #[cfg_attr(all(), cfg_attr(not(any()), cfg(any(),)))]
            there::is::no::such::function()?;
            #[cfg_attr(any(), cfg(any()))]
            return Some(1);
        })
    }
    assert_eq!(leaving().await, Some(1));
}

#[xiio::test]
async fn a_group_that_is_configured_away_may_be_of_a_new_syntax() {
    let n = task_group!(|tg| {
        tg.spawn(async {});
        #[cfg(any())]
        task_group!(|inner| { inner spawns new syntax });
        let mut list = vec![
            #[cfg(any())]
            task_group!(|inner| { inner spawns new syntax }),
            1,
        ];
        list.push(2);
        list.len()
    });
    assert_eq!(n, 2);
}

#[xiio::test]
async fn an_element_that_is_configured_away_leaves_no_trace() {
    fn none() -> i32 {
        0
    }

    async fn leaving() -> Result<usize, String> {
        Ok(task_group!(|tg| {
            tg.spawn(async {});
            let array = [
                #[cfg(any())]
                there::is::no::such::function()?,
                Ok::<_, String>(1)?,
            ];
            let mut list = vec![
                #[cfg(any())]
                there::is::no::such::function()?,
                #[cfg(any())]
                task_group!(|inner| { there::is::no::such::function()? }),
                #[cfg(all())]
                task_group!(|_inner| { Ok::<_, String>(2)? }),
            ];
            list.push(3);
            let n = none(
                #[cfg(any())]
                there::is::no::such::function()?,
            );
            let (m,) = (
                #[cfg(any())]
                there::is::no::such::function()?,
                n.abs(
                    #[cfg(any())]
                    there::is::no::such::function()?,
                ),
            );
            array.len() + list.len() + usize::try_from(m).unwrap()
        }))
    }
    assert_eq!(leaving().await, Ok(3));
}

#[xiio::test]
async fn what_a_macro_puts_into_a_closure_keeps_its_words() {
    /// As the crate `scopeguard` has it.
    macro_rules! defer {
        ($($code:tt)*) => {
            let _deferred = OnDrop(|| { $($code)* });
        };
    }

    let n_deferred = Cell::new(0);
    task_group!(|tg| {
        tg.spawn(async {});
        defer! {
            if n_deferred.replace(1) == 0 { return }
        }
    });
    assert_eq!(n_deferred.get(), 1);
}

/// Spawns from a function; the group's region is that of what its tasks borrow.
fn spawn_each<'a, F: Future<Output = ()> + 'a>(tg: &'a TaskGroup<'a>, tasks: impl IntoIterator<Item = F>) {
    for task in tasks {
        tg.spawn(task);
    }
}

#[xiio::test]
async fn a_group_may_be_handed_to_a_function() {
    let trace = Trace::default();
    trace.is_open.set(true);
    task_group!(|tg| spawn_each(tg, ["a", "b"].map(|name| trace.task(name))));
    trace.assert(&["a ended", "b ended"]);
}

/// As the crate `anyhow` has them.
macro_rules! bail {
    ($text:expr) => {
        return Err(String::from($text))
    };
}

macro_rules! ensure {
    ($condition:expr, $text:expr) => {
        if !$condition {
            bail!($text)
        }
    };
}

#[xiio::test(virtual_time)]
async fn bail_and_ensure_cancel_the_tasks_and_leave_the_function() {
    async fn check(n: Option<i32>, has_waited: &Cell<bool>) -> Result<i32, String> {
        task_group!(|tg| {
            tg.spawn(async {
                sleep(Duration::from_secs(1)).await;
                has_waited.set(true);
            });
            let Some(n) = n else { bail!("none") };
            ensure! { n > 1, "small" }
            (0..n).for_each(drop);
            task_group!(|inner| {
                inner.spawn(async {});
                ensure!(n != 2, "two");
            });
            if n == 3 {
                return Ok(n);
            }
            bail!("large")
        })
    }
    let has_waited = Cell::new(false);
    for (n, text) in [(None, "none"), (Some(1), "small"), (Some(2), "two"), (Some(4), "large")] {
        assert_eq!(check(n, &has_waited).await, Err(text.to_string()));
        assert!(!has_waited.get(), "the tasks are cancelled: {text}");
    }
    assert_eq!(check(Some(3), &has_waited).await, Ok(3));
    assert!(has_waited.get());
}

#[xiio::test]
async fn a_function_may_end_behind_a_body_that_bails_or_panics() {
    async fn bailing() -> Result<i32, String> {
        task_group!(|tg| {
            tg.spawn(async {});
            bail!("out");
        });
    }
    async fn bailing_inside(how: i32) -> Result<i32, String> {
        task_group!(|tg| {
            tg.spawn(async {});
            task_group!(|inner| {
                inner.spawn(async {});
                match how {
                    0 => return Ok(5),
                    1 => {
                        bail!("inside")
                    }
                    2 => std::panic!("two"),
                    _ => ::core::unreachable!(),
                }
            });
        });
    }
    /// A body that comes from elsewhere.
    macro_rules! grouped {
        ($body:block) => {
            task_group!(|_tg| $body)
        };
    }
    async fn returning() -> i32 {
        grouped!({
            return 6;
        });
    }
    assert_eq!(bailing().await, Err(String::from("out")));
    assert_eq!(bailing_inside(0).await, Ok(5));
    assert_eq!(bailing_inside(1).await, Err(String::from("inside")));
    assert_eq!(returning().await, 6);
}

/// Arms whose left side is no pattern for a future.
macro_rules! when {
    ($($condition:ident => $action:expr,)* _ => $otherwise:expr $(,)?) => {
        $(if $condition { $action } else)* { $otherwise }
    };
}

macro_rules! pairs {
    ($($key:expr => $value:expr),*) => {
        [$(($key, $value)),*]
    };
}

#[xiio::test]
async fn words_work_in_arms_of_any_left_side() {
    async fn leaving(how: i32) -> Option<i32> {
        let (is_zero, is_one) = (how == 0, how == 1);
        let value = task_group!(|tg| {
            tg.spawn(async {});
            let value = when!(
                is_zero => return Some(10),
                is_one => { let none = None; none? },
                _ => Some(how)?,
            );
            let value = match () {
                () if how < 3 => value,
                () => futures::select! {
                    number = futures::future::ready(how) => if number == 3 { return Some(number) } else { number },
                    complete => return None,
                },
            };
            let pairs = pairs!(Some(1)? => Some(value)?, 2 => if how == 5 { return None } else { 3 });
            pairs[0].1
        });
        Some(value)
    }
    assert_eq!(leaving(0).await, Some(10));
    assert_eq!(leaving(1).await, None);
    assert_eq!(leaving(2).await, Some(2));
    assert_eq!(leaving(3).await, Some(3));
    assert_eq!(leaving(4).await, Some(4));
    assert_eq!(leaving(5).await, None);
}

/// As the crate `snafu` has it: only the function tells the type of the error.
mod converting {
    macro_rules! ensure {
        ($condition:expr, $error:expr) => {
            if !$condition {
                return Err($error.into());
            }
        };
    }

    macro_rules! bail {
        () => {
            return None
        };
    }

    pub(crate) use {bail, ensure};
}

#[xiio::test]
async fn ensure_makes_the_error_of_the_function() {
    async fn check(n: i32) -> Result<i32, Failure> {
        let list = RefCell::new(vec![n]);
        let n = task_group!(|tg| {
            tg.spawn(async {});
            // For clippy, a guard that is held beside an `ensure!` is not held over an await.
            {
                let guard = list.borrow_mut();
                converting::ensure!(guard[0] > 1, Broken("small"));
            }
            task_group!(|inner| {
                inner.spawn(async {});
                converting::ensure!(xiio::gather([async { n }]).await[0] > 2, Broken("two"));
                converting::ensure!(xiio::join!(async { n }).0 > 3, Broken("three"));
            });
            n
        });
        Ok(n)
    }
    assert_eq!(check(1).await, Err(Failure::Broken(Broken("small"))));
    assert_eq!(check(2).await, Err(Failure::Broken(Broken("two"))));
    assert_eq!(check(3).await, Err(Failure::Broken(Broken("three"))));
    assert_eq!(check(4).await, Ok(4));
}

/// The error has to be coerced to that of the function.
mod boxing {
    macro_rules! ensure {
        ($condition:expr, $error:expr) => {
            if !$condition {
                return Err(Box::new($error));
            }
        };
    }

    macro_rules! bail {
        ($error:expr) => {
            return Err(Box::new($error))
        };
    }

    pub(crate) use {bail, ensure};
}

#[xiio::test]
async fn bail_and_ensure_coerce_the_error_to_that_of_the_function() {
    async fn check(n: i32) -> Result<i32, Box<dyn Error>> {
        task_group!(|tg| {
            tg.spawn(async {});
            boxing::ensure!(n > 1, Broken("small"));
            boxing::ensure!(xiio::gather([async { n }]).await[0] > 2, Broken("two"));
            task_group!(|inner| {
                inner.spawn(async {});
                boxing::ensure!(n > 3, Broken("three"));
                if n == 4 {
                    boxing::bail!(Broken(async { "four" }.await));
                }
            });
            boxing::bail!(Broken("large"));
        });
    }
    for (n, text) in [(1, "small"), (2, "two"), (3, "three"), (4, "four"), (5, "large")] {
        let error = check(n).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Broken(text)));
    }
    // That of a try group is made with `From`.
    let outcome: Result<(), Box<dyn Error>> = try_task_group!(error = _, |tg| {
        tg.spawn(async { Ok(()) });
        task_group!(|inner| {
            inner.spawn(async {});
            boxing::ensure!([1].len() > 1, Broken("inside"));
        });
    });
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&Box::new(Broken("inside"))));
}

#[xiio::test]
async fn bail_and_ensure_work_where_the_type_is_told_later_or_by_a_try_group() {
    let n = [1].len();
    let later = async {
        task_group!(|tg| {
            tg.spawn(async {});
            ensure!(n > 5, "few");
            #[cfg(any())]
            return "no such type";
        });
        Ok::<i32, String>(1)
    };
    assert_eq!(later.await, Err(String::from("few")));
    let outcome = try_task_group!(error = String, |tg| {
        tg.spawn(async { Ok(()) });
        task_group!(|inner| {
            inner.spawn(async {});
            task_group!(|_innermost| {
                ensure!(n > 5, "few again");
            });
        });
    });
    assert_eq!(outcome, Err(String::from("few again")));
    let nothing = async {
        task_group!(|tg| {
            tg.spawn(async {});
            if n < 5 {
                converting::bail!();
            }
        });
        Some(1)
    };
    assert_eq!(nothing.await, None);
}

/// What `json!` takes is no list of expressions, and has some in it.
#[test]
fn question_in_a_value_with_a_name() {
    async fn number(text: &str) -> Result<i64, ParseIntError> {
        yield_now().await;
        text.parse()
    }
    async fn answer(a: &str, b: &str) -> Result<serde_json::Value, ParseIntError> {
        let value = task_group!(|tg| {
            let task = tg.spawn(number(a));
            json!({
                "a": task.await?,
                "list": [number(b).await?, { "deep": number(b).await? + 1 }, null],
                "big": if matches!(Some(12), Some(n) if n == number(b).await?) { "yes" } else { "no" },
            })
        });
        Ok(value)
    }
    let wanted = json!({ "a": 1, "list": [12, { "deep": 13 }, null], "big": "yes" });
    assert_eq!(run(answer("1", "12")), Ok(wanted));
    assert!(run(answer("1", "no number")).is_err());
    assert!(run(answer("no number", "1")).is_err());
}

/// Of a map of closures.
macro_rules! table {
    ({ $($name:literal : $value:expr),* }) => {
        [$(($name, $value)),*]
    };
}

/// As `cfg_if!` has it: items behind conditions.
macro_rules! choose {
    (if #[cfg($condition:meta)] { $($items:item)* } else { $($others:item)* }) => {
        $(#[cfg($condition)] $items)*
        $(#[cfg(not($condition))] $others)*
    };
}

/// Of blocks with names.
macro_rules! blocks {
    ({ $($name:literal : { $($body:tt)* }),* }) => {
        ($({ $($body)* }),*)
    };
}

/// Of fields, some of which may be absent.
macro_rules! fields {
    ({ $($name:ident : $type:ident $($mark:tt)?),* }) => {
        [$((stringify!($name), stringify!($type $($mark)?))),*]
    };
}

/// What looks like an exit, and is none of the body.
#[test]
fn closures_items_and_loops_with_labels_in_other_macros_keep_their_flow() {
    type Double = fn(Option<u8>, Option<u8>) -> Option<u8>;
    let (sums, parsed, last, fields) = run(async {
        task_group!(|_tg| {
            let sums: [(&str, Double); 2] = table!({
                "sum": |a, b| { Some(a? + b?) },
                "twice": |a: Option<u8>, _: Option<u8>| -> Option<u8> { Some(a? * 2) }
            });
            choose! {
                if #[cfg(unix)] {
                    fn parse(text: &str) -> Result<u8, ParseIntError> { Ok(text.parse::<u8>()? + 1) }
                } else {
                    fn parse(text: &str) -> Result<u8, ParseIntError> { Ok(text.parse::<u8>()? + 2) }
                }
            }
            let (last, ()) = blocks!({
                "first": { let mut n = 0; 'count: loop { n += 1; if n > 3 { break 'count; } } n },
                "second": { fn unused() -> Option<()> { None?; Some(()) } let _ = unused; }
            });
            (sums.map(|(_, f)| f(Some(1), Some(2))), parse("7"), last, fields!({ id: i32 ?, name: Text }))
        })
    });
    assert_eq!((sums, parsed, last), ([Some(3), Some(2)], Ok(8), 4));
    assert_eq!(fields.map(|(name, _)| name), ["id", "name"]);
}
