//! What is wrong with an invocation: every mistake with its text, collected instead of thrown.
//!
//! Whoever finds a mistake reports it at the guilty token and goes on with the rest. So one build
//! shows all mistakes, and the editor still gets an expansion of the right shape.

use std::fmt;

use proc_macro2::{Span, TokenStream};

use crate::args::MacroKind;

/// The mistakes found so far, in the order they were found.
#[derive(Default)]
pub(crate) struct Diagnostics {
    errors: Vec<syn::Error>,
}

impl Diagnostics {
    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Notes a mistake of ours at `span`.
    pub(crate) fn report(&mut self, span: Span, mistake: &Mistake<'_>) {
        self.errors.push(syn::Error::new(span, mistake));
    }

    /// Notes what `syn` could not read.
    pub(crate) fn report_syntax(&mut self, error: syn::Error) {
        self.errors.push(error);
    }

    /// One `compile_error!` for each mistake; nothing if there is none.
    pub(crate) fn into_compile_errors(self) -> TokenStream {
        self.errors.iter().map(syn::Error::to_compile_error).collect()
    }
}

/// A mistake in an invocation. The texts are all in `Display` below.
pub(crate) enum Mistake<'a> {
    UnknownOption { name: &'a str, of: MacroKind },
    OptionOfTryGroup { name: &'a str },
    OptionOfGroup { name: &'a str, of: MacroKind },
    OptionTwice { name: &'a str },
    OptionsExclude { name: &'a str, other: &'a str },
    OptionNeeds { name: &'a str, other: &'a str },
    OptionAfterBody,
    ValueMissing { name: &'a str, example: &'a str },
    ValueOfFlag { name: &'a str },
    ListExpected { name: &'a str },
    CommaExpected,
    NotAnOption { of: MacroKind },
    BodyMissing { of: MacroKind },
    GroupUnnamed { of: MacroKind },
    GroupNamedTwice { of: MacroKind },
    GroupPattern,
    BodyIsAsync { of: MacroKind },
    BodyHasKeyword { keyword: &'a str },
    BodyHasReturnType,
    NotAsync { of: MacroKind },
    HasArguments { of: MacroKind },
    IsGeneric { of: MacroKind },
    TestTwice,
    NothingToRace,
    RacerWithoutArm,
    ArmWithoutPattern,
    ArmWithoutAction,
    ArmWithoutComma,
    ArmWithAttribute,
    ElseNotLast,
    RaceIsBiased,
}

impl fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption { name, of } => {
                write!(f, "unknown option `{name}`; `{of}` knows {}", listed(of.option_names()))
            }
            Self::OptionOfTryGroup { name } => write!(
                f,
                "`{name}` is an option of `try_task_group!`, whose tasks return `Result`; the tasks of \
                 `task_group!` return anything"
            ),
            Self::OptionOfGroup { name, of } => {
                write!(f, "`{name}` is an option of a group, not of `{of}`, which knows {}", listed(of.option_names()))
            }
            Self::OptionTwice { name } => write!(f, "`{name}` is given twice"),
            Self::OptionsExclude { name, other } => {
                write!(f, "`{name}` beside `{other}`: give one of the two")
            }
            Self::OptionNeeds { name, other } => {
                write!(f, "`{name}` needs `{other}` beside it: alone it does nothing")
            }
            Self::OptionAfterBody => {
                write!(f, "nothing follows the body; options stand before `|tg|`")
            }
            Self::ValueMissing { name, example } => {
                write!(f, "`{name}` needs a value: `{name} = {example}`")
            }
            Self::ValueOfFlag { name } => {
                write!(f, "`{name}` is a flag and takes no value: write `{name}`")
            }
            Self::ListExpected { name } => {
                write!(f, "`{name}` needs a list of signals: `{name}(SIGINT, SIGTERM)`")
            }
            Self::CommaExpected => write!(f, "expected `,` behind the value of an option"),
            Self::NotAnOption { of } if of.is_group() => {
                write!(f, "expected an option (`name = value`) or `|tg| {{ … }}` in `{of}`")
            }
            Self::NotAnOption { of } => {
                write!(f, "expected an option (`name = value`) in `{of}`")
            }
            Self::BodyMissing { of } => write!(f, "`{of}` needs a body: `|tg| {{ … }}`"),
            Self::GroupUnnamed { of } => {
                write!(f, "`{of}` needs a name for the group before its body: `|tg| {{ … }}`")
            }
            Self::GroupNamedTwice { of } => {
                write!(f, "`{of}` has one parameter, the group: `|tg| {{ … }}`")
            }
            Self::GroupPattern => write!(f, "the group needs a plain name: `|tg|`"),
            Self::BodyIsAsync { of } => {
                write!(f, "the body of `{of}` may `await` already: write `|tg| {{ … }}`")
            }
            Self::BodyHasKeyword { keyword } => {
                write!(f, "the body is a block of the function around, not a closure: it needs no `{keyword}`")
            }
            Self::BodyHasReturnType => {
                write!(f, "the body is a block of the function around, not a closure: it has no return type")
            }
            Self::NotAsync { of } => write!(f, "`{of}` needs an `async fn`"),
            Self::HasArguments { of } => write!(f, "the function under `{of}` takes no arguments"),
            Self::IsGeneric { of } => write!(f, "the function under `{of}` cannot be generic"),
            Self::NothingToRace => write!(f, "`race!` needs at least one future"),
            Self::RacerWithoutArm => {
                write!(f, "either all futures of `race!` have an arm or none has: write `_ = future => …`")
            }
            Self::ArmWithoutPattern => {
                write!(f, "an arm of `race!` begins with a pattern for the output: write `_ = future => …`")
            }
            Self::ArmWithoutAction => {
                write!(f, "an arm of `race!` says behind the future what is to be done: write `pattern = future => …`")
            }
            Self::ArmWithoutComma => write!(f, "expected `,` behind an arm that does not end in a block"),
            Self::ArmWithAttribute => {
                write!(
                    f,
                    "an arm of `race!` has no attributes: write `pattern = future, if cfg!(…) => …`, or two of `race!`"
                )
            }
            Self::ElseNotLast => write!(f, "`race!` has one `else`, behind all other arms"),
            Self::RaceIsBiased => write!(
                f,
                "`race!` has no mode: of several that end in the same round the first in order wins; take `…;` away"
            ),
            Self::TestTwice => write!(f, "`#[xiio::test]` makes this a test already: remove this attribute"),
        }
    }
}

/// `` `a`, `b` and `c` ``
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let Some(last) = quoted.pop() else {
        return String::from("no options");
    };
    if quoted.is_empty() { last } else { format!("{} and {last}", quoted.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_in_prose() {
        assert_eq!(listed([].into_iter()), "no options");
        assert_eq!(listed(["a"].into_iter()), "`a`");
        assert_eq!(listed(["a", "b", "c"].into_iter()), "`a`, `b` and `c`");
    }
}
