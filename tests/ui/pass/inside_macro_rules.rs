#![deny(warnings, unsafe_code)]

use xiio::task_group;

/// The label, the name of the group and the operand of `?` all come from outside.
macro_rules! until_none {
    ($label:lifetime, $tg:ident, $next:expr, $work:block) => {
        $label: loop {
            task_group!(|$tg| {
                let number: i32 = $next?;
                if number == 0 {
                    break $label;
                }
                $tg.spawn(async move { assert!(number > 0) });
                $work
            });
        }
    };
}

/// Here they are the macro's own.
macro_rules! sum_of {
    ($($operand:expr),*) => {
        'sum: {
            break 'sum task_group!(|tg| {
                tg.spawn(async {});
                0 $(+ $operand?)*
            });
        }
    };
}

async fn count(mut number: i32) -> Option<i32> {
    until_none!('all, group, { number -= 1; Some(number) }, { group.spawn(async {}); });
    Some(sum_of!(Some(1), Some(number)))
}

fn main() {
    assert_eq!(xiio::run(count(5)), Some(1));
}
