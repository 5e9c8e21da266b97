//! `?` and `return` work in the arms of `cfg_select!`, whatever the condition looks like, and what it takes away leaves no trace. Here and not in
//! `control_flow.rs`, as the oldest compiler for xiio does not have that macro.
#![allow(unexpected_cfgs)]

use xiio::task_group;

async fn taken_away() -> Option<i32> {
    let value = task_group!(|tg| {
        tg.spawn(async {});
        cfg_select! {
            all(any(), unix) => there::is::no::such::function()?,
            all() => { Some(2)? }
            _ => { return "no such type" }
        }
    });
    Some(value)
}

async fn chosen_by_key(first: Option<i32>) -> Option<i32> {
    let value = task_group!(|tg| {
        tg.spawn(async {});
        cfg_select! {
            target_os = "none such" => return "no such type",
            target_pointer_width = "128" => { there::is::no::such::function()? }
            not(feature = "none such") => first?,
            _ => 0,
        }
    });
    Some(value)
}

async fn first_by_key(first: Option<i32>) -> Option<i32> {
    let value = task_group!(|tg| {
        tg.spawn(async {});
        cfg_select! {
            target_os = "linux" => first?,
            _ => 0,
        }
    });
    Some(value)
}

async fn other_by_key(_other: Option<&str>) -> Option<i32> {
    let value = task_group!(|tg| {
        tg.spawn(async {});
        cfg_select! {
            target_os = "linux" => 1,
            _ => _other?,
        }
    });
    Some(value)
}

async fn other_of_feature(other: Option<i32>) -> Option<i32> {
    let value = task_group!(|tg| {
        tg.spawn(async {});
        cfg_select! {
            feature = "none such" => there::is::no::such::function()?,
            _ => match other { Some(number) => number, None => return None },
        }
    });
    Some(value)
}

fn main() {
    assert_eq!(xiio::run(taken_away()), Some(2));
    assert_eq!(xiio::run(chosen_by_key(Some(3))), Some(3));
    assert_eq!(xiio::run(chosen_by_key(None)), None);
    assert_eq!(xiio::run(first_by_key(None)), None);
    assert_eq!(xiio::run(other_by_key(None)), Some(1));
    assert_eq!(xiio::run(other_of_feature(Some(4))), Some(4));
    assert_eq!(xiio::run(other_of_feature(None)), None);
}
