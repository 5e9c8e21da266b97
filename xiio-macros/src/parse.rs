//! Reads invocations: `options…, |tg| { body }`, and the function under an attribute.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprBlock, Pat, Signature, Token, Type, Visibility, token};

use crate::args::{MacroKind, Options, here, parse_comma};
use crate::diagnostics::{Diagnostics, Mistake};

/// Reads by `read`, which reports what is wrong by itself and goes on to the end.
pub(crate) fn read_all(tokens: TokenStream, read: impl FnOnce(ParseStream<'_>)) {
    let parser = |input: ParseStream<'_>| {
        read(input);
        Ok(())
    };
    // So there is no error to look at.
    let _: syn::Result<()> = parser.parse2(tokens);
}

/// A call of `task_group!` or `try_task_group!`.
#[derive(Default)]
pub(crate) struct GroupCall {
    pub(crate) options: Options,
    pub(crate) parameter: Parameter,
    pub(crate) body: Body,
}

/// What stands between the bars.
#[derive(Default)]
pub(crate) struct Parameter {
    /// `None` for `_`.
    pub(crate) name: Option<Ident>,
    pub(crate) ty: Option<Type>,
}

/// What stands behind the bars.
#[derive(Default)]
pub(crate) enum Body {
    Parsed(Box<Expr>),
    /// `syn` could not read it. The compiler still may, or else says what is wrong with it.
    Raw(TokenStream),
    #[default]
    Missing,
}

impl GroupCall {
    /// Reads what stands in the parentheses of the macro; `site` is blamed for what is missing.
    pub(crate) fn parse(tokens: TokenStream, of: MacroKind, site: Span, diagnostics: &mut Diagnostics) -> Self {
        let mut call = Self::default();
        read_all(tokens, |input| call.parse_from(input, of, site, diagnostics));
        call
    }

    fn parse_from(&mut self, input: ParseStream<'_>, of: MacroKind, site: Span, diagnostics: &mut Diagnostics) {
        while !input.is_empty() && !is_body_ahead(input) {
            self.options.parse_one(input, of, diagnostics);
            parse_comma(input, diagnostics);
        }
        if input.is_empty() {
            // Behind another mistake it may be there, and was taken for a part of that.
            if diagnostics.is_empty() {
                diagnostics.report(site, &Mistake::BodyMissing { of });
            }
            return;
        }
        reject_closure_keywords(input, diagnostics);
        if let Some(parameter) = Parameter::parse(input, of, diagnostics) {
            self.parameter = parameter;
        }
        reject_return_type(input, diagnostics);
        self.body = Body::parse(input, of, site, diagnostics);
        reject_rest(input, diagnostics);
    }
}

impl Parameter {
    /// Reads `|tg|` or `|tg: Type|`.
    fn parse(input: ParseStream<'_>, of: MacroKind, diagnostics: &mut Diagnostics) -> Option<Self> {
        if let Ok(bars) = input.parse::<Token![||]>() {
            diagnostics.report(bars.span(), &Mistake::GroupUnnamed { of });
            return None;
        }
        let Ok(bar) = input.parse::<Token![|]>() else {
            diagnostics.report(input.span(), &Mistake::GroupUnnamed { of });
            return None;
        };
        let parameter = Self::parse_between_bars(input, of, bar.span(), diagnostics);
        skip_past_bar(input);
        parameter.unwrap_or_else(|error| {
            diagnostics.report_syntax(error);
            None
        })
    }

    fn parse_between_bars(
        input: ParseStream<'_>,
        of: MacroKind,
        bar: Span,
        diagnostics: &mut Diagnostics,
    ) -> syn::Result<Option<Self>> {
        if input.peek(Token![|]) {
            diagnostics.report(bar, &Mistake::GroupUnnamed { of });
            return Ok(None);
        }
        let pattern = Pat::parse_single(input)?;
        let Some(name) = plain_name(&pattern) else {
            diagnostics.report(pattern.span(), &Mistake::GroupPattern);
            return Ok(None);
        };
        let ty = match input.parse::<Option<Token![:]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        let comma: Option<Token![,]> = input.parse()?;
        if comma.is_some() && !input.peek(Token![|]) {
            diagnostics.report(input.span(), &Mistake::GroupNamedTwice { of });
        }
        Ok(Some(Self { name, ty }))
    }
}

impl Body {
    fn parse(input: ParseStream<'_>, of: MacroKind, site: Span, diagnostics: &mut Diagnostics) -> Self {
        if input.is_empty() || input.peek(Token![,]) {
            diagnostics.report(here(input, site), &Mistake::BodyMissing { of });
            return Self::Missing;
        }
        let ahead = input.fork();
        match ahead.parse() {
            Ok(body) => {
                input.advance_to(&ahead);
                Self::Parsed(Box::new(without_async(body, of, diagnostics)))
            }
            Err(error) => {
                diagnostics.report_syntax(error);
                Self::parse_raw(input)
            }
        }
    }

    /// Takes the braces as they are, or else everything.
    fn parse_raw(input: ParseStream<'_>) -> Self {
        let tokens = if input.peek(token::Brace) {
            input.parse::<TokenTree>().map(TokenStream::from)
        } else {
            input.parse::<TokenStream>()
        };
        tokens.map_or(Self::Missing, Self::Raw)
    }
}

/// Makes a block of an `async` block, which would only be a value here.
fn without_async(body: Expr, of: MacroKind, diagnostics: &mut Diagnostics) -> Expr {
    let Expr::Async(body) = body else { return body };
    diagnostics.report(body.async_token.span, &Mistake::BodyIsAsync { of });
    Expr::Block(ExprBlock { attrs: body.attrs, label: None, block: body.block })
}

/// Whether the next tokens are `|tg|`, or a body whose `|tg|` was forgotten.
fn is_body_ahead(input: ParseStream<'_>) -> bool {
    input.peek(Token![|])
        || input.peek(Token![||])
        || input.peek(Token![move])
        || input.peek(Token![async])
        || input.peek(token::Brace)
}

/// Skips `async` and `move` before the bars; a closure would need them.
fn reject_closure_keywords(input: ParseStream<'_>, diagnostics: &mut Diagnostics) {
    loop {
        let (span, keyword) = if let Ok(keyword) = input.parse::<Token![async]>() {
            (keyword.span, "async")
        } else if let Ok(keyword) = input.parse::<Token![move]>() {
            (keyword.span, "move")
        } else {
            return;
        };
        diagnostics.report(span, &Mistake::BodyHasKeyword { keyword });
    }
}

/// Skips `-> Type` behind the bars.
fn reject_return_type(input: ParseStream<'_>, diagnostics: &mut Diagnostics) {
    let Ok(arrow) = input.parse::<Token![->]>() else {
        return;
    };
    diagnostics.report(arrow.span(), &Mistake::BodyHasReturnType);
    let _: syn::Result<Type> = input.parse();
}

/// Allows a trailing comma behind the body, and nothing else.
fn reject_rest(input: ParseStream<'_>, diagnostics: &mut Diagnostics) {
    let _: syn::Result<Token![,]> = input.parse();
    if !input.is_empty() {
        diagnostics.report(input.span(), &Mistake::OptionAfterBody);
        let _: syn::Result<TokenStream> = input.parse();
    }
}

fn skip_past_bar(input: ParseStream<'_>) {
    while !input.is_empty() && input.parse::<Token![|]>().is_err() {
        let _: syn::Result<TokenTree> = input.parse();
    }
}

/// The name, `Some(None)` for `_`, and `None` for any other pattern.
fn plain_name(pattern: &Pat) -> Option<Option<Ident>> {
    match pattern {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.mutability.is_none() && pattern.subpat.is_none() => {
            Some(Some(pattern.ident.clone()))
        }
        Pat::Wild(_) => Some(None),
        _ => None,
    }
}

/// The function under `#[xiio::main]` or `#[xiio::test]`. Its body stays tokens, so that a half
/// typed one still expands.
pub(crate) struct RootFn {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: TokenTree,
}

impl Parse for RootFn {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl RootFn {
    /// Whether it can be expanded: `async`, and callable without arguments.
    pub(crate) fn is_root(&self) -> bool {
        let signature = &self.signature;
        signature.asyncness.is_some() && signature.inputs.is_empty() && signature.generics.params.is_empty()
    }

    /// Reports everything about the function that a root cannot have.
    pub(crate) fn judge(&self, of: MacroKind, diagnostics: &mut Diagnostics) {
        let signature = &self.signature;
        if signature.asyncness.is_none() {
            diagnostics.report(signature.fn_token.span, &Mistake::NotAsync { of });
        }
        if let Some(argument) = signature.inputs.first() {
            diagnostics.report(argument.span(), &Mistake::HasArguments { of });
        }
        if let Some(parameter) = signature.generics.params.first() {
            diagnostics.report(parameter.span(), &Mistake::IsGeneric { of });
        } else if let Some(clause) = &signature.generics.where_clause {
            diagnostics.report(clause.where_token.span, &Mistake::IsGeneric { of });
        }
        if of == MacroKind::Test {
            for attr in self.attrs.iter().filter(|attr| attr.path().is_ident("test")) {
                diagnostics.report(attr.path().span(), &Mistake::TestTwice);
            }
        }
    }
}
