//! The arms of `race!`: patterns, conditions, `else`, and what leaves through them.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use xiio::{bracket, race, run, sleep, task_group, try_task_group};

struct Point {
    x: i32,
    y: i32,
}

const SECOND: Duration = Duration::from_secs(1);

#[xiio::test(virtual_time)]
async fn an_output_that_does_not_match_wins_nothing() {
    let start = xiio::now();
    let winner = race!(
        Some(n) = ready(None::<i32>) => n,
        () = sleep(SECOND) => 2,
        () = sleep(2 * SECOND) => 3,
    );
    assert_eq!((winner, xiio::now() - start), (2, SECOND));
}

#[xiio::test]
#[allow(clippy::await_holding_refcell_ref, reason = "nobody else borrows it meanwhile")]
async fn temporaries_of_the_futures_are_gone_when_an_arm_runs() {
    let queue = RefCell::new(vec![1, 2]);
    let next = race!(
        Some(item) = ready(queue.borrow_mut().pop()) => {
            queue.borrow_mut().push(item + 1);
            item
        },
        () = pending() => 0,
    );
    assert_eq!((next, queue.into_inner()), (2, vec![1, 3]));
}

#[xiio::test]
async fn patterns_bind_as_in_a_match() {
    assert_eq!(race!((a, mut b) = ready((1, 2)) => { b += a; b }, n = pending::<i32>() => n), 3);
    assert_eq!(race!(ref text = ready(String::from("abc")) => text.len(), n = pending() => n), 3);
    assert_eq!(race!(ref mut n = ready(1) => { *n += 1; *n }, n = pending::<i32>() => n), 2);
    assert_eq!(race!(&n = ready(&4) => n, n = pending() => n), 4);
    assert_eq!(race!(Some(&n) = ready(Some(&5)) => n, n = pending() => n), 5);
    assert_eq!(race!(Ok(n) | Err(n) = ready(Err(6)) => n, n = pending() => n), 6);
    assert_eq!(race!(n @ 1..=9 = ready(7) => n, n = pending() => n), 7);
    assert_eq!(race!("eight" = ready("eight") => 8, n = pending() => n), 8);
    let (Point { x, .. }, _) = race!((Point { x: 1..3, .. }, y) = ready((Point { x: 1, y: 2 }, 3)) => (Point { x: 2, y }, y), _ = pending::<()>() => unreachable!());
    assert_eq!(x, 2);
    assert_eq!(race!(Point { x, y: 2 } = ready(&Point { x: 1, y: 2 }) => *x, n = pending() => n), 1);
    assert_eq!(race!([first, .., last] = ready([4, 0, 5]) => first + last, n = pending() => n), 9);
    let moved = race!(Some(text) = ready(Some(String::from("moved"))) => text, text = pending() => text);
    assert_eq!(moved, "moved");
}

#[xiio::test]
async fn an_arm_that_ends_in_a_block_needs_no_comma() {
    let n = race!(
        n = ready(1) => { n }
        n = pending::<i32>() => if n == 0 { 1 } else { 2 }
        n = pending::<i32>() => n
    );
    assert_eq!(n, 1);
}

#[xiio::test]
async fn a_condition_that_is_false_keeps_its_future_from_being_polled() {
    let is_polled = Cell::new(false);
    let mut connection = None::<i32>;
    let winner = race!(
        // The future borrows for itself what the condition looks at.
        n = async { connection.as_mut().map_or(0, |n| *n) }, if connection.is_some() => n,
        n = async { is_polled.set(true); 1 }, if false => n,
        n = ready(2), if !is_polled.get() => n,
    );
    assert_eq!((winner, is_polled.get()), (2, false));
}

#[xiio::test]
async fn when_nobody_is_left_else_goes_on() {
    assert_eq!(race!(Some(n) = ready(None) => n, 1 = ready(2) => 1, else => 3), 3);
    assert_eq!(race!(n = pending(), if false => n, else => 4), 4);
    let all_true = race!(n = ready(5), if true => n, else => unreachable!());
    assert_eq!(all_true, 5);
}

#[test]
fn when_nobody_is_left_and_there_is_no_else_it_panics_with_advice() {
    let race = async { race!(Some(n) = ready(None::<i32>) => n) };
    let payload = catch_unwind(AssertUnwindSafe(|| run(race))).unwrap_err();
    let text = payload.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(text.contains("give it an arm `else => …`"), "{text}");
}

#[xiio::test]
async fn an_output_that_does_not_match_is_dropped_while_the_others_race() {
    struct Flag<'a>(&'a Cell<bool>);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let is_dropped = Cell::new(false);
    race!(
        (Flag(_), 1) = ready((Flag(&is_dropped), 2)) => unreachable!(),
        () = xiio::yield_now() => assert!(is_dropped.get()),
    );
}

#[xiio::test(virtual_time)]
async fn losers_have_cleaned_up_when_the_arm_runs() {
    let is_released = Cell::new(false);
    let work = bracket(
        (),
        async |()| pending().await,
        async |()| {
            sleep(SECOND).await;
            is_released.set(true);
        },
    );
    race!(
        Some(()) = async { sleep(SECOND).await; Some(()) } => assert!(is_released.get()),
        () = work => unreachable!(),
    );
}

#[xiio::test(virtual_time)]
async fn a_limit_cancels_a_race_of_which_some_have_ended() {
    let race = async { race!(1 = ready(0) => 1, n = pending() => n) };
    assert!(xiio::timeout(SECOND, race).await.is_err());
}

#[xiio::test]
async fn control_flow_leaves_a_group_through_every_arm() {
    async fn leave(word: Result<&str, String>, takes_part: Result<bool, String>) -> Result<i32, String> {
        loop {
            task_group!(|tg| {
                tg.spawn(async {});
                race!(
                    "break" = ready(word.clone()?), if takes_part.clone()? => break,
                    "return" = ready(word.clone()?) => return Ok(2),
                    else => Err(String::from("else"))?,
                );
            });
        }
        Ok(1)
    }
    fn error<T>(text: &str) -> Result<T, String> {
        Err(text.to_string())
    }
    assert_eq!(leave(Ok("break"), Ok(true)).await, Ok(1));
    assert_eq!(leave(Ok("return"), Ok(true)).await, Ok(2));
    assert_eq!(leave(Ok("break"), Ok(false)).await, error("else"));
    assert_eq!(leave(error("future"), Ok(true)).await, error("future"));
    assert_eq!(leave(Ok("break"), error("condition")).await, error("condition"));
}

#[xiio::test]
async fn the_first_error_of_a_try_group_leaves_through_a_condition() {
    let failed: Result<bool, i32> = Err(3);
    let result: Result<(), i32> = try_task_group!(error = i32, |tg| {
        tg.spawn(pending::<Result<(), i32>>());
        race!(() = pending(), if failed? => (), else => ());
    });
    assert_eq!(result, Err(3));
}
