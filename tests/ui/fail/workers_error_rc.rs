use std::rc::Rc;

use xiio::try_task_group;

async fn parse(text: &str) -> Result<(), Rc<str>> {
    try_task_group!(workers = 1, |tg| {
        tg.workers().spawn(async || text.parse::<u32>().map_err(|error| Rc::from(error.to_string())));
    })
}

fn main() {
    assert!(xiio::run(parse("one")).is_err());
}
