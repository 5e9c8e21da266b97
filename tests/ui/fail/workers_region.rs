use xiio::Workers;

/// A shorter region would let a task borrow what is gone before the group ends.
fn shortened<'short>(workers: Workers<'static>) -> Workers<'short> {
    workers
}

fn main() {
    let _ = shortened;
}
