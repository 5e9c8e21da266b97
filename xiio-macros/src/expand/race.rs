//! `race!`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::parse::discouraged::Speculative;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Expr, FieldPat, Pat, PatIdent, PatWild, Token};

use crate::arms::{Arm, Otherwise};
use crate::diagnostics::{Diagnostics, Mistake};
use crate::names::hygienic;
use crate::parse::read_all;

/// Input:
/// ```text
/// Some(n) = next(), if is_open => n, () = sleep(SECOND) => return, else => 0
/// ```
///
/// Output:
/// ```text
/// {
///     let __if0: bool = is_open;
///     let __if1: bool = true;
///     match { let __won = race_all((racer(next(), __if0, |__output| …), (racer(sleep(SECOND), __if1, |__output| …), ()))).await; __won } {
///         Some(Either::Left(Some(n))) => n,
///         Some(Either::Right(Either::Left(()))) => return,
///         _ => 0,
///     }
/// }
/// ```
///
/// What the futures were made with is gone when an arm runs: `queue.borrow_mut().next()` must not keep the arm from borrowing the queue. So an
/// output cannot borrow from a temporary.
///
/// Conditions come first, as a future may borrow what another's condition looks at. The closures say whether an output
/// matches: it is not moved into the pattern before the race is over.
pub(crate) fn race(input: TokenStream) -> TokenStream {
    let mut diagnostics = Diagnostics::default();
    let mut call = Call::default();
    read_all(input, |input| call.parse(input, &mut diagnostics));
    let errors = diagnostics.into_compile_errors();
    if errors.is_empty() { call.write() } else { quote!({ #errors ::core::unreachable!() }) }
}

/// What stands in the parentheses.
#[derive(Default)]
struct Call {
    racers: Vec<Racer>,
    otherwise: Option<Otherwise>,
}

enum Racer {
    Arm(Box<Arm>),
    /// A future alone, whose output is the value of the race.
    Future(Expr),
}

impl Call {
    fn parse(&mut self, input: ParseStream<'_>, diagnostics: &mut Diagnostics) {
        while !input.is_empty() {
            if let Err(error) = self.parse_one(input, diagnostics) {
                diagnostics.report_syntax(error);
                let _: syn::Result<TokenStream> = input.parse();
                return;
            }
        }
        if self.racers.is_empty() {
            diagnostics.report(Span::call_site(), &Mistake::NothingToRace);
        }
        let is_arm = |racer: &Racer| matches!(racer, Racer::Arm(_));
        let has_arms = self.otherwise.is_some() || self.racers.iter().any(is_arm);
        if has_arms && let Some(Racer::Future(future)) = self.racers.iter().find(|racer| !is_arm(racer)) {
            diagnostics.report(future.span(), &Mistake::RacerWithoutArm);
        }
    }

    fn parse_one(&mut self, input: ParseStream<'_>, diagnostics: &mut Diagnostics) -> syn::Result<()> {
        reject_attributes(input, diagnostics)?;
        if input.peek(Token![else]) {
            let otherwise: Otherwise = input.parse()?;
            if !input.is_empty() || self.otherwise.is_some() {
                diagnostics.report(otherwise.keyword.span, &Mistake::ElseNotLast);
            }
            self.otherwise = Some(otherwise);
            return Ok(());
        }
        if input.peek(Ident::peek_any) && input.peek2(Token![;]) {
            let word: Ident = input.call(Ident::parse_any)?;
            diagnostics.report(word.span(), &Mistake::RaceIsBiased);
            return input.parse::<Token![;]>().map(drop);
        }
        let ahead = input.fork();
        let racer = match ahead.parse() {
            Ok(arm) => {
                input.advance_to(&ahead);
                Racer::Arm(Box::new(arm))
            }
            Err(_) => Self::parse_future(input, diagnostics)?,
        };
        if let Racer::Arm(arm) = &racer
            && !arm.is_delimited()
            && !input.is_empty()
        {
            diagnostics.report(input.span(), &Mistake::ArmWithoutComma);
        }
        self.racers.push(racer);
        Ok(())
    }

    /// Reads what is no arm: a future alone, or an arm with a mistake in it.
    fn parse_future(input: ParseStream<'_>, diagnostics: &mut Diagnostics) -> syn::Result<Racer> {
        let ahead = input.fork();
        if skip_pattern(&ahead) {
            ahead.parse::<Token![=]>()?;
            let future: Expr = ahead.parse()?;
            if ahead.is_empty() || ahead.peek(Token![,]) && !ahead.peek2(Token![if]) {
                return Err(syn::Error::new(future.span(), Mistake::ArmWithoutAction));
            }
            // What else is wrong with it is said by its parser.
            return input.parse().map(|arm| Racer::Arm(Box::new(arm)));
        }
        let future: Expr = input.parse()?;
        if input.peek(Token![=>]) {
            diagnostics.report(future.span(), &Mistake::ArmWithoutPattern);
            input.parse::<Token![=>]>()?;
            Expr::parse_with_earlier_boundary_rule(input)?;
        }
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        Ok(Racer::Future(future))
    }

    fn write(&self) -> TokenStream {
        let site = Span::mixed_site();
        let conditions = self.racers.iter().enumerate().map(|(index, racer)| {
            let name = condition_name(index);
            let condition = racer.condition().map_or_else(|| quote!(true), ToTokens::to_token_stream);
            quote_spanned!(site=> let #name: bool = #condition;)
        });
        let racers = self.racers.iter().enumerate().rev().fold(quote!(()), |rest, (index, racer)| {
            let (future, name, test) = (racer.future(), condition_name(index), racer.test());
            quote_spanned!(site=> (__xiio_private::racer(#future, #name, #test), #rest))
        });
        let arms = self.racers.iter().enumerate().map(|(index, racer)| {
            let (pattern, action) = racer.pattern_and_action();
            let won = (0..index).fold(
                quote_spanned!(site=> __xiio_private::Either::Left(#pattern)),
                |won, _| quote_spanned!(site=> __xiio_private::Either::Right(#won)),
            );
            quote_spanned!(site=> ::core::option::Option::Some(#won) => #action,)
        });
        let otherwise = match &self.otherwise {
            Some(otherwise) => otherwise.action.to_token_stream(),
            None => quote_spanned!(site=> __xiio_private::no_racer_left()),
        };
        quote_spanned! {site=> {
            #(#conditions)*
            // A value, which the arms may borrow to change. What the futures were made with ends with the block.
            match { let __won = __xiio_private::race_all(#racers).await; __won } {
                #(#arms)*
                _ => #otherwise,
            }
        }}
    }
}

impl Racer {
    fn future(&self) -> &Expr {
        match self {
            Self::Arm(arm) => &arm.future,
            Self::Future(future) => future,
        }
    }

    fn condition(&self) -> Option<&Expr> {
        match self {
            Self::Arm(arm) => arm.condition(),
            Self::Future(_) => None,
        }
    }

    fn pattern_and_action(&self) -> (TokenStream, TokenStream) {
        match self {
            Self::Arm(arm) => (arm.pattern.to_token_stream(), arm.action.to_token_stream()),
            Self::Future(_) => {
                let output = quote_spanned!(Span::mixed_site()=> __output);
                (output.clone(), output)
            }
        }
    }

    /// A closure that says whether an output matches, of which it has a reference.
    fn test(&self) -> TokenStream {
        let Self::Arm(arm) = self else { return quote!(|_| true) };
        let mut pattern = arm.pattern.clone();
        WithoutBindings.visit_pat_mut(&mut pattern);
        let site = hygienic(arm.pattern.span());
        quote_spanned! {site=>
            |__output| {
                #[allow(unreachable_patterns, clippy::all, clippy::pedantic)]
                let __matches = match *__output { #pattern => true, _ => false };
                __matches
            }
        }
    }
}

/// Skips the attributes of an arm. Those of a future alone are its own.
fn reject_attributes(input: ParseStream<'_>, diagnostics: &mut Diagnostics) -> syn::Result<()> {
    let ahead = input.fork();
    let attributes = ahead.call(Attribute::parse_outer)?;
    let Some(first) = attributes.first() else { return Ok(()) };
    if ahead.peek(Token![else]) || skip_pattern(&ahead.fork()) {
        diagnostics.report(first.span(), &Mistake::ArmWithAttribute);
        input.advance_to(&ahead);
    }
    Ok(())
}

/// Whether an arm begins here, of which the pattern is skipped.
fn skip_pattern(input: ParseStream<'_>) -> bool {
    Pat::parse_multi_with_leading_vert(input).is_ok()
        && input.peek(Token![=])
        && !input.peek(Token![==])
        && !input.peek(Token![=>])
}

/// Leaves of a pattern what may match or not. A name is taken for a constant if it begins with a capital letter.
struct WithoutBindings;

impl VisitMut for WithoutBindings {
    fn visit_pat_mut(&mut self, pattern: &mut Pat) {
        while let Pat::Ident(PatIdent { ident, subpat, .. }) = pattern {
            *pattern = match subpat.take() {
                Some((_, inner)) => *inner,
                None if ident.to_string().starts_with(char::is_uppercase) => return,
                None => Pat::Wild(PatWild { attrs: Vec::new(), underscore_token: Token![_](ident.span()) }),
            };
        }
        visit_mut::visit_pat_mut(self, pattern);
    }

    fn visit_field_pat_mut(&mut self, field: &mut FieldPat) {
        field.colon_token.get_or_insert_default();
        visit_mut::visit_field_pat_mut(self, field);
    }
}

fn condition_name(index: usize) -> Ident {
    format_ident!("__if{index}", span = Span::mixed_site())
}
