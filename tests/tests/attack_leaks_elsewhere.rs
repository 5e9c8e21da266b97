//! Memory: a task whose wakers are dropped on other threads is freed when it ends.
//!
//! One test, as it counts the bytes of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::poll_fn;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;

use xiio::task_group;

struct Counting;

static N_BYTES: AtomicIsize = AtomicIsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: allocates and frees with `System`, counting changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_BYTES.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        N_BYTES.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the memory came from `System` with this layout.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often it is measured. A leak shows every time; what a channel allocates when one of its ends has to wait for the
/// first time, which may come late, shows once for each end.
const N_TIMES: usize = 8;

/// Gives wakers to a thread that drops them, and waits until it has.
struct Dropper {
    wakers: mpsc::SyncSender<[Waker; 2]>,
    dropped: mpsc::Receiver<()>,
}

impl Dropper {
    fn start() -> (Self, thread::JoinHandle<()>) {
        let (wakers, taken) = mpsc::sync_channel::<[Waker; 2]>(1);
        let (done, dropped) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            for wakers in taken {
                drop(wakers);
                let _ = done.send(());
            }
        });
        (Self { wakers, dropped }, thread)
    }

    fn drop_wakers(&self, waker: &Waker) {
        self.wakers.send([waker.clone(), waker.clone()]).unwrap();
        self.dropped.recv().unwrap();
    }
}

#[test]
fn a_task_whose_wakers_died_elsewhere_is_freed() {
    let (dropper, thread) = Dropper::start();
    xiio::run(async {
        for keeps_handle in [false, true] {
            let round = async || {
                task_group!(|tg| {
                    let task = tg.spawn(poll_fn(|cx| {
                        dropper.drop_wakers(cx.waker());
                        Poll::Ready(())
                    }));
                    if keeps_handle {
                        task.await;
                    }
                });
            };
            for _ in 0..10 {
                round().await;
            }
            let mut least = isize::MAX;
            for _ in 0..N_TIMES {
                let before = N_BYTES.load(Ordering::Relaxed);
                for _ in 0..100 {
                    round().await;
                }
                least = least.min(N_BYTES.load(Ordering::Relaxed) - before);
            }
            assert_eq!(least, 0, "100 tasks have left {least} bytes (handle kept: {keeps_handle})");
        }
    });
    drop(dropper);
    thread.join().unwrap();
}
