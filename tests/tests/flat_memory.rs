//! A group that runs for long does not grow. Alone in its process, as it looks at the memory of the whole.

use xiio::{task_group, yield_now};
use xiio_tests::os::resident_kilobytes;
use xiio_tests::run;

#[test]
fn a_million_short_tasks_through_one_group_leave_memory_flat() {
    run(async {
        task_group!(|tg| {
            let mut after_warm_up = 0;
            for n in 0..1_000_000_u32 {
                let task = tg.spawn(async move {
                    if n % 8 == 0 {
                        yield_now().await;
                    }
                    [n; 16]
                });
                if n % 4 == 0 {
                    // The others are waited for by the group alone.
                    task.await;
                }
                if n == 50_000 {
                    after_warm_up = resident_kilobytes();
                }
            }
            let grown = resident_kilobytes().saturating_sub(after_warm_up);
            // Kept, each task would be more than 100 bytes, and all of them 95 MB.
            assert!(grown < 4_000, "grew by {grown} kB");
        });
    });
}
