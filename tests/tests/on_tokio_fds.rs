//! What a tree inside tokio leaves behind. A file of its own, as the descriptors of the whole process are counted.

use std::future::pending;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use xiio::compat::on_tokio;
use xiio::{sleep, task_group};
use xiio_tests::os::n_fds;
use xiio_tests::{DropCount, LONG};

fn tokio() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn tokios_timeout_drops_the_tree_and_nothing_stays() {
    let drops = DropCount::new();
    // The first one opens what tokio keeps for the process.
    drop(tokio());
    let before = n_fds();
    let runtime = tokio();
    let inside = runtime.block_on(async {
        let before = n_fds();
        for _ in 0..3 {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let tree = on_tokio(async {
                task_group!(|tg| {
                    tg.spawn(async {
                        let _flag = drops.flag();
                        sleep(LONG).await;
                    });
                    tg.spawn(async {
                        let _flag = drops.flag();
                        xiio::readable(&ours).await.unwrap();
                    });
                    let cleanup = xiio::bracket((), async |()| pending::<()>().await, async |()| panic!("not awaited"));
                    tg.spawn(cleanup);
                });
            });
            assert!(tokio::time::timeout(Duration::from_millis(20), tree).await.is_err());
        }
        assert_eq!(drops.get(), 6);
        assert_eq!(on_tokio(async { 7 }).await, 7);
        n_fds() - before
    });
    assert_eq!(inside, 0);
    drop(runtime);
    assert_eq!(n_fds(), before);
}
