//! A group with workers that runs for long does not grow. Alone in its process, as it looks at the memory of the whole.

use xiio::task_group;
use xiio_tests::os::resident_kilobytes;
use xiio_tests::run;

const N_ROUNDS: u32 = 20_000;

#[test]
fn tasks_on_workers_leave_memory_flat() {
    for workers in [0, 2, 8] {
        run(async {
            task_group!(workers = workers, |tg| {
                let mut after_warm_up = 0;
                for n in 0..N_ROUNDS {
                    let spawn = |n| tg.workers().spawn(async move || [n; 64]);
                    let tasks: [_; 8] = std::array::from_fn(|_| spawn(n));
                    // The others are waited for by the group alone.
                    let [task, ..] = tasks;
                    task.await;
                    if n == N_ROUNDS / 10 {
                        after_warm_up = resident_kilobytes();
                    }
                }
                let grown = resident_kilobytes().saturating_sub(after_warm_up);
                // Kept, they would be 36 MB.
                assert!(grown < 8_000, "grew by {grown} kB with {workers} workers");
            });
        });
    }
}
