use xiio::Workers;

fn copied<'env>(workers: Workers<'env>) -> [Workers<'env>; 2] {
    [workers, workers]
}

fn main() {
    let _ = copied;
}
