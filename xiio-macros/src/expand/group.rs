//! `task_group!` and `try_task_group!`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Expr;
use syn::spanned::Spanned;

use crate::args::{MacroKind, Options};
use crate::diagnostics::Diagnostics;
use crate::flow::{self, Exit, Exits, Word, finish};
use crate::names::{Names, hygienic};
use crate::parse::{Body, GroupCall, Parameter};

/// Input:
/// ```text
/// limit = 8, |tg| { tg.spawn(op()); if late { return Err(e) } 5 }
/// ```
///
/// Output, with the level left off the names:
/// ```text
/// {
///     enum __Exit<V, OfAt0> { Value(V), At0(OfAt0) }
///     let tg = ManuallyDrop::new(task_group(GroupOptions::new().limit(8)));
///     let tg = &*tg;
///     let __guard = Guard::new(tg);
///     let __hint_0 = Hint::new();
///     if false { return __hint_0.absurd(); }
///     let __exit = {
///         let __body = pin!(Some(async {
///             match { tg.spawn(op()); if late { return Leave::Finish(__Exit::At0(…)) } 5 } {
///                 __value => Leave::Finish(__Exit::Value(__value)),
///             }
///         }));
///         let __exit = __guard.run(__body, |exit| match exit { … }).await;
///         __exit
///     };
///     match __exit { __Exit::Value(__value) => __value, __Exit::At0(__value) => return __value }
/// }
/// ```
pub(crate) fn group(of: MacroKind, input: TokenStream, names: Names) -> TokenStream {
    let mut diagnostics = Diagnostics::default();
    let call = GroupCall::parse(input, of, names.site(), &mut diagnostics);
    let errors = diagnostics.into_compile_errors();
    let GroupCall { options, parameter, body } = call;
    let Some(body) = Rewritten::new(body, of, names) else {
        return fallback(&errors, names);
    };
    Expansion { of, names, options, parameter, body }.write(&errors)
}

/// The expression that stands for a group without a body: of any type, so that the mistake is
/// the only error.
fn fallback(errors: &TokenStream, names: Names) -> TokenStream {
    quote_spanned!(names.site()=> { #errors ::core::unreachable!() })
}

/// A body whose control flow has been rewritten.
struct Rewritten {
    /// A block.
    tokens: TokenStream,
    exits: Exits,
    never_ends: bool,
    /// The user's own: with it the compiler speaks of the body as of a block of the user, and of
    /// the variables in it by their names.
    span: Span,
}

impl Rewritten {
    fn new(body: Body, of: MacroKind, names: Names) -> Option<Self> {
        match body {
            Body::Parsed(body) => Some(Self::from_expr(*body, of, names)),
            Body::Raw(tokens) => Some(Self {
                tokens: quote!({ #tokens }),
                exits: Exits::default(),
                never_ends: false,
                span: tokens.span(),
            }),
            Body::Missing => None,
        }
    }

    fn from_expr(mut body: Expr, of: MacroKind, names: Names) -> Self {
        let exits = flow::rewrite(&mut body, of, names, group);
        let never_ends = flow::never_ends(&body);
        // Fresh braces: those of the user would be linted.
        let (span, inside) = match body {
            Expr::Block(body) if body.label.is_none() && body.attrs.is_empty() => {
                let stmts = body.block.stmts;
                (body.block.brace_token.span.join(), quote!(#(#stmts)*))
            }
            _ => (body.span(), body.to_token_stream()),
        };
        let tokens = quote_spanned!(hygienic(span)=> { #inside });
        Self { tokens, exits, never_ends, span }
    }
}

/// One expansion, past its mistakes.
struct Expansion {
    of: MacroKind,
    names: Names,
    options: Options,
    parameter: Parameter,
    body: Rewritten,
}

impl Expansion {
    fn write(&self, errors: &TokenStream) -> TokenStream {
        let (exit, guard, pinned) = (self.names.exit(), self.names.guard(), self.names.body());
        let exit_enum = self.exit_enum();
        let group = self.group();
        let hints = self.hints();
        let error_hint = self.error_hint();
        let body = self.body();
        let (run, report) = (self.run(), self.report());
        let run = quote_spanned!(self.names.site()=> #guard.#run(#pinned, #report));
        let run = if self.options.has("workers") {
            quote_spanned!(self.names.site()=> __xiio_private::lend(#run))
        } else {
            run
        };
        let replay = self.replay();
        quote_spanned! {self.names.site()=> {
            #errors
            #exit_enum
            #group
            #hints
            #error_hint
            #[allow(clippy::shadow_same, clippy::shadow_reuse)]
            let #exit = {
                let #pinned = ::core::pin::pin!(::core::option::Option::Some(#body));
                // A `let` of its own, so that the future is gone before what it borrows.
                let #exit = #run.await;
                #exit
            };
            #replay
        }}
    }

    /// The enum of the ways out. An item, so that the body's types stay inferred.
    fn exit_enum(&self) -> TokenStream {
        let name = self.names.exit_enum();
        let parameters = self.places().filter(|exit| exit.has_value).map(|exit| {
            let (cfgs, parameter) = (&exit.cfgs, parameter_of(exit));
            quote!(#(#[cfg(#cfgs)])* #parameter)
        });
        let variants = self.places().map(|exit| {
            let (cfgs, variant) = (&exit.cfgs, &exit.variant);
            let parameter = exit.has_value.then(|| parameter_of(exit)).into_iter();
            quote!(#(#[cfg(#cfgs)])* #variant #((#parameter))*)
        });
        quote_spanned! {self.names.site()=>
            #[allow(dead_code, clippy::all, clippy::pedantic)]
            enum #name<V, #(#parameters),*> { Value(V), #(#variants),* }
        }
    }

    /// The group, the user's name for it, and the guard that empties it.
    fn group(&self) -> TokenStream {
        let (handle, guard) = (self.handle(), self.names.guard());
        let options = self.options.to_builder_calls();
        let (new, guard_type) = if self.is_try() {
            let error = self.options.error_type().map(|error| quote!(::<#error>));
            (quote!(try_task_group #error), quote!(TryGuard))
        } else {
            (quote!(task_group), quote!(Guard))
        };
        let unused_name = self.unused_name();
        let ty = self.parameter.ty.as_ref().map(|ty| quote!(: #ty));
        quote_spanned! {self.names.site()=>
            let #handle = ::core::mem::ManuallyDrop::new(
                __xiio_private::#new(__xiio_private::GroupOptions::new() #options)
            );
            #[allow(clippy::shadow_same, clippy::shadow_reuse)]
            let #handle #ty = &*#handle;
            #unused_name
            let #guard = __xiio_private::#guard_type::new(#handle);
        }
    }

    /// The user's name for the group. The group itself has it, too, for a moment: the compiler
    /// speaks of `tg` then, when `tg` is to leave. (Not a name like `_tg`: it would be linted for
    /// being used.)
    fn handle(&self) -> Ident {
        let name = self.parameter.name.as_ref();
        let used = name.filter(|name| !is_unused(name));
        used.cloned().unwrap_or_else(|| self.names.handle())
    }

    /// `let _tg = …`, where the user has such a name.
    fn unused_name(&self) -> Option<TokenStream> {
        let name = self.parameter.name.as_ref().filter(|name| is_unused(name))?;
        let handle = self.handle();
        Some(quote_spanned! {self.names.site()=>
            #[allow(clippy::no_effect_underscore_binding)]
            let #name = #handle;
        })
    }

    /// Dead code that tells inference early what the values that leave are coerced to.
    fn hints(&self) -> TokenStream {
        let site = self.names.site();
        let destinations = self.body.exits.destinations.iter().enumerate();
        let hints = destinations.map(|(index, destination)| {
            let hint = self.names.hint(index);
            let value = quote_spanned!(site=> #hint.absurd());
            let leave = destination.word.leaving_with(site, Some(&value));
            let cfg = destination.cfg();
            quote_spanned! {site=>
                #cfg
                let #hint = __xiio_private::Hint::new();
                #cfg
                if false { #leave; }
            }
        });
        quote!(#(#hints)*)
    }

    /// Dead code that makes the error of a try group the function's own, so that `?` in its tasks
    /// infers. `failed` is `Err` for a function that returns `Result`, and the place where any
    /// other is told about `error = Type`.
    fn error_hint(&self) -> Option<TokenStream> {
        let handle = self.handle();
        self.takes_error_of_function().then(|| {
            quote_spanned! {self.names.site()=>
                if false { return __xiio_private::failed(#handle.__hint_error()); }
            }
        })
    }

    /// The body as a future of a way out. A `match` and no argument, since an argument that never
    /// returns (the loop of a server) would be linted as an unreachable call.
    fn body(&self) -> TokenStream {
        let body = &self.body.tokens;
        let site = self.names.site();
        let exit_enum = self.names.exit_enum();
        let value = finish(self.of, site, &quote_spanned!(site=> #exit_enum::Value(__value)));
        let way_out = quote_spanned! {site=>
            match #body {
                #[allow(unreachable_code)]
                __value => #value,
            }
        };
        quote_spanned!(self.body.span=> async { #way_out })
    }

    /// The way of running that the options ask for.
    fn run(&self) -> Ident {
        let name = match (self.options.has("all_errors"), self.options.is_timed()) {
            (false, false) => "run",
            (false, true) => "run_timed",
            (true, false) => "run_all",
            (true, true) => "run_all_timed",
        };
        Ident::new(name, self.names.site())
    }

    /// What tells of an exit that nobody is given. A `?` has failed the group: that is told elsewhere.
    fn report(&self) -> TokenStream {
        let (site, exit_enum) = (self.names.site(), self.names.exit_enum());
        let arms = self.places().map(|Exit { variant, word, has_value, cfgs, .. }| {
            let told = if *has_value && !matches!(word, Word::Question(_)) {
                quote_spanned!(site=> #exit_enum::#variant(__value) => __xiio_private::report_exit(__value),)
            } else {
                quote_spanned!(site=> #exit_enum::#variant { .. } => {})
            };
            quote!(#(#[cfg(#cfgs)])* #told)
        });
        quote_spanned! {site=>
            |__exit| match __exit {
                #exit_enum::Value(__value) => __xiio_private::report_exit(__value),
                #(#arms)*
            }
        }
    }

    /// Does behind the group what the body asked for.
    fn replay(&self) -> TokenStream {
        let site = self.names.site();
        let (exit, exit_enum) = (self.names.exit(), self.names.exit_enum());
        let exits = self.places().map(|exit| {
            let Exit { variant, word, span, cfgs, .. } = exit;
            let value = exit.has_value.then(|| quote_spanned!(*span=> __value));
            let payload = value.as_ref().map(|value| quote_spanned!(site=> (#value)));
            let pattern = self.finished(quote_spanned!(site=> #exit_enum::#variant #payload));
            let leave = word.leaving_with(*span, value.as_ref());
            quote_spanned! {site=>
                #(#[cfg(#cfgs)])*
                #[allow(clippy::needless_continue)]
                #pattern => #leave,
            }
        });
        let pattern = self.finished(quote_spanned!(site=> #exit_enum::Value(__value)));
        let value = self.finished(self.value());
        let failure = self.may_fail().then(|| {
            quote_spanned! {site=>
                ::core::result::Result::Err(__error) => ::core::result::Result::Err(__error),
            }
        });
        quote_spanned!(site=> match #exit { #pattern => #value, #(#exits)* #failure })
    }

    /// The body's value; if it has none, an expression of which the compiler knows that it never
    /// ends either. (Not where the group may fail: then there is an end.) By reference, as older compilers lint what
    /// is done with the result of a call that never returns.
    fn value(&self) -> TokenStream {
        let site = self.names.site();
        if self.body.never_ends && !self.may_fail() {
            quote_spanned!(site=> match *::core::convert::identity::<&::core::convert::Infallible>(&__value) {})
        } else {
            quote_spanned!(site=> __value)
        }
    }

    /// `tokens` as what comes out of a group that did not fail.
    fn finished(&self, tokens: TokenStream) -> TokenStream {
        if self.may_fail() { quote_spanned!(self.names.site()=> ::core::result::Result::Ok(#tokens)) } else { tokens }
    }

    fn places(&self) -> impl Iterator<Item = &Exit> {
        self.body.exits.places.iter()
    }

    fn is_try(&self) -> bool {
        self.of == MacroKind::TryTaskGroup
    }

    /// Whether nobody gave the error a type.
    fn takes_error_of_function(&self) -> bool {
        self.is_try() && self.options.error_type().is_none() && self.parameter.ty.is_none()
    }

    /// Whether the expression is a `Result`.
    fn may_fail(&self) -> bool {
        self.is_try() || self.options.is_timed()
    }
}

fn is_unused(name: &Ident) -> bool {
    name.to_string().starts_with('_')
}

/// The enum's type parameter for what the exit carries.
fn parameter_of(exit: &Exit) -> Ident {
    format_ident!("Of{}", exit.variant)
}
