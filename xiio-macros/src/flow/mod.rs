//! Control flow: makes `?`, `return`, `break` and `continue` work across the edge of the `async`
//! block that a body becomes.
//!
//! Each place where the body leaves is numbered and gets a variant of an enum, private to the
//! expansion. In the body the place becomes a `return` of its variant, out of the `async` block;
//! behind the group the variant is replayed as what the user wrote, with the user's tokens:
//!
//! ```text
//! return Err(e)    in the body    return Leave::Finish(__Exit0::At3(__hint0_0.through(Err(e))))
//!                  behind         __Exit0::At3(value) => return value
//! ```
//!
//! What has an inside of its own keeps its words: closures, `async` blocks, items, loops and
//! labels of the body itself. A group inside the body is expanded first; its replayed words are
//! then ordinary words of the body.

mod arguments;
mod ending;
mod exits;

use std::mem;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Arm, Attribute, Block, Expr, ExprArray, ExprBlock, ExprBreak, ExprCall, ExprContinue, ExprMethodCall, ExprParen,
    ExprReturn, ExprTry, ExprTuple, FieldValue, Item, Label, Lifetime, Macro, Meta, Stmt, Token, token,
};

use crate::args::MacroKind;
use crate::names::{Names, hygienic};

use self::arguments::Arguments;
pub(crate) use self::ending::never_ends;
use self::exits::Destination;
pub(crate) use self::exits::{Exit, Exits, Word};

/// Expands a group in the body: which macro, its tokens, its names.
pub(crate) type ExpandNested = fn(MacroKind, TokenStream, Names) -> TokenStream;

/// Macros whose arguments are tokens to them, whatever they look like; and those that put them into a closure or generator, which has
/// control flow of its own.
const TOKEN_MACROS: &[&str] = &[
    "stringify",
    "quote",
    "quote_spanned",
    "parse_quote",
    "stream",
    "try_stream",
    "defer",
    "defer_on_success",
    "defer_on_unwind",
];

/// Macros of which is known that they put their arguments into no loop, and do not wait. In those of another one a `break` or `continue` without
/// a label may be meant for a loop of the macro: the words are not hygienic, as labels are. So it stays there, and where there is no such loop
/// the compiler refuses it.
const LOOPLESS_MACROS: &[&str] = &[
    // Of `std`.
    "addr_of",
    "addr_of_mut",
    "assert",
    "assert_eq",
    "assert_matches",
    "assert_ne",
    "cfg_select",
    "dbg",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_matches",
    "debug_assert_ne",
    "eprint",
    "eprintln",
    "format",
    "format_args",
    "matches",
    "panic",
    "pin",
    "print",
    "println",
    "ready",
    "todo",
    "unimplemented",
    "unreachable",
    "vec",
    "write",
    "writeln",
    // Of other crates, which log, say, or make errors.
    "anyhow",
    "bail",
    "debug",
    "ensure",
    "error",
    "event",
    "eyre",
    "info",
    "log",
    "pin_mut",
    "span",
    "trace",
    "warn",
];

/// And macros of which is known that they wait, but have no loop either.
const WAITING_MACROS: &[&str] = &["join", "race", "select", "select_biased", "try_join"];

/// Macros that show their argument where they have no other one.
const ASSERTIONS: &[&str] = &["assert", "debug_assert"];

/// Macros that are made of a `return Err(…)`, as those of `anyhow` are, and whether they always return.
const BAILING_MACROS: &[(&str, bool)] = &[("bail", true), ("ensure", false)];

/// Rewrites `body` in place and tells the ways out of it.
pub(crate) fn rewrite(body: &mut Expr, of: MacroKind, names: Names, expand_nested: ExpandNested) -> Exits {
    let mut rewriter = Rewriter {
        of,
        names,
        expand_nested,
        exits: Exits::default(),
        labels: Vec::new(),
        cfgs: Vec::new(),
        n_loops: 0,
        n_try_blocks: 0,
    };
    rewriter.visit_expr_mut(body);
    rewriter.exits
}

/// Walks a body. Invariant: it is never inside a closure, an `async` block or an item.
struct Rewriter {
    of: MacroKind,
    names: Names,
    expand_nested: ExpandNested,
    exits: Exits,
    /// The labels declared in the body around the current place.
    labels: Vec<Lifetime>,
    /// What the `#[cfg]`s around the current place ask for.
    cfgs: Vec<TokenStream>,
    /// How many loops of the body are around the current place, with those that a macro may have.
    n_loops: usize,
    /// How many `try` blocks are; their `?` is their own.
    n_try_blocks: usize,
}

impl VisitMut for Rewriter {
    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Closure(_) | Expr::Async(_) | Expr::Const(_) => {}
            Expr::Loop(inner) => self.in_loop(inner.label.as_ref(), |this| {
                this.visit_block_mut(&mut inner.body);
            }),
            Expr::While(inner) => self.in_loop(inner.label.as_ref(), |this| {
                this.visit_expr_mut(&mut inner.cond);
                this.visit_block_mut(&mut inner.body);
            }),
            Expr::ForLoop(inner) => {
                self.visit_expr_mut(&mut inner.expr);
                self.in_loop(inner.label.as_ref(), |this| {
                    this.visit_block_mut(&mut inner.body);
                });
            }
            Expr::Block(inner) => self.in_labelled(inner.label.as_ref(), |this| {
                this.visit_block_mut(&mut inner.block);
            }),
            Expr::TryBlock(inner) => self.in_try_block(&mut inner.block),
            _ => {
                visit_mut::visit_expr_mut(self, expr);
                self.rewrite_expr(expr);
            }
        }
    }

    fn visit_stmt_mut(&mut self, stmt: &mut Stmt) {
        self.under_cfgs_of(cfgs_before(stmt), |this| match stmt {
            Stmt::Macro(inner) => {
                if let Some(mut block) = this.rewrite_macro(&mut inner.mac) {
                    block.attrs = mem::take(&mut inner.attrs);
                    *stmt = Stmt::Expr(Expr::Block(block), inner.semi_token);
                }
            }
            _ => visit_mut::visit_stmt_mut(this, stmt),
        });
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        self.under_cfgs_of(cfgs_of(&arm.attrs), |this| visit_mut::visit_arm_mut(this, arm));
    }

    fn visit_field_value_mut(&mut self, field: &mut FieldValue) {
        self.under_cfgs_of(cfgs_of(&field.attrs), |this| visit_mut::visit_field_value_mut(this, field));
    }

    fn visit_expr_array_mut(&mut self, array: &mut ExprArray) {
        self.visit_elements(&mut array.elems);
    }

    fn visit_expr_tuple_mut(&mut self, tuple: &mut ExprTuple) {
        self.visit_elements(&mut tuple.elems);
    }

    fn visit_expr_call_mut(&mut self, call: &mut ExprCall) {
        self.visit_expr_mut(&mut call.func);
        self.visit_elements(&mut call.args);
    }

    fn visit_expr_method_call_mut(&mut self, call: &mut ExprMethodCall) {
        self.visit_expr_mut(&mut call.receiver);
        self.visit_elements(&mut call.args);
    }

    fn visit_item_mut(&mut self, _: &mut Item) {}

    fn visit_macro_mut(&mut self, _: &mut Macro) {
        // Only macros that stand for expressions and statements have arguments to rewrite; the
        // methods above look at them.
    }

    fn visit_type_mut(&mut self, _: &mut syn::Type) {
        // `[T; { … }]` holds a constant, with control flow of its own.
    }
}

impl Rewriter {
    fn in_loop(&mut self, label: Option<&Label>, visit: impl FnOnce(&mut Self)) {
        self.n_loops += 1;
        self.in_labelled(label, visit);
        self.n_loops -= 1;
    }

    fn in_labelled(&mut self, label: Option<&Label>, visit: impl FnOnce(&mut Self)) {
        let n_outside = self.labels.len();
        self.labels.extend(label.map(|label| label.name.clone()));
        visit(self);
        self.labels.truncate(n_outside);
    }

    fn under_cfgs_of(&mut self, cfgs: Vec<TokenStream>, visit: impl FnOnce(&mut Self)) {
        let n_outside = self.cfgs.len();
        self.cfgs.extend(cfgs);
        visit(self);
        self.cfgs.truncate(n_outside);
    }

    fn visit_elements(&mut self, elements: &mut Punctuated<Expr, Token![,]>) {
        elements.iter_mut().for_each(|element| self.visit_element(element));
    }

    fn visit_element(&mut self, element: &mut Expr) {
        self.under_cfgs_of(cfgs_before(element), |this| this.visit_expr_mut(element));
    }

    fn in_try_block(&mut self, block: &mut Block) {
        self.n_try_blocks += 1;
        self.visit_block_mut(block);
        self.n_try_blocks -= 1;
    }

    /// Rewrites `expr` itself; what is inside it has been rewritten.
    fn rewrite_expr(&mut self, expr: &mut Expr) {
        let rewritten = match expr {
            Expr::Try(inner) if self.is_question_ours() => self.rewrite_question(inner),
            Expr::Return(inner) => self.rewrite_return(inner),
            Expr::Break(inner) if self.leaves_body(inner.label.as_ref()) => self.rewrite_break(inner),
            Expr::Continue(inner) if self.leaves_body(inner.label.as_ref()) => self.rewrite_continue(inner),
            Expr::Macro(inner) => match self.rewrite_macro(&mut inner.mac) {
                Some(block) => {
                    let site = hygienic(block.span());
                    // Outside of the parentheses: what is configured away goes with them.
                    parenthesized(mem::take(&mut inner.attrs), site, Expr::Block(block))
                }
                None => return,
            },
            _ => return,
        };
        *expr = rewritten;
    }

    /// In a try group `?` already means the group: its body is an `async` block of `Result`.
    fn is_question_ours(&self) -> bool {
        self.of == MacroKind::TaskGroup && self.n_try_blocks == 0
    }

    fn leaves_body(&self, label: Option<&Lifetime>) -> bool {
        match label {
            Some(label) => !self.labels.contains(label),
            None => self.n_loops == 0,
        }
    }

    /// Input: `operand?`
    ///
    /// Output:
    /// ```text
    /// (match branch(operand) {
    ///     Continue(value) => value,
    ///     Break(residual) => return Leave::Fail(__Exit0::At0(residual)),
    /// })
    /// ```
    fn rewrite_question(&mut self, question: &mut ExprTry) -> Expr {
        let attrs = mem::take(&mut question.attrs);
        let operand = &question.expr;
        let token = question.question_token;
        let site = hygienic(token.span);
        let exit = self.add_exit(Word::Question(token), site, true);
        let failed = fail(site, &quote_spanned!(site=> #exit(__residual)));
        let residual_leaves = quote_spanned! {site=>
            match __xiio_private::branch(#operand) {
                ::core::ops::ControlFlow::Continue(__value) => __value,
                ::core::ops::ControlFlow::Break(__residual) => { return #failed }
            }
        };
        parenthesized(attrs, site, Expr::Verbatim(residual_leaves))
    }

    /// Input: `return value`
    ///
    /// Output: `return Leave::Finish(__Exit0::At0(__hint0_0.through(value)))`
    ///
    /// A `return` that a `?` has become in a group around this one, whose words came here through a macro, is one that fails here, too.
    fn rewrite_return(&mut self, leaving: &mut ExprReturn) -> Expr {
        let attrs = mem::take(&mut leaving.attrs);
        let site = hygienic(leaving.return_token.span);
        let value = match &leaving.expr {
            Some(value) => value.to_token_stream(),
            None => quote_spanned!(site=> ()),
        };
        let exit = self.exit_to(Word::Return, site, Some(&value));
        let fails = self.of == MacroKind::TaskGroup && leaving.expr.as_deref().is_some_and(is_failure);
        let left = if fails { fail(site, &exit) } else { finish(self.of, site, &exit) };
        returning(attrs, site, left)
    }

    /// Input: `break 'label value` or `break 'label`
    ///
    /// Output: `return Leave::Finish(__Exit0::At0(__hint0_0.through(value)))`, or without payload
    fn rewrite_break(&mut self, leaving: &mut ExprBreak) -> Expr {
        let attrs = mem::take(&mut leaving.attrs);
        let site = hygienic(leaving.break_token.span);
        let value = leaving.expr.as_ref().map(ToTokens::to_token_stream);
        self.leave(attrs, Word::Break(leaving.label.take()), site, value.as_ref())
    }

    /// Input: `continue 'label`
    ///
    /// Output: `return Leave::Finish(__Exit0::At0)`
    fn rewrite_continue(&mut self, leaving: &mut ExprContinue) -> Expr {
        let attrs = mem::take(&mut leaving.attrs);
        let site = hygienic(leaving.continue_token.span);
        self.leave(attrs, Word::Continue(leaving.label.take()), site, None)
    }

    /// Leaves the body in peace: the group waits for its tasks.
    fn leave(&mut self, attrs: Vec<Attribute>, word: Word, site: Span, value: Option<&TokenStream>) -> Expr {
        let exit = self.exit_to(word, site, value);
        returning(attrs, site, finish(self.of, site, &exit))
    }

    /// A new exit, with what it takes along.
    fn exit_to(&mut self, word: Word, site: Span, value: Option<&TokenStream>) -> TokenStream {
        let payload = value.map(|value| {
            let hint = self.hint_of(&word);
            quote_spanned!(site=> (#hint.through(#value)))
        });
        let exit = self.add_exit(word, site, value.is_some());
        quote_spanned!(site=> #exit #payload)
    }

    /// Numbers a place; returns the path of its variant.
    fn add_exit(&mut self, word: Word, span: Span, has_value: bool) -> TokenStream {
        let exit_enum = self.names.exit_enum();
        let variant = format_ident!("At{}", self.exits.places.len(), span = span);
        let path = quote_spanned!(span=> #exit_enum::#variant);
        let cfgs = self.cfgs.clone();
        self.exits.places.push(Exit { variant, word, span, has_value, cfgs });
        path
    }

    fn hint_of(&mut self, to: &Word) -> Ident {
        let destinations = &mut self.exits.destinations;
        let known = destinations.iter().position(|known| known.word.is_same(to));
        let index = known.unwrap_or_else(|| {
            destinations.push(Destination { word: to.clone(), cfgs: Vec::new() });
            destinations.len() - 1
        });
        destinations[index].cfgs.push(self.cfgs.clone());
        self.names.hint(index)
    }

    /// A group becomes its expansion, a `bail!` a way out; any other macro keeps its name. A block, as one in braces is a statement
    /// that needs no `;`.
    fn rewrite_macro(&mut self, call: &mut Macro) -> Option<ExprBlock> {
        let rewritten = self.expand_group(call).or_else(|| self.rewrite_bailing(call));
        if rewritten.is_none() {
            self.rewrite_arguments(call);
        }
        rewritten
    }

    /// Input: `bail!(…)`, whose `return` is out of sight. In a try group it means the group already.
    ///
    /// Output, with the `?` rewritten:
    /// ```text
    /// { match (call(|| { if false { return stayed(&__hint0_0); } bail!(…); stayed(&__hint0_0) })?) { () => unreachable!() } }
    /// ```
    ///
    /// The hint is that of the return type of the function, whose error the macro makes. A `return` in front tells that type early, so that the
    /// error is coerced to it. An `async` block and no closure where an argument may wait.
    fn rewrite_bailing(&mut self, call: &Macro) -> Option<ExprBlock> {
        let name = &call.path.segments.last()?.ident;
        let (_, always_returns) = BAILING_MACROS.iter().find(|(bailing, _)| name == bailing)?;
        if self.of != MacroKind::TaskGroup {
            return None;
        }
        let site = hygienic(name.span());
        let stayed = if self.names.is_in_try_group() {
            quote_spanned!(site=> ::core::result::Result::Ok(()))
        } else {
            let hint = self.hint_of(&Word::Return);
            quote_spanned!(site=> __xiio_private::stayed(&#hint))
        };
        let body = quote_spanned! {site=> {
            if false {
                return #stayed;
            }
            #call;
            #[allow(unreachable_code)]
            let __stayed = #stayed;
            __stayed
        }};
        let result = if may_wait(call.tokens.clone()) {
            quote_spanned!(site=> async #body.await)
        } else {
            quote_spanned!(site=> __xiio_private::call(|| #body))
        };
        let mut question = ExprTry {
            attrs: Vec::new(),
            expr: Box::new(Expr::Verbatim(result)),
            question_token: Token![?](name.span()),
        };
        let left = self.rewrite_question(&mut question);
        if *always_returns {
            // Parsed, so that its end is seen.
            syn::parse2(quote_spanned!(site=> { match #left { () => ::core::unreachable!() } })).ok()
        } else {
            Some(braced(site, quote_spanned!(site=> match #left { () => {} })))
        }
    }

    /// The expansion of a group macro, with the exits of its own body replayed as exits of ours.
    fn expand_group(&mut self, call: &Macro) -> Option<ExprBlock> {
        let name = &call.path.segments.last()?.ident;
        let of = MacroKind::of_group(name)?;
        let names = self.names.nested_at(name.span(), self.of == MacroKind::TryTaskGroup);
        let (macro_path, expansion) = (&call.path, (self.expand_nested)(of, call.tokens.clone(), names));
        // Nobody else names the macro, and the compiler would call its import unused.
        let expansion = quote_spanned!(names.site()=> {
            #[allow(unused_imports)]
            use #macro_path as _;
            #expansion
        });
        let Ok(mut group) = syn::parse2::<ExprBlock>(expansion.clone()) else {
            // There is something in it that `syn` cannot read.
            return Some(braced(names.site(), expansion));
        };
        self.visit_block_mut(&mut group.block);
        Some(group)
    }

    /// Rewrites the arguments of `println!` and its kind, where they parse as expressions. They
    /// keep their very tokens if they hold no exit.
    fn rewrite_arguments(&mut self, call: &mut Macro) {
        if is_one_of(call, TOKEN_MACROS) {
            return;
        }
        let selects = is_one_of(call, &["cfg_select"]);
        let parse = if selects { Arguments::of_cfg_select } else { Arguments::parse };
        let Ok(mut arguments) = parse.parse2(call.tokens.clone()) else { return };
        let n_exits = self.exits.places.len();
        let may_have_loop = !is_one_of(call, LOOPLESS_MACROS) && !is_one_of(call, WAITING_MACROS);
        let n_loops = usize::from(may_have_loop);
        self.n_loops += n_loops;
        if selects {
            for (cfg, action) in arguments.selected_mut() {
                self.under_cfgs_of(vec![cfg], |this| this.visit_expr_mut(action));
            }
        } else {
            for argument in arguments.expressions_mut() {
                self.visit_element(argument);
            }
        }
        self.n_loops -= n_loops;
        if self.exits.places.len() == n_exits {
            return;
        }
        call.tokens = match arguments.single() {
            // With a message, as it would show what the condition has become.
            Some(condition) if is_one_of(call, ASSERTIONS) => {
                let written = call.tokens.to_string();
                let message = format!("assertion failed: {}", written.trim_end_matches(','));
                // Not the text itself: before the edition of 2021 it is no format where it stands alone.
                quote!(#condition, "{}", #message)
            }
            _ => arguments.into_token_stream(),
        };
    }
}

/// Whether a macro has one of these names, whatever path leads to it.
fn is_one_of(call: &Macro, names: &[&str]) -> bool {
    call.path.segments.last().is_some_and(|last| names.iter().any(|name| last.ident == name))
}

/// Whether there is an `await` in there, or a macro that may have one.
fn may_wait(tokens: TokenStream) -> bool {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let calls_unknown = tokens.windows(3).any(|three| match three {
        [TokenTree::Ident(name), TokenTree::Punct(mark), TokenTree::Group(_)] if mark.as_char() == '!' => {
            !LOOPLESS_MACROS.iter().any(|known| name == known)
        }
        _ => false,
    });
    calls_unknown
        || tokens.into_iter().any(|token| match token {
            TokenTree::Ident(word) => word == "await",
            TokenTree::Group(group) => may_wait(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
}

/// What the body yields when it leaves in peace.
pub(crate) fn finish(of: MacroKind, site: Span, exit: &TokenStream) -> TokenStream {
    if of == MacroKind::TryTaskGroup {
        quote_spanned!(site=> ::core::result::Result::Ok(#exit))
    } else {
        quote_spanned!(site=> __xiio_private::Leave::Finish(#exit))
    }
}

/// What the body of a `task_group!` yields when it fails.
fn fail(site: Span, exit: &TokenStream) -> TokenStream {
    quote_spanned!(site=> __xiio_private::Leave::Fail(#exit))
}

/// Whether this is what `fail` has written, for another group.
fn is_failure(value: &Expr) -> bool {
    let Expr::Call(call) = value else { return false };
    let Expr::Path(function) = &*call.func else { return false };
    function.path.segments.iter().map(|segment| &segment.ident).eq(["__xiio_private", "Leave", "Fail"])
}

fn returning(attrs: Vec<Attribute>, site: Span, value: TokenStream) -> Expr {
    Expr::Return(ExprReturn { attrs, return_token: Token![return](site), expr: Some(Box::new(Expr::Verbatim(value))) })
}

/// What the `#[cfg]`s in front of a statement or an element ask for, wherever `syn` has put them inside it.
fn cfgs_before(code: &impl ToTokens) -> Vec<TokenStream> {
    let tokens = code.to_token_stream();
    let starts_with_attribute = tokens
        .clone()
        .into_iter()
        .next()
        .is_some_and(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '#'));
    if !starts_with_attribute {
        return Vec::new();
    }
    let parser = |input: ParseStream<'_>| {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<TokenStream>().map(|_| attrs)
    };
    cfgs_of(&parser.parse2(tokens).unwrap_or_default())
}

fn cfgs_of(attrs: &[Attribute]) -> Vec<TokenStream> {
    attrs.iter().flat_map(|attr| cfgs_in(&attr.meta)).collect()
}

/// Those of `cfg(…)`, and of `cfg_attr(condition, cfg(…))`.
fn cfgs_in(attr: &Meta) -> Vec<TokenStream> {
    let Meta::List(attr) = attr else { return Vec::new() };
    if attr.path.is_ident("cfg") {
        let condition = &attr.tokens;
        // It may end with a comma.
        return vec![quote!(all(#condition))];
    }
    let parser = |input: ParseStream<'_>| {
        let mut condition = TokenStream::new();
        while !input.peek(Token![,]) {
            condition.extend([input.parse::<TokenTree>()?]);
        }
        input.parse::<Token![,]>()?;
        let attrs = Punctuated::<Meta, Token![,]>::parse_terminated(input)?;
        let cfgs = attrs.iter().flat_map(cfgs_in).map(|cfg| quote!(any(not(#condition), #cfg)));
        Ok(cfgs.collect())
    };
    if attr.path.is_ident("cfg_attr") { parser.parse2(attr.tokens.clone()).unwrap_or_default() } else { Vec::new() }
}

/// Parentheses keep an expression whole wherever the user put it.
fn parenthesized(attrs: Vec<Attribute>, site: Span, expr: Expr) -> Expr {
    Expr::Paren(ExprParen { attrs, paren_token: token::Paren(site), expr: Box::new(expr) })
}

fn braced(site: Span, tokens: TokenStream) -> ExprBlock {
    let block = Block { brace_token: token::Brace(site), stmts: vec![Stmt::Expr(Expr::Verbatim(tokens), None)] };
    ExprBlock { attrs: Vec::new(), label: None, block }
}
