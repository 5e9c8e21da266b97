use xiio::{Workers, task_group};

struct Keeper<'a>(Workers<'a>);

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        self.0.spawn(async || {});
    }
}

#[xiio::main]
async fn main() {
    task_group!(workers = 2, |tg| {
        drop(Keeper(tg.workers()));
    });
}
