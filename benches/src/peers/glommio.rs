//! glommio: tasks and timers. Its sockets cannot be made of ones that exist.

use std::future::Future;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, Task};

use super::{Cancel, Runtime, Scopes, Spawn, Timers, cancel_tasks};
use crate::sample::Sample;

pub struct Glommio;

impl Runtime for Glommio {
    const NAME: &'static str = "glommio";

    fn block_on<F>(main: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make();
        executor.expect("io_uring is allowed").run(main)
    }

    async fn yield_now() {
        glommio::executor().yield_now().await;
    }
}

#[derive(Default)]
pub struct Tasks(Vec<Task<()>>);

impl Spawn for Tasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.push(glommio::spawn_local(future));
    }
}

impl Scopes for Glommio {
    type Scope<'scope> = Tasks;

    async fn scope(fill: impl FnOnce(&mut Tasks)) {
        let mut tasks = Tasks::default();
        fill(&mut tasks);
        for task in tasks.0 {
            task.await;
        }
    }
}

impl Cancel for Glommio {
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

impl Timers for Glommio {
    async fn sleep(duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    fn timeout(duration: Duration, future: impl Future<Output = ()>) -> impl Future<Output = ()> {
        futures_lite::future::or(future, Self::sleep(duration))
    }
}
