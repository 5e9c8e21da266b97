//! moro: scopes whose tasks may borrow, on top of `FuturesUnordered`.

use std::future::Future;

use super::{AssertSend, Cancel, Runtime, Scopes, Spawn, poll_to_the_end};

pub struct Moro;

impl Runtime for Moro {
    const NAME: &'static str = "moro";

    fn block_on<F: Future>(main: F) -> F::Output {
        poll_to_the_end(main)
    }
}

pub struct Scope<'scope>(&'scope moro::Scope<'scope, 'scope, ()>);

impl Spawn for Scope<'_> {
    fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        drop(self.0.spawn(AssertSend(future)));
    }
}

impl Scopes for Moro {
    type Scope<'scope> = Scope<'scope>;

    async fn scope(fill: impl FnOnce(&mut Scope<'_>)) {
        let fill = AssertSend(fill);
        moro::scope_fn::<(), _>(|scope| {
            let fill = { fill }.0;
            fill(&mut Scope(scope));
            Box::pin(async {})
        })
        .await;
    }
}

impl Cancel for Moro {}
