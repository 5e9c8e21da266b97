//! The futures crate: `FuturesUnordered` of one type of future, of boxed ones, with async-io; and `LocalPool`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

use futures::StreamExt;
use futures::executor::{LocalPool, LocalSpawner};
use futures::stream::FuturesUnordered;
use futures::task::LocalSpawnExt;

use super::async_io::WithAsyncIo;
use super::{All, Cancel, Runtime, Scopes, Spawn, poll_to_the_end};

/// Of futures of one type: less than a scope that takes any future needs.
pub struct Unordered;
pub struct UnorderedBoxed;
pub type UnorderedWithAsyncIo = WithAsyncIo<Unordered>;
pub struct Pool;

impl Runtime for Unordered {
    const NAME: &'static str = "fu";

    fn block_on<F: Future>(main: F) -> F::Output {
        poll_to_the_end(main)
    }
}

impl Runtime for UnorderedBoxed {
    const NAME: &'static str = "fu-boxed";

    fn block_on<F: Future>(main: F) -> F::Output {
        poll_to_the_end(main)
    }
}

impl Runtime for UnorderedWithAsyncIo {
    const NAME: &'static str = "fu-async-io";

    fn block_on<F: Future>(main: F) -> F::Output {
        ::async_io::block_on(main)
    }
}

impl All for Unordered {
    async fn all<F>(futures: impl Iterator<Item = F>)
    where
        F: Future<Output = ()> + 'static,
    {
        let mut set: FuturesUnordered<F> = futures.collect();
        while set.next().await.is_some() {}
    }
}

impl All for UnorderedWithAsyncIo {
    fn all<F>(futures: impl Iterator<Item = F>) -> impl Future<Output = ()>
    where
        F: Future<Output = ()> + 'static,
    {
        Unordered::all(futures)
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
pub struct BoxedTasks(FuturesUnordered<Boxed>);

impl Spawn for BoxedTasks {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.0.push(Box::pin(future));
    }
}

impl Scopes for UnorderedBoxed {
    type Scope<'scope> = BoxedTasks;

    async fn scope(fill: impl FnOnce(&mut BoxedTasks)) {
        let mut tasks = BoxedTasks::default();
        fill(&mut tasks);
        while tasks.0.next().await.is_some() {}
    }
}

impl Cancel for Unordered {}
impl Cancel for UnorderedBoxed {}

thread_local! {
    static SPAWNER: RefCell<Option<LocalSpawner>> = const { RefCell::new(None) };
}

impl Runtime for Pool {
    const NAME: &'static str = "localpool";

    fn block_on<F: Future>(main: F) -> F::Output {
        let mut pool = LocalPool::new();
        SPAWNER.set(Some(pool.spawner()));
        pool.run_until(main)
    }
}

pub struct Handles(LocalSpawner, Vec<futures::future::RemoteHandle<()>>);

impl Spawn for Handles {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.1.push(self.0.spawn_local_with_handle(future).unwrap());
    }
}

impl Scopes for Pool {
    type Scope<'scope> = Handles;

    async fn scope(fill: impl FnOnce(&mut Handles)) {
        let spawner = SPAWNER.with_borrow(|spawner| spawner.clone().expect("the pool runs"));
        let mut handles = Handles(spawner, Vec::new());
        fill(&mut handles);
        for handle in handles.1 {
            handle.await;
        }
    }
}
