//! Futures that never wait kept the consumer of `as_completed` from its turn: a worker took the next future as soon as
//! one had ended, all in one poll. So an iterator without end was run without end, and its outputs filled the memory.

use xiio::as_completed;
use xiio_tests::run;

/// Far more than a fair share, and few enough to fail at once.
const FAR_TOO_MANY: usize = 100_000;

fn endless(n_made: &std::cell::Cell<usize>) -> impl Iterator<Item = impl Future<Output = usize>> {
    (0..).map(|n| {
        n_made.set(n + 1);
        assert!(n < FAR_TOO_MANY, "the consumer does not get its turn");
        async move { n }
    })
}

#[test]
fn consumer_of_futures_that_never_wait_gets_its_turn() {
    for limit in [1, 2, 8] {
        let n_made = std::cell::Cell::new(0);
        let first = run(as_completed(endless(&n_made)).limit(limit).consume(async |outputs| outputs.next().await));
        assert_eq!(first, Some(0));
        assert!(n_made.get() < 2000, "{} futures were made for one output", n_made.get());
    }
}

#[test]
fn the_tasks_around_get_their_turn_as_well() {
    let n_made = std::cell::Cell::new(0);
    let n_rounds = run(async {
        xiio::task_group!(|tg| {
            tg.spawn(as_completed(endless(&n_made)).limit(1).consume(
                async |outputs| {
                    while outputs.next().await.is_some() {}
                },
            ));
            let mut n_rounds = 0;
            while n_made.get() < 10_000 {
                xiio::yield_now().await;
                n_rounds += 1;
            }
            tg.cancel();
            n_rounds
        })
    });
    assert!(n_rounds >= 10, "only {n_rounds} turns beside 10000 futures");
}
