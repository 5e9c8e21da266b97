use xiio::task_group;

#[xiio::main]
async fn main() {
    let (mut left, mut right) = (1, 2);
    task_group!(|tg| {
        tg.spawn(async { left += 1 });
        tg.spawn(async { right += 1 });
    });
    assert_eq!((left, right), (2, 3));
}
