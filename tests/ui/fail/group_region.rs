use xiio::TaskGroup;

/// A shorter region would let a task borrow what is gone before the group ends.
fn shortened<'short, 'long: 'short>(tg: &'short TaskGroup<'long>) -> &'short TaskGroup<'short> {
    tg
}

/// A longer one would let the group leave its frame.
fn lengthened<'short, 'long: 'short>(tg: &'short TaskGroup<'short>) -> &'short TaskGroup<'long> {
    tg
}

fn main() {
    let _ = shortened;
    let _ = lengthened;
}
