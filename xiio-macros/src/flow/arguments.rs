//! The arguments of macros that look like calls, `println!("{}", x?)`, or like arms, `race!(n = future => n?)`.

use proc_macro2::{Punct, TokenStream};
use quote::ToTokens;
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
}

impl Arguments {
    pub(super) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.known.iter_mut().flat_map(|argument| -> Box<dyn Iterator<Item = &mut Expr>> {
            match argument {
                Argument::Expression(expression, _) => Box::new(std::iter::once(expression)),
                Argument::Arm(arm) => Box::new(arm.expressions_mut()),
                Argument::Otherwise(otherwise) => Box::new(std::iter::once(&mut otherwise.action)),
            }
        })
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut known = Vec::new();
        while !input.is_empty() {
            // An arm begins like an assignment, so it is tried first.
            let ahead = input.fork();
            if let Ok(arm) = parse_arm(&ahead) {
                input.advance_to(&ahead);
                known.push(arm);
                continue;
            }
            let ahead = input.fork();
            let Ok(expression) = parse_expression(&ahead) else { break };
            input.advance_to(&ahead);
            known.push(expression);
        }
        Ok(Self { known, rest: input.parse()? })
    }
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
        }
    }
}
