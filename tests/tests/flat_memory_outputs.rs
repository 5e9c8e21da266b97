//! Who does not wait for an output any more is not kept. Alone in its process, as it looks at the memory of the whole.

use std::future::pending;
use std::time::Duration;

use xiio::{Outputs, task_group, timeout};
use xiio_tests::os::resident_kilobytes;
use xiio_tests::run;

#[test]
fn tasks_that_have_given_up_waiting_for_an_output_leave_memory_flat() {
    const N_TASKS: u32 = 10_000;
    run(async {
        let outputs = Outputs::<()>::new();
        task_group!(|tg| {
            let slow = tg.spawn(outputs.give(pending()));
            let mut after_warm_up = 0;
            for n in 0..N_TASKS {
                let waits = async {
                    let room = [0_u64; 200];
                    timeout(Duration::ZERO, outputs.next()).await.unwrap_err();
                    room
                };
                tg.spawn(waits).await;
                if n == N_TASKS / 10 {
                    after_warm_up = resident_kilobytes();
                }
            }
            let grown = resident_kilobytes().saturating_sub(after_warm_up);
            // Kept, they would be 14 MB.
            assert!(grown < 2_000, "grew by {grown} kB");
            slow.cancel().await;
        });
    });
}
