//! The arguments of macros that look like calls, `println!("{}", x?)`, or like arms, `race!(n = future => n?)` and `cfg_select!(unix => x?)`;
//! and the expressions in whatever else there is, as in `json!({ "key": x? })` and `matches!(x, Some(n) if n == limit?)`.

use proc_macro2::{Group, Punct, Spacing, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Token};

use crate::arms::{Arm, Otherwise};

/// Arguments of a macro: expressions and arms, then perhaps something else (the pattern of `matches!`, say).
pub(super) struct Arguments {
    known: Vec<Argument>,
    rest: Vec<Piece>,
}

/// A part of what looks neither like an expression nor like an arm as a whole.
enum Piece {
    Expression(Expr),
    Group(Group, Vec<Piece>),
    Token(TokenTree),
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
        Ok(Self { known, rest: pieces_of(input.parse()?) })
    }

    /// The one expression that there is, if there is nothing else.
    pub(super) fn single(&self) -> Option<&Expr> {
        match &*self.known {
            [Argument::Expression(expression, _)] if self.rest.is_empty() => Some(expression),
            _ => None,
        }
    }

    pub(super) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let known = self.known.iter_mut().flat_map(|argument| -> Box<dyn Iterator<Item = &mut Expr>> {
            match argument {
                Argument::Expression(expression, _) => Box::new(std::iter::once(expression)),
                Argument::Arm(arm) => Box::new(arm.expressions_mut()),
                Argument::Otherwise(otherwise) => Box::new(std::iter::once(&mut otherwise.action)),
                Argument::Choice(Choice { left: Left::Expression(left), action, .. }) => {
                    Box::new([left, action].into_iter())
                }
                Argument::Choice(choice) => Box::new(std::iter::once(&mut choice.action)),
            }
        });
        known.chain(self.rest.iter_mut().flat_map(Piece::expressions_mut))
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

impl Piece {
    fn expressions_mut(&mut self) -> Box<dyn Iterator<Item = &mut Expr> + '_> {
        match self {
            Self::Expression(expression) => Box::new(std::iter::once(expression)),
            Self::Group(_, pieces) => Box::new(pieces.iter_mut().flat_map(Self::expressions_mut)),
            Self::Token(_) => Box::new(std::iter::empty()),
        }
    }
}

/// Looks for expressions in values with names, in lists of such, and in guards. What may be anything else stays as it is.
fn pieces_of(tokens: TokenStream) -> Vec<Piece> {
    let parts = parts_of(tokens);
    if parts.iter().any(Part::has_flow_of_its_own) {
        return parts.into_iter().flat_map(Part::into_tokens).map(Piece::Token).collect();
    }
    let mut pieces = Vec::new();
    let mut may_be_type = false;
    for part in parts {
        let is_before_type = matches!(&part.end, Some(End::Name(mark)) if mark.as_char() == ':') && !part.is_literal();
        match part.end {
            None | Some(End::Value(_)) if !may_be_type => add_expressions(part.tokens, &mut pieces),
            _ => pieces.extend(part.tokens.into_iter().map(Piece::Token)),
        }
        may_be_type = is_before_type;
        pieces.extend(part.end.map(|end| Piece::Token(end.into())));
    }
    pieces
}

/// What stands between two separators.
struct Part {
    tokens: Vec<TokenTree>,
    end: Option<End>,
}

enum End {
    /// The `:` behind a name, or the second half of the `=>` behind a pattern.
    Name(Punct),
    Value(Punct),
}

impl From<End> for TokenTree {
    fn from(end: End) -> Self {
        let (End::Name(mark) | End::Value(mark)) = end;
        mark.into()
    }
}

impl Part {
    fn is_literal(&self) -> bool {
        matches!(&*self.tokens, [TokenTree::Literal(_)])
    }

    /// Whether this is, or may be cut out of, a closure, an item or a loop with a label.
    fn has_flow_of_its_own(&self) -> bool {
        let is_sign = |token: &TokenTree| match token {
            TokenTree::Ident(word) => ["fn", "impl", "move", "async"].iter().any(|known| word == known),
            TokenTree::Punct(mark) => matches!(mark.as_char(), '|' | '\'' | '#'),
            TokenTree::Group(_) | TokenTree::Literal(_) => false,
        };
        let is_expression = || !matches!(self.end, Some(End::Name(_))) && parse_expression_of(&self.tokens).is_ok();
        self.tokens.iter().any(is_sign) && guard_of(&self.tokens).is_none() && !is_expression()
    }

    fn into_tokens(self) -> impl Iterator<Item = TokenTree> {
        self.tokens.into_iter().chain(self.end.map(TokenTree::from))
    }
}

fn parts_of(tokens: TokenStream) -> Vec<Part> {
    let (mut parts, mut part, mut before) = (Vec::new(), Vec::new(), None);
    for token in tokens {
        let TokenTree::Punct(mark) = token else {
            part.push(token);
            before = None;
            continue;
        };
        let now = (mark.as_char(), mark.spacing());
        let end = match (before.replace(now), now) {
            (_, (',' | ';', _)) => Ok(End::Value(mark)),
            (Some((':', Spacing::Joint)), _) => Err(mark),
            (_, (':', Spacing::Alone)) | (Some(('=', Spacing::Joint)), ('>', _)) => Ok(End::Name(mark)),
            _ => Err(mark),
        };
        match end {
            Ok(end) => parts.push(Part { tokens: std::mem::take(&mut part), end: Some(end) }),
            Err(mark) => part.push(mark.into()),
        }
    }
    parts.push(Part { tokens: part, end: None });
    parts
}

fn parse_expression_of(tokens: &[TokenTree]) -> syn::Result<Expr> {
    syn::parse2(tokens.iter().cloned().collect())
}

/// Where the guard of a pattern begins, behind its `if`.
fn guard_of(tokens: &[TokenTree]) -> Option<usize> {
    let is_if = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "if");
    let place = tokens.iter().position(is_if)?;
    (place > 0 && parse_expression_of(&tokens[place + 1..]).is_ok()).then_some(place + 1)
}

/// Adds an expression, a pattern with a guard, or a group in which there may be some.
fn add_expressions(tokens: Vec<TokenTree>, pieces: &mut Vec<Piece>) {
    if !tokens.iter().any(may_leave) {
        return pieces.extend(tokens.into_iter().map(Piece::Token));
    }
    if let Ok(expression) = parse_expression_of(&tokens) {
        return pieces.push(Piece::Expression(expression));
    }
    if let [TokenTree::Group(group)] = &*tokens {
        return pieces.push(Piece::Group(group.clone(), pieces_of(group.stream())));
    }
    let (pattern, guard) = tokens.split_at(guard_of(&tokens).unwrap_or(tokens.len()));
    pieces.extend(pattern.iter().cloned().map(Piece::Token));
    pieces.extend(parse_expression_of(guard).map(Piece::Expression));
}

/// Whether there is a word or a mark by which code leaves a block, or a macro that may have one.
fn may_leave(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.stream().into_iter().any(|token| may_leave(&token)),
        TokenTree::Ident(word) => ["return", "break", "continue"].iter().any(|known| word == known),
        TokenTree::Punct(mark) => matches!(mark.as_char(), '?' | '!'),
        TokenTree::Literal(_) => false,
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
        Ok(Self { known, rest: pieces_of(input.parse()?) })
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
        tokens.append_all(&self.rest);
    }
}

impl ToTokens for Piece {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Expression(expression) => expression.to_tokens(tokens),
            Self::Token(token) => token.to_tokens(tokens),
            Self::Group(group, pieces) => {
                let mut inside = TokenStream::new();
                inside.append_all(pieces);
                let mut rewritten = Group::new(group.delimiter(), inside);
                rewritten.set_span(group.span());
                rewritten.to_tokens(tokens);
            }
        }
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
