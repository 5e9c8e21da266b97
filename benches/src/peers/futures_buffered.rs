//! futures-buffered: `FuturesUnordered` with its tasks in growing blocks; of one type of future.

use std::future::Future;

use futures::StreamExt;
use futures_buffered::FuturesUnordered;

use super::{All, Cancel, Runtime, poll_to_the_end};

pub struct Buffered;

impl Runtime for Buffered {
    const NAME: &'static str = "fu-buffered";

    fn block_on<F: Future>(main: F) -> F::Output {
        poll_to_the_end(main)
    }
}

impl All for Buffered {
    async fn all<F>(futures: impl Iterator<Item = F>)
    where
        F: Future<Output = ()> + 'static,
    {
        let mut set: FuturesUnordered<F> = futures.collect();
        while set.next().await.is_some() {}
    }
}

impl Cancel for Buffered {}
