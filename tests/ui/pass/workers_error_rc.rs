use std::sync::Arc;

use xiio::try_task_group;

async fn parse(text: &str) -> Result<(), Arc<str>> {
    try_task_group!(workers = 1, |tg| {
        tg.workers().spawn(async || text.parse::<u32>().map_err(|error| Arc::from(error.to_string())));
    })
}

fn main() {
    assert!(xiio::run(parse("one")).is_err());
}
