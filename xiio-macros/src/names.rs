//! The names an expansion gives to its own things.
//!
//! Locals are hygienic through `mixed_site`, so the user never sees them. Items are not, and one
//! invocation expands the groups nested in it under the same hygiene; therefore every name carries
//! the level of nesting. (An inner group's code mentions names of the groups around it: its
//! replayed `return` is an exit of theirs.) So does the code of a group in another macro, whose
//! arguments a group around that macro has rewritten: it goes on counting where that one has come to.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::format_ident;

const EXIT_ENUM: &str = "__Exit";

/// The names of one group's expansion.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    level: usize,
    site: Span,
    is_in_try_group: bool,
}

impl Names {
    /// The names of a group that the compiler asked for, made of these tokens.
    pub(crate) fn outermost(input: &TokenStream) -> Self {
        Self { level: n_levels_in(input.clone()), site: Span::mixed_site(), is_in_try_group: false }
    }

    /// The names of a group inside the body of this one, whose macro path is at `location`.
    pub(crate) fn nested_at(self, location: Span, is_in_try_group: bool) -> Self {
        let is_in_try_group = self.is_in_try_group || is_in_try_group;
        Self { level: self.level + 1, site: hygienic(location), is_in_try_group }
    }

    /// Whether an error leads to a `try_task_group!` around this group, and not to the function.
    pub(crate) fn is_in_try_group(self) -> bool {
        self.is_in_try_group
    }

    /// Where the generated code claims to be, hygienic.
    pub(crate) fn site(self) -> Span {
        self.site
    }

    /// The enum whose variants are the ways out of the body.
    pub(crate) fn exit_enum(self) -> Ident {
        self.ident(EXIT_ENUM)
    }

    /// The value of that enum.
    pub(crate) fn exit(self) -> Ident {
        self.ident("__exit")
    }

    /// The group, where the user has no name for it.
    pub(crate) fn handle(self) -> Ident {
        self.ident("__tg")
    }

    /// The guard that empties the group.
    pub(crate) fn guard(self) -> Ident {
        self.ident("__guard")
    }

    /// The pinned body.
    pub(crate) fn body(self) -> Ident {
        self.ident("__body")
    }

    /// The hint that carries the type of the `index`-th destination.
    pub(crate) fn hint(self, index: usize) -> Ident {
        format_ident!("__hint{}_{}", self.level, index, span = self.site)
    }

    fn ident(self, stem: &str) -> Ident {
        format_ident!("{}{}", stem, self.level, span = self.site)
    }
}

/// How many levels of groups have left their names in there.
fn n_levels_in(tokens: TokenStream) -> usize {
    let n_levels = tokens.into_iter().map(|token| match token {
        TokenTree::Group(group) => n_levels_in(group.stream()),
        TokenTree::Ident(word) => {
            let word = word.to_string();
            let level = word.strip_prefix(EXIT_ENUM).and_then(|level| level.parse::<u16>().ok());
            level.map_or(0, |level| usize::from(level) + 1)
        }
        TokenTree::Punct(_) | TokenTree::Literal(_) => 0,
    });
    n_levels.max().unwrap_or(0)
}

/// The location of `span`, with the hygiene of generated code.
pub(crate) fn hygienic(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}
