//! The ways out of a body, as the rewriting finds them and the expansion replays them.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Lifetime, Token};

/// The ways out of a body.
#[derive(Default)]
pub(crate) struct Exits {
    /// One for each place where the body leaves.
    pub(crate) places: Vec<Exit>,
    /// Where values are carried to; each has a hint that tells inference the type early.
    pub(crate) destinations: Vec<Destination>,
}

/// Where a value is carried to, from one place or several.
pub(crate) struct Destination {
    /// One that leads there.
    pub(crate) word: Word,
    /// What the `#[cfg]`s around each of the places ask for.
    pub(super) cfgs: Vec<Vec<TokenStream>>,
}

/// One place where the body leaves, as a variant of the exit enum.
pub(crate) struct Exit {
    pub(crate) variant: Ident,
    pub(crate) word: Word,
    /// The user's keyword, with the hygiene of generated code.
    pub(crate) span: Span,
    pub(crate) has_value: bool,
    /// What the `#[cfg]`s around the place ask for: where they take it away, its variant must go, too.
    pub(crate) cfgs: Vec<TokenStream>,
}

impl Destination {
    /// The `#[cfg]` of what it needs, which takes that away where no place is left that leads there.
    pub(crate) fn cfg(&self) -> Option<TokenStream> {
        let may_go = self.cfgs.iter().all(|cfgs| !cfgs.is_empty());
        may_go.then(|| {
            let cfgs = self.cfgs.iter().map(|cfgs| quote!(all(#(#cfgs),*)));
            quote!(#[cfg(any(#(#cfgs),*))])
        })
    }
}

/// The word that leaves.
#[derive(Clone)]
pub(crate) enum Word {
    /// Kept with the user's own span: the compiler explains a missing `From` here.
    Question(Token![?]),
    Return,
    Break(Option<Lifetime>),
    Continue(Option<Lifetime>),
}

impl Word {
    /// The word as an expression that leaves, with what it takes along.
    pub(crate) fn leaving_with(&self, span: Span, value: Option<&TokenStream>) -> TokenStream {
        match self {
            Self::Question(question) => quote_spanned!(span=> match #value #question {}),
            Self::Return => quote_spanned!(span=> return #value),
            Self::Break(label) => quote_spanned!(span=> break #label #value),
            Self::Continue(label) => quote_spanned!(span=> continue #label),
        }
    }

    /// Whether both lead to the same place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Return, Self::Return) => true,
            (Self::Break(label), Self::Break(other)) => label == other,
            _ => false,
        }
    }
}
