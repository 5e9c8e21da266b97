//! The arguments of macros that look like calls, `println!("{}", x?)`, or like arms, `race!(n = future => n?)`.

use proc_macro2::{Punct, TokenStream};
use quote::ToTokens;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Pat, Token};

/// Arguments of a macro: expressions and arms, then perhaps something else (the pattern of `matches!`, say).
pub(super) struct Arguments {
    known: Vec<Argument>,
    rest: TokenStream,
}

enum Argument {
    /// `expression`, with a `,` or the `;` of `vec![value; length]`.
    Expression(Expr, Option<Punct>),
    Arm(Box<Arm>),
}

/// `pattern = future => action`. Macros of this form run the action in the function around.
struct Arm {
    pattern: Pat,
    equals: Token![=],
    future: Expr,
    arrow: Token![=>],
    action: Expr,
    comma: Option<Token![,]>,
}

impl Arguments {
    pub(super) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.known
            .iter_mut()
            .flat_map(|argument| match argument {
                Argument::Expression(expression, _) => [Some(expression), None],
                Argument::Arm(arm) => [Some(&mut arm.future), Some(&mut arm.action)],
            })
            .flatten()
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut known = Vec::new();
        while !input.is_empty() {
            // An arm begins like an assignment, so it is tried first.
            let ahead = input.fork();
            if let Ok(arm) = ahead.parse() {
                input.advance_to(&ahead);
                known.push(Argument::Arm(Box::new(arm)));
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

impl Parse for Arm {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self {
            pattern: Pat::parse_multi_with_leading_vert(input)?,
            equals: input.parse()?,
            future: input.parse()?,
            arrow: input.parse()?,
            action: Expr::parse_with_earlier_boundary_rule(input)?,
            comma: input.parse()?,
        })
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
        }
    }
}

impl ToTokens for Arm {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { pattern, equals, future, arrow, action, comma } = self;
        pattern.to_tokens(tokens);
        equals.to_tokens(tokens);
        future.to_tokens(tokens);
        arrow.to_tokens(tokens);
        action.to_tokens(tokens);
        comma.to_tokens(tokens);
    }
}
