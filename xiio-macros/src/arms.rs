//! Arms, `pattern = future, if condition => action`, as `race!` has them and other macros of this form.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Pat, Token};

/// `pattern = future => action`, or with `, if condition` behind the future. Macros of this form run the action in the
/// function around.
pub(crate) struct Arm {
    pub(crate) pattern: Pat,
    equals: Token![=],
    pub(crate) future: Expr,
    condition: Option<Condition>,
    arrow: Token![=>],
    pub(crate) action: Expr,
    comma: Option<Token![,]>,
}

/// `, if condition`
struct Condition {
    comma: Token![,],
    keyword: Token![if],
    expression: Expr,
}

/// `else => action`
pub(crate) struct Otherwise {
    pub(crate) keyword: Token![else],
    arrow: Token![=>],
    pub(crate) action: Expr,
    comma: Option<Token![,]>,
}

impl Arm {
    pub(crate) fn condition(&self) -> Option<&Expr> {
        self.condition.as_ref().map(|condition| &condition.expression)
    }

    /// Everything that runs in the function around, in the order written.
    pub(crate) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let condition = self.condition.as_mut().map(|condition| &mut condition.expression);
        [Some(&mut self.future), condition, Some(&mut self.action)].into_iter().flatten()
    }

    /// Whether the next arm may follow.
    pub(crate) fn is_delimited(&self) -> bool {
        let is_block = matches!(
            self.action,
            Expr::Block(_)
                | Expr::If(_)
                | Expr::Match(_)
                | Expr::Loop(_)
                | Expr::While(_)
                | Expr::ForLoop(_)
                | Expr::Unsafe(_)
        );
        self.comma.is_some() || is_block
    }
}

impl Parse for Arm {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let (pattern, equals) = (Pat::parse_multi_with_leading_vert(input)?, input.parse()?);
        let future = input.parse()?;
        let condition = if input.peek(Token![,]) && input.peek2(Token![if]) { Some(input.parse()?) } else { None };
        let (arrow, action) = (input.parse()?, Expr::parse_with_earlier_boundary_rule(input)?);
        Ok(Self { pattern, equals, future, condition, arrow, action, comma: input.parse()? })
    }
}

impl Parse for Condition {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self { comma: input.parse()?, keyword: input.parse()?, expression: input.parse()? })
    }
}

impl Parse for Otherwise {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let (keyword, arrow) = (input.parse()?, input.parse()?);
        Ok(Self { keyword, arrow, action: Expr::parse_with_earlier_boundary_rule(input)?, comma: input.parse()? })
    }
}

impl ToTokens for Arm {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { pattern, equals, future, condition, arrow, action, comma } = self;
        pattern.to_tokens(tokens);
        equals.to_tokens(tokens);
        future.to_tokens(tokens);
        if let Some(Condition { comma, keyword, expression }) = condition {
            comma.to_tokens(tokens);
            keyword.to_tokens(tokens);
            expression.to_tokens(tokens);
        }
        arrow.to_tokens(tokens);
        action.to_tokens(tokens);
        comma.to_tokens(tokens);
    }
}

impl ToTokens for Otherwise {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { keyword, arrow, action, comma } = self;
        keyword.to_tokens(tokens);
        arrow.to_tokens(tokens);
        action.to_tokens(tokens);
        comma.to_tokens(tokens);
    }
}
