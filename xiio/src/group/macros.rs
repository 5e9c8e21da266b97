//! The macros as users name them. Each tells the expansion where xiio is: `$crate`, under whatever name the program has it.

/// A block that does not end before its tasks have ended.
///
/// `task_group!(options…, |tg| { body })` is an expression inside an `async` function or block,
/// awaited by itself. The body is a block of the function around, not a closure; `tg` names the
/// group in it, and `tg.spawn(future)` adds a task. The value of the expression is that of the
/// body.
///
/// When the expression has its value, every task has ended, and what the tasks borrowed is free.
/// Tasks may borrow what was declared before the group, not what the body declares: move that
/// into them. A task that panics cancels the others, and the group panics with its payload.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"` | what `inspect` calls the group |
/// | `timeout = Duration` | cancels the body and the tasks after that time; the expression is a `Result<V, Elapsed>`. An `Option<Duration>` will do, too; `None` is no limit |
/// | `deadline = Instant` | the same for a point in time |
/// | `limit = usize` | how many tasks run at once; the others wait for their turn |
/// | `grace = Duration` | how long cleanup may take after a cancellation, of the whole group or of single tasks, before it is dropped |
/// | `workers = usize` | threads for what is spawned with `tg.workers().spawn(async \|\| …)`; see [Workers](#workers) |
///
/// The options are evaluated once, in the order written, in the function around.
///
/// # Workers
///
/// With `workers = n` the group has up to `n` threads. A task of `tg.spawn` stays on this thread. `tg.workers()` gives a handle
/// ([`Workers`](crate::Workers)) that may be copied and sent; its `spawn` runs an async closure on a worker. The closure has to be `Send`,
/// the future that it makes need not be, and both may borrow what was declared before the block. `limit` holds twice: once for the tasks at
/// home, and once for the tasks on all workers together. With `workers = 0`, in a tree inside a foreign loop ([`compat`](crate::compat)),
/// and in a test with virtual time or seeds these tasks run on this thread.
///
/// The workers run while the group is polled, and this thread polls it whenever it has nothing to do outside of it. So a
/// group with workers belongs near the root, with the work of this thread in its body. Code outside of the group that is
/// ready waits for the end of the polls that the workers are in, and the workers then wait for that code. A task on a
/// worker must not block until code outside of the group has run.
///
/// # Control flow
///
/// | in the body | what it does |
/// |---|---|
/// | last expression | is the value of the group |
/// | `x?` | cancels the tasks, waits for them, and leaves the *function* with the error, converted there with `From`; with `None` likewise |
/// | `bail!(…)`, `ensure!(…)` of `anyhow` and its kind | as `x?`: cancels the tasks and leaves the function with the error |
/// | `return`, `break`, `continue`, with labels and values | waits for the tasks, then does it, in the function |
/// | panic | cancels the tasks, waits for them, and panics on |
///
/// This holds inside the arguments of macros that look like expressions (`println!`, `vec!`,
/// `assert!`), like arms (`race!`), or like values with names (`json!`), and through groups in the body. Closures, `async` blocks and items in the body
/// keep their own control flow.
///
/// # Unlike a plain block
///
/// - A value that the body moves counts as moved on every way out. In a loop around the group it is gone
///   in the next round, even if the body breaks out of the loop.
/// - A variable declared without a value before the group cannot get its first value in the body;
///   let it be the value of the group.
/// - A `return` of a `&mut` that was borrowed through another one may be refused.
/// - The value is coerced as a whole (`Box<T>` to `Box<dyn Trait>`), not inside an `Ok(…)` or
///   `Some(…)`. What `return` and `break` take along is coerced as usual.
/// - `?`, `return`, `break` and `continue` are not seen in three places, and the compiler then reports
///   mismatched types, or a `?` that "cannot be used" here:
///   - in arguments of a macro that look like none of the above;
///   - in what a macro itself expands to (but for `bail!` and `ensure!`);
///   - in a group under another name for this macro. A macro of this name is taken for this one, whatever its path.
/// - A `break` or `continue` without a label, in the arguments of a macro, leaves the body only where the macro is known to have no loop: those
///   of `std`, `race!`, `select!`, `join!`, and those that log or make errors. Elsewhere it is meant for a loop of the macro, as `E0267` says
///   where there is none. Give the loop around the group a label and name it.
/// - Labels are told apart by their names. A macro that expands to a group with a label in its body takes a `break` to the same name in its
///   arguments for its own (`E0767`). Give that label a name that nobody else has.
/// - The error of a `?` is converted behind the group. So it may not borrow from the body, and what it holds is held while the tasks clean up.
/// - A `?` in an argument that a macro throws away has no type (`E0282`).
/// - `dbg!` and other macros that show their arguments as text show what a `?` in them has become. `assert!` shows what was written.
/// - `bail!` and `ensure!` stand in a closure: what they give to the error they take from the variables around, also where they do not return.
///   In a `task_group!` inside of a `try_task_group!` the error is converted with `From`, as with a `?`, and not coerced.
/// - A macro that puts its arguments into a closure, a generator or a `try_task_group!` has control flow of its own. This is known of `defer!`,
///   `stream!` and `try_stream!`; let another one stand in a function of its own.
/// - In a crate that forbids a lint which the expansion allows, such as `dead_code`, `unused_imports`, `unreachable_code` or `clippy::pedantic`,
///   the compiler refuses it (`E0453`). Deny the lint instead.
/// - A `loop` at the end of the body is taken for endless where no `break` is seen in it. Behind one
///   that only the `break` of a macro ends, write `()`.
///
/// # Errors
///
/// With `timeout` or `deadline`, `Err(Elapsed)` if the body and the tasks had not ended by then.
/// A `return` or `break` does not happen if the group still waits for its tasks at that time.
///
/// # Panics
///
/// With the payload of the first member that panicked, the body included; and for `limit = 0`, as no
/// task could ever start.
///
/// # Cancellation
///
/// Cancels the body and all tasks, and waits until their cleanup has run; `grace` bounds that. If
/// the future of the function around is dropped instead, all are dropped with it.
///
/// # Examples
///
/// ```
/// let names = vec!["Ada".to_string(), "Grace".to_string()];
/// let n_names = xiio::run(async {
///     xiio::task_group!(|tg| {
///         for name in &names {
///             tg.spawn(async move { println!("Hello, {name}!") });
///         }
///         names.len()
///     })
/// });
/// assert_eq!(n_names, 2);
/// ```
#[doc(alias("JoinSet", "TaskTracker", "nursery", "scope"))]
#[macro_export]
macro_rules! task_group {
    ($($call:tt)*) => {{
        use $crate::__private as __xiio_private;
        $crate::__private::task_group!($($call)*)
    }};
}

/// A block whose tasks return `Result`; the first `Err` cancels the rest.
///
/// `try_task_group!(options…, |tg| { body })` is a `task_group!` with these differences: a task is
/// a future of `Result<T, E>`, and the expression is a `Result<V, E>`. A `?` in the body makes its
/// error the group's, as it would in a function of its own.
///
/// `E` is the error type of the function around, exactly, so that `?` in tasks written in place
/// needs no annotation. Elsewhere, or for another type, give `error = Type`, or a type to the
/// parameter: `|tg: &TryTaskGroup<'_, Type>|`.
///
/// # Options
///
/// Those of `task_group!`, and
///
/// | option | meaning |
/// |---|---|
/// | `error = Type` | the error type `E`; `_` lets the compiler infer it |
/// | `all_errors` | the expression is a `Result<V, GroupError<E>>`, with every failure in it |
///
/// With `timeout` or `deadline`, `E` must be `From<Elapsed>`.
///
/// # Control flow
///
/// | in the body | what it does |
/// |---|---|
/// | last expression | is the value of the group, wrapped in `Ok`; see [No `Ok` at the end](#no-ok-at-the-end) |
/// | `x?` | cancels the tasks, waits for them, and is the group's `Err`, converted with `From` |
/// | `return`, `break`, `continue`, with labels and values | waits for the tasks, then does it, in the function; an `Err` of a task meanwhile wins over it |
/// | panic | cancels the tasks, waits for them, and panics on |
///
/// The differences from a plain block are those of `task_group!`. One is added: a `return Err(…)` that a macro expands to is the
/// group's `Err`. So with `bail!` and `ensure!`: their error is neither converted nor coerced, and has to be an `E` already.
///
/// # No `Ok` at the end
///
/// The macro puts the `Ok` around the last expression. A body that ends in `Ok(())` gives `Ok(Ok(()))`, and the compiler reports mismatched
/// types (`E0308`). Leave that `Ok(())` out. Do not add the `?` that the compiler suggests instead: a last expression that is a `Result` is then a
/// value like any other, and its error may be dropped unseen.
///
/// # Errors
///
/// The first `Err` of a task or of a `?` in the body. Later ones are reported to `inspect`;
/// `all_errors` keeps them instead.
///
/// # Panics
///
/// As `task_group!`.
///
/// # Cancellation
///
/// As in `task_group!`.
///
/// # Examples
///
/// ```
/// async fn sum(texts: &[&str]) -> Result<i32, std::num::ParseIntError> {
///     xiio::try_task_group!(|tg| {
///         let tasks: Vec<_> = texts.iter().map(|text| tg.spawn(async { text.parse::<i32>() })).collect();
///         let mut sum = 0;
///         for task in tasks {
///             sum += task.await;
///         }
///         sum
///     })
/// }
/// assert_eq!(xiio::run(sum(&["1", "2"])), Ok(3));
/// assert!(xiio::run(sum(&["1", "x"])).is_err());
/// ```
#[doc(alias("JoinSet", "nursery", "scope"))]
#[macro_export]
macro_rules! try_task_group {
    ($($call:tt)*) => {{
        use $crate::__private as __xiio_private;
        $crate::__private::try_task_group!($($call)*)
    }};
}
