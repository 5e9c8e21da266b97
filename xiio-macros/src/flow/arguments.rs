//! The arguments of macros that look like calls, `println!("{}", x?)`, or like arms, `race!(n = future => n?)` and `cfg_select!(unix => x?)`.

use proc_macro2::{Punct, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Token};

use crate::arms::{Arm, Otherwise};

/// Arguments of a macro: expressions and arms, then perhaps something else (the pattern of `matches!`, say).
pub(super) struct Arguments {
    known: Vec<Argument>,
    rest: TokenStream,
}

enum Argument {
    /// `expression`, with a `,` or the `;` of `vec![value; length]`.
    Expression(Expr, Option<Punct>),
    Arm(Box<Arm>),
    Otherwise(Otherwise),
    Choice(Choice),
}

/// `choice => action`
struct Choice {
    left: Left,
    arrow: Token![=>],
    action: Expr,
    comma: Option<Token![,]>,
}

/// What chooses.
enum Left {
    Expression(Expr),
    /// A pattern, say.
    Other(TokenStream),
}

impl Arguments {
    /// Those of `cfg_select!`, where `key = "value" => action` is a condition and no future with a pattern.
    pub(super) fn of_cfg_select(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut known = Vec::new();
        while let Some(choice) = parse_ahead(input) {
            known.push(Argument::Choice(choice));
        }
        Ok(Self { known, rest: input.parse()? })
    }

    /// The one expression that there is, if there is nothing else.
    pub(super) fn single(&self) -> Option<&Expr> {
        match &*self.known {
            [Argument::Expression(expression, _)] if self.rest.is_empty() => Some(expression),
            _ => None,
        }
    }

    pub(super) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.known.iter_mut().flat_map(|argument| -> Box<dyn Iterator<Item = &mut Expr>> {
            match argument {
                Argument::Expression(expression, _) => Box::new(std::iter::once(expression)),
                Argument::Arm(arm) => Box::new(arm.expressions_mut()),
                Argument::Otherwise(otherwise) => Box::new(std::iter::once(&mut otherwise.action)),
                Argument::Choice(Choice { left: Left::Expression(left), action, .. }) => {
                    Box::new([left, action].into_iter())
                }
                Argument::Choice(choice) => Box::new(std::iter::once(&mut choice.action)),
            }
        })
    }

    /// The actions, each with the `#[cfg]` that `cfg_select!` keeps it by: its own condition, and none of those before it.
    pub(super) fn selected_mut(&mut self) -> impl Iterator<Item = (TokenStream, &mut Expr)> {
        let mut before = TokenStream::new();
        self.known.iter_mut().filter_map(move |argument| {
            let Argument::Choice(Choice { left, action, .. }) = argument else { return None };
            let condition = match left {
                Left::Expression(Expr::Infer(_)) => quote!(all()),
                Left::Expression(condition) => condition.to_token_stream(),
                Left::Other(condition) => condition.clone(),
            };
            let cfg = quote!(all(#before #condition));
            before.extend(quote!(not(#condition),));
            Some((cfg, action))
        })
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut known = Vec::new();
        while !input.is_empty() {
            // An arm begins like an assignment, so it is tried first.
            let argument = parse_ahead_with(input, parse_arm)
                .or_else(|| parse_ahead_with(input, parse_expression))
                .or_else(|| parse_ahead(input).map(Argument::Choice));
            let Some(argument) = argument else { break };
            known.push(argument);
        }
        Ok(Self { known, rest: input.parse()? })
    }
}

fn parse_ahead<T: Parse>(input: ParseStream<'_>) -> Option<T> {
    parse_ahead_with(input, T::parse)
}

/// What comes next, if it is that; otherwise `input` stays where it is.
fn parse_ahead_with<T>(input: ParseStream<'_>, parse: fn(ParseStream<'_>) -> syn::Result<T>) -> Option<T> {
    let ahead = input.fork();
    let parsed = parse(&ahead).ok()?;
    input.advance_to(&ahead);
    Some(parsed)
}

fn parse_expression(input: ParseStream<'_>) -> syn::Result<Argument> {
    let expression = input.parse()?;
    if input.is_empty() {
        return Ok(Argument::Expression(expression, None));
    }
    if !input.peek(Token![,]) && !input.peek(Token![;]) {
        return Err(input.error("expected `,`"));
    }
    Ok(Argument::Expression(expression, Some(input.parse()?)))
}

fn parse_arm(input: ParseStream<'_>) -> syn::Result<Argument> {
    if input.peek(Token![else]) {
        return input.parse().map(Argument::Otherwise);
    }
    input.parse().map(|arm| Argument::Arm(Box::new(arm)))
}

impl Parse for Choice {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut left = TokenStream::new();
        while !input.peek(Token![=>]) {
            if input.peek(Token![,]) || input.peek(Token![;]) {
                return Err(input.error("expected `=>`"));
            }
            left.extend([input.parse::<TokenTree>()?]);
        }
        let left = syn::parse2(left.clone()).map_or(Left::Other(left), Left::Expression);
        let (arrow, action) = (input.parse()?, Expr::parse_with_earlier_boundary_rule(input)?);
        Ok(Self { left, arrow, action, comma: input.parse()? })
    }
}

impl ToTokens for Arguments {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        for argument in &self.known {
            argument.to_tokens(tokens);
        }
        self.rest.to_tokens(tokens);
    }
}

impl ToTokens for Argument {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Expression(expression, separator) => {
                expression.to_tokens(tokens);
                separator.to_tokens(tokens);
            }
            Self::Arm(arm) => arm.to_tokens(tokens),
            Self::Otherwise(otherwise) => otherwise.to_tokens(tokens),
            Self::Choice(Choice { left, arrow, action, comma }) => {
                match left {
                    Left::Expression(left) => left.to_tokens(tokens),
                    Left::Other(left) => left.to_tokens(tokens),
                }
                arrow.to_tokens(tokens);
                action.to_tokens(tokens);
                comma.to_tokens(tokens);
            }
        }
    }
}
