#![deny(unused_must_use)]

use xiio::task_group;

fn main() {
    xiio::run(async {
        task_group!(workers = 1, |tg| {
            // They are cancelled at once, so no warning may say that nothing happens.
            tg.spawn(async {}).cancel();
            tg.workers().spawn(async || ()).cancel();
            tg.spawn(async {}).outcome();
            tg.workers().spawn(async || ()).outcome();
            tg.spawn(async {}).cancel_on_drop().outcome();
        });
    });
}
