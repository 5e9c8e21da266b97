use xiio::{TaskGroup, task_group};

struct Keeper<'a>(&'a TaskGroup<'a>);

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        self.0.spawn(async {});
    }
}

#[xiio::main]
async fn main() {
    task_group!(|tg| {
        drop(Keeper(tg));
    });
}
