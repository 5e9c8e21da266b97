//! `#[xiio::main]` and `#[xiio::test]`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::args::{MacroKind, Options};
use crate::diagnostics::Diagnostics;
use crate::names::hygienic;
use crate::parse::{RootFn, read_all};

/// Input:
/// ```text
/// #[xiio::test(grace = SECOND)]
/// /// Doc.
/// pub async fn name() -> Output { … }
/// ```
///
/// Output:
/// ```text
/// /// Doc.
/// #[test]
/// pub fn name() -> Output {
///     use ::xiio as __xiio;
///     async fn name() -> Output { … }
///     TestRoot::new().grace(SECOND).run(name)
/// }
/// ```
///
/// The inner function, and no `async` block, so that the body's `?` and coercions know the type.
pub(crate) fn root(of: MacroKind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut diagnostics = Diagnostics::default();
    let options = parse_options(of, arguments, &mut diagnostics);
    let expansion = match syn::parse2::<RootFn>(item.clone()) {
        Ok(function) => {
            function.judge(of, &mut diagnostics);
            if function.is_root() { write(of, &options, &function) } else { fallback(&function) }
        }
        Err(error) => {
            diagnostics.report_syntax(error);
            item
        }
    };
    let errors = diagnostics.into_compile_errors();
    quote!(#errors #expansion)
}

fn parse_options(of: MacroKind, arguments: TokenStream, diagnostics: &mut Diagnostics) -> Options {
    let mut options = Options::default();
    read_all(arguments, |input| options = Options::parse_all(input, of, diagnostics));
    options
}

fn write(of: MacroKind, options: &Options, function: &RootFn) -> TokenStream {
    let RootFn { attrs, visibility, signature, body } = function;
    let name = &signature.ident;
    let output = &signature.output;
    let site = hygienic(output.span());
    let calls = options.to_builder_calls();
    let run = |name| Ident::new(name, site);
    let xiio = options.crate_path().map_or_else(|| quote!(::xiio), ToTokens::to_token_stream);
    let future = match options.has("tokio") {
        true => quote!(__xiio::compat::with_tokio(#name())),
        false => quote!(#name()),
    };
    let (test, run, future) = match of {
        MacroKind::Test => {
            let (test, run) = (quote!(#[::core::prelude::v1::test]), run("run"));
            (Some(test), quote!(__private::TestRoot::new() #calls.#run), quote!(|| #future))
        }
        _ if calls.is_empty() => (None, quote!(run), future),
        _ => {
            let run = run(if options.is_timed() { "run_timed" } else { "run" });
            (None, quote!(Builder::new() #calls.#run), future)
        }
    };
    quote_spanned! {site=>
        #(#attrs)*
        #test
        #visibility fn #name() #output {
            use #xiio as __xiio;
            #[allow(clippy::unused_async)]
            #signature #body
            __xiio::#run(#future)
        }
    }
}

/// A function of the same name and type, whatever the mistake, so that nothing else is missing.
fn fallback(function: &RootFn) -> TokenStream {
    let RootFn { attrs, visibility, signature, body } = function;
    if signature.asyncness.is_none() {
        return quote!(#(#attrs)* #visibility #signature #body);
    }
    let (name, output) = (&signature.ident, &signature.output);
    quote! {
        #(#attrs)*
        #visibility fn #name() #output {
            #[allow(dead_code)]
            #signature #body
            ::core::unreachable!()
        }
    }
}
