//! A group with a grace keeps nothing for tasks that have cleaned up, nor for cancelling one again. Alone in its process, as it
//! looks at the memory of the whole.

use std::future::pending;

use xiio::{TaskGroup, shield, task_group, yield_now};
use xiio_tests::os::resident_kilobytes;
use xiio_tests::{LONG, Reports};

async fn clean_up_in_two_rounds(tg: &TaskGroup<'_>) {
    let large = [1_u32; 1024];
    let task = tg.spawn(async move {
        shield(yield_now()).await;
        large
    });
    yield_now().await;
    assert!(task.cancel().await.is_none());
}

#[xiio::test(virtual_time)]
async fn a_cleanup_that_takes_long_leaves_memory_flat() {
    let reports = Reports::new();
    task_group!(grace = LONG, |tg| {
        tg.spawn(shield(pending::<()>()));
        yield_now().await;
        tg.cancel();
        clean_up_in_two_rounds(tg).await;
        let before = resident_kilobytes();
        for _ in 0..20_000 {
            clean_up_in_two_rounds(tg).await;
        }
        for _ in 0..400_000 {
            tg.cancel();
            yield_now().await;
        }
        let grown = resident_kilobytes().saturating_sub(before);
        // Kept, the tasks would be 80 MB, and a note for each further cancellation 9 MB.
        assert!(grown < 4_000, "grew by {grown} kB");
        reports.assert_none();
    });
}
