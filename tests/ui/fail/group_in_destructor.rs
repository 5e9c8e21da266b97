use xiio::{TaskGroup, task_group};

struct Keeper<'a>(Option<&'a TaskGroup<'a>>);

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        if let Some(tg) = self.0 {
            tg.spawn(async {});
        }
    }
}

#[xiio::main]
async fn main() {
    let mut keeper = Keeper(None);
    task_group!(|tg| {
        keeper.0 = Some(tg);
    });
}
