//! The arguments of macros that look like calls: `println!("{}", x?)`.

use proc_macro2::{Punct, TokenStream};
use quote::ToTokens;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Token};

/// Arguments of a macro: expressions, then perhaps something else (the pattern of `matches!`, say).
pub(super) struct Arguments {
    expressions: Vec<Argument>,
    rest: TokenStream,
}

struct Argument {
    expression: Expr,
    /// `,`, or the `;` of `vec![value; length]`.
    separator: Option<Punct>,
}

impl Arguments {
    pub(super) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.expressions.iter_mut().map(|argument| &mut argument.expression)
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut expressions = Vec::new();
        while !input.is_empty() {
            let ahead = input.fork();
            let Ok(argument) = ahead.parse() else { break };
            input.advance_to(&ahead);
            expressions.push(argument);
        }
        Ok(Self { expressions, rest: input.parse()? })
    }
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let expression = input.parse()?;
        if input.is_empty() {
            return Ok(Self { expression, separator: None });
        }
        if !input.peek(Token![,]) && !input.peek(Token![;]) {
            return Err(input.error("expected `,`"));
        }
        Ok(Self { expression, separator: Some(input.parse()?) })
    }
}

impl ToTokens for Arguments {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        for argument in &self.expressions {
            argument.expression.to_tokens(tokens);
            argument.separator.to_tokens(tokens);
        }
        self.rest.to_tokens(tokens);
    }
}
