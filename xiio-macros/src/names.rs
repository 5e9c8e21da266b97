//! The names an expansion gives to its own things.
//!
//! Locals are hygienic through `mixed_site`, so the user never sees them. Items are not, and one
//! invocation expands the groups nested in it under the same hygiene; therefore every name carries
//! the level of nesting. (An inner group's code mentions names of the groups around it: its
//! replayed `return` is an exit of theirs.)

use proc_macro2::{Ident, Span};
use quote::format_ident;

/// The names of one group's expansion.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    level: usize,
    site: Span,
}

impl Names {
    /// The names of a group that the compiler asked for.
    pub(crate) fn outermost() -> Self {
        Self { level: 0, site: Span::mixed_site() }
    }

    /// The names of a group inside the body of this one, whose macro path is at `location`.
    pub(crate) fn nested_at(self, location: Span) -> Self {
        Self { level: self.level + 1, site: hygienic(location) }
    }

    /// Where the generated code claims to be, hygienic.
    pub(crate) fn site(self) -> Span {
        self.site
    }

    /// The enum whose variants are the ways out of the body.
    pub(crate) fn exit_enum(self) -> Ident {
        self.ident("__Exit")
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

/// The location of `span`, with the hygiene of generated code.
pub(crate) fn hygienic(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}
