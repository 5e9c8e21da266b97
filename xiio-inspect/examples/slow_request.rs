//! A server whose requests are answered in no time, but for one that asks a warehouse.

use std::time::Duration;

use xiio::{sleep, task_group};

xiio::local! {
    static REQUEST: u32, shown;
}

#[xiio::main(inspect)]
async fn main() {
    task_group!(name = "requests", |tg| {
        for request in 1.. {
            tg.spawn(REQUEST.scope(request, answer()));
            sleep(Duration::from_millis(20)).await;
        }
    });
}

async fn answer() {
    task_group!(|tg| {
        if REQUEST.get() == 13 {
            tg.spawn_named("warehouse", sleep(Duration::from_secs(600)));
        }
        sleep(Duration::from_millis(100)).await;
    });
}
