//! Every macro, where xiio has another name and where another crate re-exports it.
//! Clippy finds nothing to say of an expansion either.
#![deny(clippy::shadow_same, clippy::shadow_reuse, clippy::shadow_unrelated)]

/// As a crate that brings its own macros over xiio would have it.
pub mod facade {
    pub use runtime;

    /// A group that says how many members it had.
    #[macro_export]
    macro_rules! counted {
        ($($member:expr),+) => {
            $crate::facade::runtime::task_group!(|tg| {
                let members = [$(tg.spawn($member)),+];
                let mut n_members = 0;
                for member in members {
                    member.await;
                    n_members += 1;
                }
                n_members
            })
        };
    }
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;
    use std::time::Duration;

    async fn parse(text: &str) -> Result<i32, ParseIntError> {
        runtime::try_task_group!(limit = 2, |tg| {
            let number = tg.spawn(async { text.parse() });
            runtime::task_group!(|inner| {
                inner.spawn(async {});
                number.await
            })
        })
    }

    #[runtime::test(crate = runtime, virtual_time)]
    async fn groups_and_combinators() {
        assert_eq!(parse("7").await.ok(), Some(7));
        assert!(parse("seven").await.is_err());
        assert_eq!(runtime::race!(std::future::pending(), async { 1 }), 1);
        assert_eq!(runtime::join!(async { 1 }, async { 2 }), (1, 2));
        runtime::sleep(Duration::from_secs(1)).await;
    }

    #[runtime::test(crate = crate::facade::runtime)]
    async fn through_another_crate() {
        assert_eq!(crate::counted!(async {}, async {}), 2);
    }

    mod program {
        #[runtime::main(crate = runtime, cancel_on(SIGUSR1))]
        pub(super) async fn main() -> Result<(), std::fmt::Error> {
            Ok(())
        }
    }

    #[test]
    fn a_main_with_options() {
        assert!(program::main().is_ok());
    }
}
