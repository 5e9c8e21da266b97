//! Options: `name = value`, flags and lists, each kept with its span until it is judged.

use std::fmt;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{BinOp, Expr, ExprBinary, Ident, Path, Token, Type, parenthesized, token};

use crate::diagnostics::{Diagnostics, Mistake};
use crate::names::hygienic;

/// Which of the four macros is being expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MacroKind {
    TaskGroup,
    TryTaskGroup,
    Main,
    Test,
}

impl MacroKind {
    const GROUPS: &[Self] = &[Self::TaskGroup, Self::TryTaskGroup];
    const TRY_GROUP: &[Self] = &[Self::TryTaskGroup];
    const MAIN: &[Self] = &[Self::Main];
    const TEST: &[Self] = &[Self::Test];
    const ROOTS: &[Self] = &[Self::Main, Self::Test];
    const ALL: &[Self] = &[Self::TaskGroup, Self::TryTaskGroup, Self::Main, Self::Test];

    /// The group macro of this name, if there is one.
    pub(crate) fn of_group(name: &Ident) -> Option<Self> {
        match &*name.to_string() {
            "task_group" => Some(Self::TaskGroup),
            "try_task_group" => Some(Self::TryTaskGroup),
            _ => None,
        }
    }

    /// Whether this is a group, with a body of its own, and not an attribute.
    pub(crate) fn is_group(self) -> bool {
        Self::GROUPS.contains(&self)
    }

    /// The names of the options that this macro knows.
    pub(crate) fn option_names(self) -> impl Iterator<Item = &'static str> {
        KNOWN.iter().filter(move |known| known.of.contains(&self)).map(|known| known.name)
    }
}

impl fmt::Display for MacroKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TaskGroup => "task_group!",
            Self::TryTaskGroup => "try_task_group!",
            Self::Main => "#[xiio::main]",
            Self::Test => "#[xiio::test]",
        })
    }
}

/// An option there is, and who knows it.
struct Known {
    name: &'static str,
    shape: Shape,
    of: &'static [MacroKind],
}

const fn known(name: &'static str, shape: Shape, of: &'static [MacroKind]) -> Known {
    Known { name, shape, of }
}

/// How an option is written.
#[derive(Clone, Copy)]
enum Shape {
    /// `name = expression`, with an example of the expression for the error text.
    Value(&'static str),
    /// `name = Type`
    Type,
    /// `name = path`
    Path,
    /// `name`
    Flag,
    /// `name(expression, …)`
    List,
}

const KNOWN: &[Known] = &[
    known("name", Shape::Value("\"…\""), MacroKind::ALL),
    known("timeout", Shape::Value("Duration"), MacroKind::ALL),
    known("deadline", Shape::Value("Instant"), MacroKind::ALL),
    known("limit", Shape::Value("usize"), MacroKind::GROUPS),
    known("grace", Shape::Value("Duration"), MacroKind::ALL),
    known("workers", Shape::Value("usize"), MacroKind::GROUPS),
    known("error", Shape::Type, MacroKind::TRY_GROUP),
    known("all_errors", Shape::Flag, MacroKind::TRY_GROUP),
    known("crate", Shape::Path, MacroKind::ROOTS),
    known("tokio", Shape::Flag, MacroKind::ROOTS),
    known("slow_poll", Shape::Value("Duration"), MacroKind::ROOTS),
    known("slow_cleanup", Shape::Value("Duration"), MacroKind::ROOTS),
    known("vain_polls", Shape::Value("usize"), MacroKind::ROOTS),
    known("many_tasks", Shape::Value("usize"), MacroKind::ROOTS),
    known("cancel_on", Shape::List, MacroKind::MAIN),
    known("impatience", Shape::Value("Duration"), MacroKind::MAIN),
    known("impatient_on", Shape::List, MacroKind::MAIN),
    known("inspect", Shape::Flag, MacroKind::MAIN),
    known("tree_on", Shape::List, MacroKind::MAIN),
    known("virtual_time", Shape::Flag, MacroKind::TEST),
    known("loopback", Shape::Flag, MacroKind::TEST),
    known("patience", Shape::Value("Duration"), MacroKind::TEST),
    known("seed", Shape::Value("u64"), MacroKind::TEST),
    known("seeds", Shape::Value("0..100"), MacroKind::TEST),
    known("cancel_everywhere", Shape::Flag, MacroKind::TEST),
];

/// Options of which one makes the other meaningless.
const EXCLUSIVE: &[(&str, &str)] = &[("timeout", "deadline"), ("seed", "seeds")];

/// Options that do nothing without another one.
const NEEDS: &[(&str, &str)] = &[("impatience", "cancel_on"), ("impatient_on", "cancel_on")];

/// The signals that lists know by their bare name.
const SIGNALS: &[&str] = &["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"];

/// The options of one invocation, in written order. Invariant: all known, none twice, none
/// excluded by another.
#[derive(Default)]
pub(crate) struct Options {
    given: Vec<Given>,
    /// All names that were written, also those of options with a mistake in them.
    names: Vec<Ident>,
}

/// One option as it was written.
struct Given {
    name: Ident,
    value: Value,
}

enum Value {
    Expr(Expr),
    Type(Type),
    Path(Path),
    Flag,
    List(Punctuated<Expr, Token![,]>),
}

impl Options {
    /// Reads the arguments of an attribute, which are options and nothing else.
    pub(crate) fn parse_all(input: ParseStream<'_>, of: MacroKind, diagnostics: &mut Diagnostics) -> Self {
        let mut options = Self::default();
        while !input.is_empty() {
            options.parse_one(input, of, diagnostics);
            parse_comma(input, diagnostics);
        }
        options.judge_needs(diagnostics);
        options
    }

    /// Reports options without those that they need. One that was written with a mistake in it is there.
    fn judge_needs(&self, diagnostics: &mut Diagnostics) {
        for option in &self.given {
            let need = NEEDS
                .iter()
                .find(|&&(name, other)| option.name == name && !self.names.iter().any(|there| there == other));
            if let Some((name, other)) = need {
                diagnostics.report(option.name.span(), &Mistake::OptionNeeds { name, other });
            }
        }
    }

    /// Reads one option; what it does not understand it reports and skips up to the next comma.
    pub(crate) fn parse_one(&mut self, input: ParseStream<'_>, of: MacroKind, diagnostics: &mut Diagnostics) {
        let Ok(name) = input.call(Ident::parse_any) else {
            diagnostics.report(input.span(), &Mistake::NotAnOption { of });
            return skip_to_comma(input);
        };
        self.names.push(name.clone());
        let Some(shape) = known_shape(&name, of, diagnostics) else {
            return skip_value(input);
        };
        match Value::parse(input, &name, shape, diagnostics) {
            Ok(Some(Value::Expr(Expr::Binary(value)))) if is_value_with_body(&value, input.is_empty()) => {
                diagnostics.report(value.left.span(), &Mistake::CommaExpected);
            }
            Ok(Some(value)) => self.admit(Given { name, value }, diagnostics),
            Ok(None) => skip_value(input),
            Err(error) => {
                diagnostics.report_syntax(error);
                skip_to_comma(input);
            }
        }
    }

    /// Takes the option unless one before it forbids that.
    fn admit(&mut self, option: Given, diagnostics: &mut Diagnostics) {
        let name = &*option.name.to_string();
        let span = option.name.span();
        if self.has(name) {
            return diagnostics.report(span, &Mistake::OptionTwice { name });
        }
        if let Some(other) = excluded_by(name).find(|other| self.has(other)) {
            return diagnostics.report(span, &Mistake::OptionsExclude { name, other });
        }
        self.given.push(option);
    }

    /// Whether the option `name` was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|option| option.name == name)
    }

    /// Whether the expression may end by its own clock.
    pub(crate) fn is_timed(&self) -> bool {
        self.has("timeout") || self.has("deadline")
    }

    /// The type after `error =`.
    pub(crate) fn error_type(&self) -> Option<&Type> {
        self.given.iter().find_map(|option| match &option.value {
            Value::Type(ty) => Some(ty),
            _ => None,
        })
    }

    /// The path after `crate =`.
    pub(crate) fn crate_path(&self) -> Option<&Path> {
        self.given.iter().find_map(|option| match &option.value {
            Value::Path(path) => Some(path),
            _ => None,
        })
    }

    /// The builder's calls, in written order: `.timeout(…).name(…)`.
    ///
    /// What chooses between functions (`error`, `all_errors`) is no call.
    pub(crate) fn to_builder_calls(&self) -> TokenStream {
        self.given.iter().map(Given::to_builder_call).collect()
    }
}

impl Given {
    fn to_builder_call(&self) -> TokenStream {
        let Self { name, value } = self;
        let site = hygienic(name.span());
        match value {
            Value::Expr(value) => quote_spanned!(site=> .#name(#value)),
            Value::List(signals) => {
                let signals = signals.iter().map(resolve_signal);
                quote_spanned!(site=> .#name(&[#(#signals),*]))
            }
            Value::Flag if name != "all_errors" && name != "tokio" => quote_spanned!(site=> .#name()),
            Value::Flag | Value::Type(_) | Value::Path(_) => TokenStream::new(),
        }
    }
}

impl Value {
    /// Reads what follows the name. `None`: a mistake that has been reported.
    fn parse(
        input: ParseStream<'_>,
        name: &Ident,
        shape: Shape,
        diagnostics: &mut Diagnostics,
    ) -> syn::Result<Option<Self>> {
        let text = &*name.to_string();
        let assigned = input.peek(Token![=]) && !input.peek(Token![==]);
        let mut mistaken = |mistake| {
            diagnostics.report(name.span(), &mistake);
            Ok(None)
        };
        match shape {
            Shape::Value(_) | Shape::Type | Shape::Path if assigned => {
                input.parse::<Token![=]>()?;
                Ok(Some(match shape {
                    Shape::Type => Self::Type(input.parse()?),
                    Shape::Path => Self::Path(input.call(Path::parse_mod_style)?),
                    _ => Self::Expr(input.parse()?),
                }))
            }
            Shape::Value(example) => mistaken(Mistake::ValueMissing { name: text, example }),
            Shape::Type => mistaken(Mistake::ValueMissing { name: text, example: "Type" }),
            Shape::Path => mistaken(Mistake::ValueMissing { name: text, example: "path::to::xiio" }),
            Shape::Flag if input.is_empty() || input.peek(Token![,]) => Ok(Some(Self::Flag)),
            Shape::Flag => mistaken(Mistake::ValueOfFlag { name: text }),
            Shape::List if input.peek(token::Paren) => {
                let list;
                parenthesized!(list in input);
                Ok(Some(Self::List(list.parse_terminated(Expr::parse, Token![,])?)))
            }
            Shape::List => mistaken(Mistake::ListExpected { name: text }),
        }
    }
}

/// Whether `3 |tg| { … }` was read as an expression, for want of a comma. Any expression may be a body; nothing follows it.
fn is_value_with_body(value: &ExprBinary, is_last: bool) -> bool {
    let is_block = matches!(*value.right, Expr::Block(_));
    match value.op {
        BinOp::BitOr(_) => is_block || (is_last && ends_in_name(&value.left)),
        BinOp::Or(_) => is_last && is_block,
        _ => false,
    }
}

/// Whether it is `3 | tg`.
fn ends_in_name(value: &Expr) -> bool {
    matches!(value, Expr::Binary(ExprBinary { op: BinOp::BitOr(_), right, .. }) if matches!(**right, Expr::Path(_) | Expr::Infer(_)))
}

/// Eats the comma after an option or says that it is missing.
pub(crate) fn parse_comma(input: ParseStream<'_>, diagnostics: &mut Diagnostics) {
    if input.is_empty() || input.parse::<Token![,]>().is_ok() {
        return;
    }
    diagnostics.report(input.span(), &Mistake::CommaExpected);
    if !input.peek(Ident::peek_any) {
        skip_to_comma(input);
        let _: syn::Result<Token![,]> = input.parse();
    }
}

/// How the option is written, if this macro has it; else says who has.
fn known_shape(name: &Ident, of: MacroKind, diagnostics: &mut Diagnostics) -> Option<Shape> {
    let text = &*name.to_string();
    let known = KNOWN.iter().find(|known| known.name == text);
    let mistake = match known {
        Some(known) if known.of.contains(&of) => return Some(known.shape),
        Some(known) if known.of == MacroKind::TRY_GROUP && of == MacroKind::TaskGroup => {
            Mistake::OptionOfTryGroup { name: text }
        }
        Some(known) if known.of.contains(&MacroKind::TryTaskGroup) => Mistake::OptionOfGroup { name: text, of },
        _ => Mistake::UnknownOption { name: text, of },
    };
    diagnostics.report(name.span(), &mistake);
    None
}

/// The options that cannot stand beside `name`.
fn excluded_by(name: &str) -> impl Iterator<Item = &'static str> {
    EXCLUSIVE.iter().filter_map(move |&(one, other)| {
        if name == one {
            Some(other)
        } else if name == other {
            Some(one)
        } else {
            None
        }
    })
}

/// `SIGINT` alone means xiio's constant; any other expression means itself.
fn resolve_signal(signal: &Expr) -> TokenStream {
    match signal {
        Expr::Path(path) if SIGNALS.iter().any(|name| path.path.is_ident(name)) => {
            let site = hygienic(signal.span());
            quote_spanned!(site=> __xiio::signal::#path)
        }
        _ => quote!(#signal),
    }
}

/// Skips `= expression` or `(…)`; an expression is read as one, since it may contain commas.
fn skip_value(input: ParseStream<'_>) {
    let ahead = input.fork();
    if ahead.parse::<Token![=]>().is_ok() && ahead.parse::<Expr>().is_ok() {
        let _: syn::Result<Token![=]> = input.parse();
        let _: syn::Result<Expr> = input.parse();
    }
    skip_to_comma(input);
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        let _: syn::Result<TokenTree> = input.parse();
    }
}

/// A point to blame when there is no token left.
pub(crate) fn here(input: ParseStream<'_>, otherwise: Span) -> Span {
    if input.is_empty() { otherwise } else { input.span() }
}
