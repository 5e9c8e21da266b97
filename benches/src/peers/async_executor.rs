//! async-executor's `LocalExecutor` alone, and with async-io, blocking and async-process: what smol is made of.

use std::future::Future;

use async_executor::{LocalExecutor, Task};
use futures_lite::future;

use super::async_io::WithAsyncIo;
use super::{Cancel, Runtime, Scopes, Spawn, cancel_tasks};
use crate::sample::Sample;

/// The executor alone.
pub struct Alone;
pub type Smol = WithAsyncIo<Alone>;

thread_local! {
    static EXECUTOR: LocalExecutor<'static> = const { LocalExecutor::new() };
}

impl Runtime for Alone {
    const NAME: &'static str = "local-executor";

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        EXECUTOR.with(|executor| future::block_on(executor.run(main)))
    }
}

impl Runtime for Smol {
    const NAME: &'static str = "smol";

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        EXECUTOR.with(|executor| ::async_io::block_on(executor.run(main)))
    }
}

#[derive(Default)]
pub struct Tasks(Vec<Task<()>>);

impl Spawn for Tasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.push(EXECUTOR.with(|executor| executor.spawn(future)));
    }
}

impl Scopes for Alone {
    type Scope<'scope> = Tasks;

    async fn scope(fill: impl FnOnce(&mut Tasks)) {
        let mut tasks = Tasks::default();
        fill(&mut tasks);
        for task in tasks.0 {
            task.await;
        }
    }
}

impl Scopes for Smol {
    type Scope<'scope> = Tasks;

    fn scope(fill: impl FnOnce(&mut Tasks)) -> impl Future<Output = ()> {
        Alone::scope(fill)
    }
}

impl Cancel for Alone {
    fn cancel<F>(
        futures: impl ExactSizeIterator<Item = F>,
        started: impl Future<Output = ()>,
    ) -> impl Future<Output = Sample>
    where
        F: Future<Output = ()> + 'static,
    {
        cancel_tasks(futures, started, async |tasks: Tasks| {
            for task in tasks.0 {
                task.cancel().await;
            }
        })
    }
}
