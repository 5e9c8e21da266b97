use xiio::{Workers, task_group};

struct Keeper<'a>(Option<Workers<'a>>);

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        if let Some(workers) = self.0 {
            workers.spawn(async || {});
        }
    }
}

#[xiio::main]
async fn main() {
    let mut keeper = Keeper(None);
    task_group!(workers = 2, |tg| {
        keeper.0 = Some(tg.workers());
    });
}
