//! A user may have the very names that the expansions use.
#![deny(warnings)]

use xiio::task_group;

#[allow(non_camel_case_types, dead_code)]
enum __Exit0 {
    Value,
    At0,
}

#[xiio::main]
async fn main() {
    let (__tg0, __guard0, __body0, __exit0, __hint0_0, __value) = (1, 2, 3, 4, 5, 6);
    let sum = 'sum: {
        task_group!(|tg| {
            tg.spawn(async {});
            break 'sum __tg0 + __guard0 + __body0 + __exit0 + __hint0_0 + __value;
        });
    };
    assert_eq!(sum, 21);
}
