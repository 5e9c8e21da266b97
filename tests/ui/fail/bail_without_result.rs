//! A macro that returns an error, in a group of a function that returns none.

macro_rules! bail {
    ($error:expr) => {
        return Err($error.into())
    };
}

async fn greet() {
    xiio::task_group!(|tg| {
        tg.spawn(async {});
        bail!("nobody is there");
    });
}

fn main() {
    xiio::run(greet());
}
