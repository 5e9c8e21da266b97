//! Many futures, the first output.

use std::cell::{OnceCell, RefCell};
use std::future::{IntoFuture, pending};
use std::panic::Location;

use super::in_place::{Unspawned, then};
use crate::drawing::FileLine;
use crate::group::TryTaskGroup;
use crate::report::{Held, ReportKind, Undelivered, err_type, report};
use crate::{try_task_group, unwind};

/// Runs futures side by side, gives the output of the first that ends, and cancels the others.
///
/// The losers have cleaned up when it returns. Once there is a winner no loser is polled any more but for its cleanup, so
/// two racers that take from one queue lose no item. When several could end in the same round, the first in order wins.
/// An `Err` is an output like any other: racers that all fail give the error of the first to do so. Without racers it never
/// ends.
///
/// # Panics
/// With the first panic of a racer, even in the cleanup of a loser, when all have ended. One that was cancelled before, as the loser of another
/// race that had only a `&mut` to it, panics if it had something to clean up. What is to go on after a race that it loses is a task, and its handle
/// races: see [`race!`](crate::race!).
///
/// # Cancellation
/// All are cancelled, side by side; whoever cancels waits for their cleanup.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let winner = xiio::run(xiio::race([30, 1, 20].map(|millis| async move {
///     xiio::sleep(Duration::from_millis(millis)).await;
///     millis
/// })));
/// assert_eq!(winner, 1);
/// ```
#[doc(alias("select_all", "FuturesUnordered"))]
#[track_caller]
pub fn race<I>(futures: I) -> impl Future<Output = <I::Item as IntoFuture>::Output>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let (location, mut futures) = (Location::caller(), Unspawned::new(futures));
    async move {
        let mut winner = Winner::new(|output| report_unheard("race", err_type(output), location));
        let _: Result<(), Won> = try_task_group!(error = Won, |tg| {
            tg.stand_for("race");
            tg.expect_winner();
            for future in futures.take() {
                let winner = &winner;
                tg.spawn_at(then(future.into_future(), |output| winner.end(output)), location);
            }
            pending::<()>().await;
        });
        winner.take().unwrap_or_else(|| unreachable!("the body of the group never ends"))
    }
}

/// [`race`] for futures that may fail: gives the first `Ok`, and cancels the others; or all errors, in the order given.
///
/// An error does not end the race: the others race on. Without racers the list of errors is empty.
///
/// # Errors
/// The error of every racer, when all have failed.
///
/// # Panics
/// As [`race`].
///
/// # Cancellation
/// All are cancelled, side by side; whoever cancels waits for their cleanup. The errors of those that have failed are dropped.
///
/// # Examples
/// ```
/// let parsed = xiio::run(xiio::race_ok(["one", "2"].map(|text| async { text.parse::<i32>() })));
/// assert_eq!(parsed.unwrap(), 2);
/// let errors = xiio::run(xiio::race_ok(["one", "two"].map(|text| async { text.parse::<i32>() }))).unwrap_err();
/// assert_eq!(errors.len(), 2);
/// ```
#[doc(alias("select_ok"))]
#[track_caller]
pub fn race_ok<I, O, E>(futures: I) -> impl Future<Output = Result<O, Vec<E>>>
where
    I: IntoIterator,
    I::Item: IntoFuture<Output = Result<O, E>>,
{
    let (location, mut futures) = (Location::caller(), Unspawned::new(futures));
    async move {
        let mut winner = Winner::new(|output| report_unheard("race_ok", err_type(output), location));
        // Each with its place in the order given.
        let errors = RefCell::new(Vec::new());
        let _: Result<(), Won> = try_task_group!(error = Won, |tg| {
            tg.stand_for("race_ok");
            tg.expect_winner();
            for (place, future) in futures.take().into_iter().enumerate() {
                let (winner, errors) = (&winner, &errors);
                let end = move |result| match result {
                    Ok(output) => winner.end(output),
                    Err(error) => {
                        errors.borrow_mut().push((place, Held::new(error)));
                        Ok(())
                    }
                };
                tg.spawn_at(then(future.into_future(), end), location);
            }
        });
        winner.take().ok_or_else(|| {
            let mut errors = errors.take();
            errors.sort_unstable_by_key(|(place, _)| *place);
            errors.into_iter().filter_map(|(_, mut error)| error.take()).collect()
        })
    }
}

/// The error of the winner. The first `Err` of a group cancels the rest before any of them is polled again, which is what
/// a winner must do.
pub struct Won;

/// The output of the winner.
struct Winner<O, R: Fn(&O)> {
    output: OnceCell<Undelivered<O, R>>,
    /// Tells of an output that nobody is given.
    report: R,
}

impl<O, R: Fn(&O) + Copy> Winner<O, R> {
    fn new(report: R) -> Self {
        Self { output: OnceCell::new(), report }
    }

    /// Ends a racer. One that comes to its end while it is unwound has not won, and has not failed either.
    fn end(&self, output: O) -> Result<(), Won> {
        let output = Undelivered::new(output, self.report);
        let is_late = unwind::is_unwinding() || self.output.set(output).is_err();
        if is_late { Ok(()) } else { Err(Won) }
    }

    fn take(&mut self) -> Option<O> {
        self.output.take().map(Undelivered::deliver)
    }
}

/// Reports an output of this type that nobody is given, if there is such a type.
fn report_unheard(label: &str, type_name: Option<&str>, location: &Location<'_>) {
    if let Some(type_name) = type_name {
        let text = format!(
            "a racer of a `{label}`, made at {}, ended with an `Err` that nobody is given ({type_name}): the race had no value to give, or \
             was won before; handle the error in the racer",
            FileLine(location)
        );
        report(ReportKind::ErrorUnheard, text);
    }
}

/// Runs futures of different types side by side, and goes on with the first that ends.
///
/// Either all have one output type (`race!(a, b)` gives it), or each has an arm, `pattern = future => expression`, all of
/// one type. The losers are cancelled and have cleaned up when the arm runs, which is code of the surrounding function:
/// `return`, `?`, `break` and `continue` in it mean what they mean there. What the futures borrow from a temporary is gone by then,
/// so no output may borrow from one: give it a `let` of its own before.
///
/// An output that its pattern does not match wins nothing; the others race on. `pattern = future, if condition => …` takes
/// part only if the condition is true. All conditions are evaluated before the futures, and the future of one that is
/// false is made and dropped. When nobody is left, the race goes on with `else => expression`, which stands last.
///
/// A bare name in a pattern is a constant if it begins with a capital letter, and a new variable otherwise. Give any other constant its path,
/// `self::limit`.
///
/// It is awaited inside. See [`race`](crate::race()) for ties and cancellation.
///
/// # Panics
/// As [`race`](crate::race()); and when nobody is left and there is no `else`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xiio::{race, sleep};
///
/// xiio::run(async {
///     let word = race!(
///         n = async { 7 } => format!("number {n}"),
///         () = sleep(Duration::from_secs(1)) => "nothing".to_string(),
///     );
///     assert_eq!(word, "number 7");
///     assert_eq!(race!(async { 1 }, std::future::pending()), 1);
///
///     let (lines, is_open) = (["a"], true);
///     let mut lines = lines.into_iter();
///     let line = race!(
///         Some(line) = async { lines.next() }, if is_open => line,
///         else => "the end",
///     );
///     assert_eq!(line, "a");
/// });
/// ```
///
/// What goes on over several races is a task. Its handle loses, and the task does not hear of it:
/// ```
/// use std::time::Duration;
/// use xiio::{in_thread, interval, race, task_group};
///
/// let pause = Duration::from_millis(5);
/// xiio::run(async {
///     let mut ticks = interval(pause);
///     task_group!(|tg| {
///         let mut work = tg.spawn(in_thread(move || std::thread::sleep(pause * 3)));
///         loop {
///             race!(
///                 () = &mut work => break,
///                 _ = ticks.tick() => println!("still at work"),
///             );
///         }
///     });
/// });
/// ```
#[doc(alias("select"))]
#[macro_export]
macro_rules! race {
    ($($racers:tt)*) => {{
        use $crate::__private as __xiio_private;
        $crate::__private::race!($($racers)*)
    }};
}

/// The output of one racer, or of one of the others.
#[derive(Debug)]
pub enum Either<L, R> {
    /// This racer has won.
    Left(L),
    /// One further right has won.
    Right(R),
}

/// A racer of [`race!`](crate::race!).
pub struct Racer<F, M> {
    future: F,
    takes_part: bool,
    matches: M,
}

/// A racer that wins with an output that matches.
pub fn racer<F, M>(future: F, takes_part: bool, matches: M) -> Racer<F, M>
where
    F: IntoFuture,
    M: Fn(&F::Output) -> bool,
{
    Racer { future, takes_part, matches }
}

/// Racers of different types, nested as `(first, (second, (third, ())))`.
pub trait Racers {
    /// An [`Either`] for each racer, nested alike.
    type Output;

    /// The type of an output, if it is an `Err`.
    fn err_type(output: &Self::Output) -> Option<&'static str>;

    /// Spawns each that takes part, which `end`s with its output.
    fn spawn<'env>(
        self,
        tg: &TryTaskGroup<'env, Won>,
        end: impl Fn(Self::Output) -> Result<(), Won> + 'env,
        location: &'static Location<'static>,
    ) where
        Self: 'env;
}

impl Racers for () {
    type Output = std::convert::Infallible;

    fn err_type(output: &Self::Output) -> Option<&'static str> {
        match *output {}
    }

    fn spawn<'env>(
        self,
        _: &TryTaskGroup<'env, Won>,
        _: impl Fn(Self::Output) -> Result<(), Won> + 'env,
        _: &'static Location<'static>,
    ) {
    }
}

impl<F, M, R> Racers for (Racer<F, M>, R)
where
    F: IntoFuture,
    M: Fn(&F::Output) -> bool,
    R: Racers,
{
    type Output = Either<F::Output, R::Output>;

    fn err_type(output: &Self::Output) -> Option<&'static str> {
        match output {
            Either::Left(output) => err_type(output),
            Either::Right(output) => R::err_type(output),
        }
    }

    fn spawn<'env>(
        self,
        tg: &TryTaskGroup<'env, Won>,
        end: impl Fn(Self::Output) -> Result<(), Won> + 'env,
        location: &'static Location<'static>,
    ) where
        Self: 'env,
    {
        let (Racer { future, takes_part, matches }, rest) = self;
        let end = std::rc::Rc::new(end);
        let end_rest = std::rc::Rc::clone(&end);
        if takes_part {
            let end = move |output| if matches(&output) { end(Either::Left(output)) } else { Ok(()) };
            tg.spawn_at(then(future.into_future(), end), location);
        }
        rest.spawn(tg, move |output| end_rest(Either::Right(output)), location);
    }
}

/// What [`race!`](crate::race!) awaits. `None` if all have ended without a match.
#[track_caller]
pub fn race_all<R: Racers>(racers: R) -> impl Future<Output = Option<R::Output>> {
    let (location, mut racers) = (Location::caller(), Unspawned::new(racers));
    async move {
        let mut winner = Winner::new(|output| report_unheard("race!", R::err_type(output), location));
        let _: Result<(), Won> = try_task_group!(error = Won, |tg| {
            tg.stand_for("race!");
            tg.expect_winner();
            racers.take().spawn(tg, |output| winner.end(output), location);
        });
        winner.take()
    }
}

/// The end of a [`race!`](crate::race!) that nobody has won and that has no `else`.
#[cold]
#[track_caller]
pub fn no_racer_left() -> ! {
    panic!(
        "nobody is left in this `race!`: no output matched its pattern, or no condition was true; \
         give it an arm `else => …`"
    )
}
