//! Any token stream makes an error or an expansion of the macros, never a panic, and an expansion can be parsed.
//!
//! The macro crate is a `proc-macro` and exports nothing else, so its files are part of this program.
#![no_main]
#![allow(dead_code)]

#[path = "../../xiio-macros/src/args.rs"]
mod args;
#[path = "../../xiio-macros/src/arms.rs"]
mod arms;
#[path = "../../xiio-macros/src/diagnostics.rs"]
mod diagnostics;
#[path = "../../xiio-macros/src/expand/mod.rs"]
mod expand;
#[path = "../../xiio-macros/src/flow/mod.rs"]
mod flow;
#[path = "../../xiio-macros/src/names.rs"]
mod names;
#[path = "../../xiio-macros/src/parse.rs"]
mod parse;

use libfuzzer_sys::fuzz_target;
use proc_macro2::TokenStream;

use args::MacroKind;
use names::Names;

/// `syn` recurses with the nesting of its input, as the compiler does; longer input finds the end of the stack only.
const MAX_BYTES: usize = 512;

/// What programs that use the macros are made of. Brackets may well not match: then it is no token stream.
const WORDS: &[&str] = &[
    "|tg|",
    "|_|",
    "|tg: &TaskGroup<'_>|",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "?",
    ";",
    ",",
    "=>",
    "=",
    ".",
    "x",
    "f()",
    "5",
    "return",
    "break",
    "continue",
    "'a",
    "'a:",
    "loop",
    "while",
    "for x in",
    "if",
    "else",
    "match",
    "let",
    "async",
    "move",
    "await",
    "fn",
    "pub",
    "impl T",
    "&",
    "mut",
    "#[cfg(unix)]",
    "_",
    "..",
    "&&",
    "name =",
    "timeout =",
    "deadline =",
    "limit =",
    "grace =",
    "error =",
    "all_errors",
    "\"text\"",
    "println!",
    "vec!",
    "race!",
    "matches!",
    "task_group!",
    "xiio::try_task_group!",
    "tg.spawn(async {",
    "})",
    "cancel_on(SIGINT)",
    "virtual_time",
    "seed =",
    "seeds = 0..3",
    "cancel_everywhere",
    "async fn main() {",
    "async fn f() -> R {",
    "where T: U",
    "const X: u8 =",
    "unsafe",
    "yield",
];

fn text(data: &[u8]) -> String {
    match data {
        [0..=63, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => data.iter().map(|&byte| WORDS[usize::from(byte) % WORDS.len()]).collect::<Vec<_>>().join(" "),
    }
}

fn tokens(data: &[u8]) -> Option<TokenStream> {
    text(&data[..data.len().min(MAX_BYTES)]).parse().ok()
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = tokens(data) else { return };
    for kind in [MacroKind::TaskGroup, MacroKind::TryTaskGroup] {
        let expansion = expand::group(kind, input.clone(), Names::outermost(&input));
        syn::parse2::<syn::Expr>(expansion).expect("a group expands to an expression");
    }
    syn::parse2::<syn::Expr>(expand::race(input.clone())).expect("a race expands to an expression");
    let function: TokenStream = "async fn main() { f()? }".parse().expect("a function");
    for kind in [MacroKind::Main, MacroKind::Test] {
        for (arguments, item) in [(input.clone(), function.clone()), (TokenStream::new(), input.clone())] {
            expand::root(kind, arguments, item);
        }
    }
});
