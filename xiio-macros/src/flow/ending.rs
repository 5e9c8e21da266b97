//! Whether a body comes to its end at all, as far as its words tell.
//!
//! Behind a plain block that always leaves, the compiler knows that nothing is reached: a function
//! may end there without a value. A group's value goes through a type parameter, which hides that,
//! so it has to be found here. A wrong yes would be an error in the user's code; a wrong no only
//! asks for a value at the end of the function.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Block, Expr, Macro, Stmt};

use super::{cfgs_before, is_one_of};

/// The macros that never return.
const PANICS: &[&str] = &["panic", "unreachable", "todo", "unimplemented"];

/// Whether control never comes out behind `expr`, whose exits have been rewritten to `return`.
pub(crate) fn never_ends(expr: &Expr) -> bool {
    match expr {
        Expr::Return(_) => true,
        Expr::Loop(inner) => !mentions_break(inner.body.to_token_stream()),
        Expr::Block(inner) => inner.label.is_none() && block_never_ends(&inner.block),
        Expr::Unsafe(inner) => block_never_ends(&inner.block),
        Expr::If(inner) => {
            let otherwise = inner.else_branch.as_ref();
            block_never_ends(&inner.then_branch) && otherwise.is_some_and(|(_, expr)| never_ends(expr))
        }
        Expr::Match(inner) => inner.arms.iter().all(|arm| never_ends(&arm.body)),
        Expr::Paren(inner) => never_ends(&inner.expr),
        // What a macro has taken as an expression or block.
        Expr::Group(inner) => never_ends(&inner.expr),
        Expr::Macro(inner) => always_panics(&inner.mac),
        _ => false,
    }
}

fn block_never_ends(block: &Block) -> bool {
    match block.stmts.last() {
        // Where it is taken away the block ends with what is before it.
        Some(last) if !cfgs_before(last).is_empty() => false,
        Some(Stmt::Expr(expr, _)) => never_ends(expr),
        Some(Stmt::Macro(inner)) => always_panics(&inner.mac),
        Some(Stmt::Local(_) | Stmt::Item(_)) | None => false,
    }
}

fn always_panics(call: &Macro) -> bool {
    let segments = &call.path.segments;
    let is_of_std = match segments.len() {
        1 => true,
        2 => ["std", "core"].iter().any(|name| segments[0].ident == name),
        _ => false,
    };
    is_of_std && is_one_of(call, PANICS)
}

/// Whether the word stands anywhere in there; a `break` of an inner loop counts, too.
fn mentions_break(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => word == "break",
        TokenTree::Group(group) => mentions_break(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(body: &str) -> bool {
        !never_ends(&syn::parse_str(body).unwrap())
    }

    #[test]
    fn a_body_that_always_leaves_never_ends() {
        assert!(!ends("{ loop { accept().await; } }"));
        assert!(!ends("{ return 1; }"));
        assert!(!ends("{ #[allow(clippy::never_loop)] loop { return 1; } }"));
        assert!(!ends("{ if late { return 1 } else { panic!() } }"));
        assert!(!ends("match x { A => return 1, B => unreachable!() }"));
        assert!(!ends("match x {}"));
        assert!(!ends("{ std::panic!() }"));
        assert!(!ends("{ ::core::unreachable!(); }"));
    }

    #[test]
    fn a_body_that_may_come_through_ends() {
        assert!(ends("{}"));
        assert!(ends("{ loop { break; } }"));
        assert!(ends("{ if late { return 1 } }"));
        assert!(ends("{ #[cfg(windows)] return 1; }"));
        assert!(ends("{ #[cfg(windows)] loop {} }"));
        assert!(ends("{ #[cfg(windows)] { panic!() } }"));
        assert!(ends("'a: { return select!(x => break 'a) }"));
        assert!(ends("{ while true {} }"));
        assert!(ends("{ mine::panic!() }"));
    }
}
