//! The macros of the crate xiio; use them through it.
//!
//! A fact for every stage: `args`, `parse` and `arms` read an invocation and collect its mistakes in
//! `diagnostics`, `flow` rewrites what leaves a body, and `expand` writes, with the names of
//! `names`. Below this file nothing knows `proc_macro`; all of it works on `proc_macro2`'s
//! streams and panics on none.

mod args;
mod arms;
mod diagnostics;
mod expand;
mod flow;
mod names;
mod parse;

use proc_macro::TokenStream;

use args::MacroKind;
use names::Names;

/// What `xiio::task_group!` passes on; see there.
#[proc_macro]
pub fn task_group(input: TokenStream) -> TokenStream {
    outermost_group(MacroKind::TaskGroup, input)
}

/// What `xiio::try_task_group!` passes on; see there.
#[proc_macro]
pub fn try_task_group(input: TokenStream) -> TokenStream {
    outermost_group(MacroKind::TryTaskGroup, input)
}

fn outermost_group(of: MacroKind, input: TokenStream) -> TokenStream {
    let input = input.into();
    let names = Names::outermost(&input);
    expand::group(of, input, names).into()
}

/// What `xiio::race!` passes on; see there.
#[proc_macro]
pub fn race(input: TokenStream) -> TokenStream {
    expand::race(input.into()).into()
}

/// Runs an `async fn main` and every task under it, to the end, on this thread.
///
/// The function takes no arguments and may return whatever `main` may.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"` | what `inspect` calls the root |
/// | `timeout = Duration`, `deadline = Instant` | cancels everything after that time or at that point |
/// | `grace = Duration` | how long cleanup may take after the cancellation of everything before it is dropped |
/// | `crate = path` | where xiio is, for a crate that has it under another name |
/// | `tokio` | gives the whole program the context of a tokio runtime, as `compat::with_tokio` does (feature `tokio`) |
/// | `slow_poll = Duration` | reports each poll of a task that takes longer; none without it |
/// | `slow_cleanup = Duration` | reports each cleanup that takes longer, while it lasts; none without it |
/// | `vain_polls = usize` | reports a task that is polled in vain more often within a second; none without it |
/// | `many_tasks = usize` | reports each group that holds more tasks; none without it |
/// | `cancel_on(SIGINT, SIGTERM, …)` | these signals cancel the root; its cleanup runs, and the process then dies by the signal |
/// | `impatience = Duration` | how long after the first of them another one kills at once: a second by default, `None` is never; only with `cancel_on` |
/// | `impatient_on(SIGINT, SIGQUIT, …)` | which signals kill at once then: these two by default; only with `cancel_on` |
/// | `inspect` | lets `xiio-inspect` look at the tree, as `XIIO_INSPECT=1` in the environment does |
/// | `tree_on(SIGQUIT, …)` | prints the tree on standard error when one of these signals comes, and goes on |
///
/// `SIGINT`, `SIGTERM`, `SIGHUP`, `SIGQUIT`, `SIGUSR1` and `SIGUSR2` need no import; any other
/// signal is an expression of type `i32`.
///
/// # Errors
///
/// When the time limit is over, a function that returns `Result<_, E>`, where `E` is
/// `From<Elapsed>`, has the value `Err`. A function that returns `ExitCode` has `FAILURE`, with a
/// line on standard error.
///
/// # Panics
///
/// With the payload of the first task that panicked, and inside another runtime of xiio. When the
/// time limit is over, if the function returns `()`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// #[xiio::main(cancel_on(SIGINT, SIGTERM), timeout = Duration::from_secs(60))]
/// async fn main() -> std::io::Result<()> {
///     xiio::sleep(Duration::from_millis(1)).await;
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::root(MacroKind::Main, arguments.into(), item.into()).into()
}

/// Makes an `async fn` a test, run to the end on the thread of the test.
///
/// The function takes no arguments and may return whatever a test may. `#[should_panic]`,
/// `#[ignore]` and other attributes stay in force.
///
/// # Options
///
/// Those of `#[xiio::main]` but `cancel_on`, `impatience`, `impatient_on`, `inspect` and `tree_on`, with a second for
/// `slow_poll`, 100 000 for `vain_polls` and 10 000 for `many_tasks`, and
///
/// | option | meaning |
/// |---|---|
/// | `virtual_time` | the clock jumps to the next timer whenever all tasks wait |
/// | `loopback` | with `virtual_time`, or after `testing::pause()`: it jumps also while the test waits for sockets of this machine that it has both ends of |
/// | `patience = Duration` | how long a thread that the runtime does not know of has to wake a task, where nothing else can; two seconds by default |
/// | `seed = u64` | shuffles the order in which tasks run, reproducibly |
/// | `seeds = Range<u64>` | runs the test once for each seed |
/// | `cancel_everywhere` | runs the test again and again, cancelled one await later each time |
///
/// # Panics
///
/// With the payload of the first task that panicked; with several runs the first run that panics
/// ends the test. With the tree of tasks when the time limit is over, whatever the function
/// returns, and when nothing can wake any task. Also when a timer or a watched descriptor is left
/// behind.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// #[xiio::test(virtual_time, seeds = 0..10)]
/// async fn an_hour_passes_at_once() {
///     let start = xiio::now();
///     xiio::sleep(Duration::from_secs(3600)).await;
///     assert_eq!(xiio::now() - start, Duration::from_secs(3600));
/// }
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::root(MacroKind::Test, arguments.into(), item.into()).into()
}
