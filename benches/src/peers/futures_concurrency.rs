//! futures-concurrency: `FutureGroup`, of one type of future.

use std::future::Future;
use std::pin::pin;

use futures::StreamExt;
use futures_concurrency::future::FutureGroup;

use super::{All, Cancel, Runtime, poll_to_the_end};

pub struct Group;

impl Runtime for Group {
    const NAME: &'static str = "futuregroup";

    fn block_on<F: Future>(main: F) -> F::Output {
        poll_to_the_end(main)
    }
}

impl All for Group {
    async fn all<F>(futures: impl Iterator<Item = F>)
    where
        F: Future<Output = ()> + 'static,
    {
        let mut group = FutureGroup::new();
        for future in futures {
            group.insert(future);
        }
        let mut group = pin!(group);
        while group.next().await.is_some() {}
    }
}

impl Cancel for Group {}
