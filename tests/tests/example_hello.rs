//! `examples/hello/hello.rs`: what the README shows, and what it says when the names do not come.
#![allow(missing_docs)]

use std::io::Write;
use std::process::{Output, Stdio};

use xiio_tests::example::{example, run_with_input};
use xiio_tests::os::nobody_reads;

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn greets_both_at_once_so_the_shorter_name_comes_first() {
    let output = run_with_input(&mut example("hello"), "Grace\nAda\n");
    assert_eq!(stdout(&output), "Hello, Ada!\nHello, Grace!\n");
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
}

#[test]
fn a_last_line_needs_no_end_and_empty_lines_do_not_count() {
    let output = run_with_input(&mut example("hello"), "\n Grace\r\n\n\nAda");
    assert_eq!(stdout(&output), "Hello, Ada!\nHello, Grace!\n");
}

#[test]
fn says_how_many_names_are_missing_when_the_input_ends() {
    let output = run_with_input(&mut example("hello"), "Ada\n");
    assert_eq!(stderr(&output), "hello: expected 2 names on standard input, one a line; got 1\n");
    assert_eq!((stdout(&output), output.status.code()), ("", Some(1)));
}

#[test]
fn says_that_both_names_are_missing_without_input() {
    let output = example("hello").stdin(Stdio::null()).output().unwrap();
    assert_eq!(stderr(&output), "hello: expected 2 names on standard input, one a line; got 0\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn says_so_when_the_time_is_over() {
    // One name is there, the input stays open.
    let (input, mut names) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut names, b"Ada\n").unwrap();
    let output = example("hello").arg("0.1").stdin(input).output().unwrap();
    assert_eq!(stderr(&output), "hello: timed out: expected 2 names on standard input within 100ms\n");
    assert_eq!((stdout(&output), output.status.code()), ("", Some(1)));
}

#[test]
fn endless_input_without_names_is_an_error_and_not_a_full_memory() {
    let output = run_with_input(&mut example("hello"), &"x".repeat(100_000));
    assert_eq!(stderr(&output), "hello: no 2 names in the first 4096 bytes\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_time_limit_that_is_no_number_is_named() {
    let output = run_with_input(example("hello").arg("soon"), "");
    assert_eq!(stderr(&output), "hello: expected a number of seconds, got `soon`\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn nobody_has_to_hear_the_greetings() {
    let mut command = example("hello");
    let mut child = command.stdin(Stdio::piped()).stdout(nobody_reads()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Grace\nAda\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((stderr(&output), output.status.success()), ("", true));
}
