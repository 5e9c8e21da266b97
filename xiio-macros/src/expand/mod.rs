//! What the macros write.

mod group;
mod race;
mod root;

pub(crate) use group::group;
pub(crate) use race::race;
pub(crate) use root::root;

#[cfg(test)]
mod tests {
    use proc_macro2::{Group, TokenStream, TokenTree};

    use super::{group, root};
    use crate::args::MacroKind;
    use crate::names::Names;

    const GROUPS: &[&str] = &[
        "limit = 3, name = \"n\", timeout = d?, |tg: &TaskGroup<'_>| { tg.spawn(f()); 5 },",
        "error = Box<dyn Error>, all_errors, deadline = None, |_| loop { return x?; }",
        "|tg| { 'a: loop { if let Some(x) = y? && z { break 'a 3 } } continue 'b; break 'c v; }",
        "|tg| { println!(\"{}\", x?, n = task_group!(|i| { return vec![1?; 2] })); matches!(x?, 1) }",
        "|tg| { ensure!(y.await, m!()); cfg_select! { k = \"v\" => x?, _ => { return 1 } } assert!(x? > 1); own!(a => break); bail!(z) }",
        "|tg| { #[cfg(unix)] x?; match y { #[cfg(unix)] 1 => return, _ => break } }",
    ];
    const ATTRIBUTES: &[&str] =
        &["grace = d, cancel_on(SIGINT, libc::SIGPIPE), timeout = None", "virtual_time, seed = 3, cancel_everywhere"];
    const FUNCTION: &str = "#[should_panic] pub async fn f<T>(x: u8) -> R where T: U { x? }";

    #[test]
    fn every_group_expands_to_an_expression() {
        for (of, tokens) in samples(GROUPS) {
            let expansion = expand_group(of, tokens);
            syn::parse2::<syn::Expr>(expansion).unwrap();
        }
    }

    #[test]
    fn no_token_missing_or_doubled_or_strange_makes_a_group_panic() {
        for (of, tokens) in samples(GROUPS) {
            for mutant in mutants(&tokens) {
                expand_group(of, mutant);
            }
        }
    }

    #[test]
    fn no_token_missing_or_doubled_or_strange_makes_an_attribute_panic() {
        let function: TokenStream = FUNCTION.parse().unwrap();
        for arguments in ATTRIBUTES {
            let arguments: TokenStream = arguments.parse().unwrap();
            for mutant in mutants(&arguments) {
                root(MacroKind::Main, mutant.clone(), function.clone());
                root(MacroKind::Test, mutant, function.clone());
            }
            for mutant in mutants(&function) {
                root(MacroKind::Main, arguments.clone(), mutant.clone());
                root(MacroKind::Test, arguments.clone(), mutant);
            }
        }
    }

    #[test]
    fn every_race_expands_to_an_expression_whatever_is_wrong_with_it() {
        let sample: TokenStream =
            "(a, mut b) | c @ &1 = f(), if x? => g(b), _ = h() => {} else => return".parse().unwrap();
        for race in mutants(&sample).into_iter().chain([sample, "f(), g()".parse().unwrap()]) {
            syn::parse2::<syn::Expr>(super::race(race)).unwrap();
        }
    }

    fn expand_group(of: MacroKind, tokens: TokenStream) -> TokenStream {
        let names = Names::outermost(&tokens);
        group(of, tokens, names)
    }

    /// Every sample under both macros.
    fn samples(texts: &[&str]) -> Vec<(MacroKind, TokenStream)> {
        let both = [MacroKind::TaskGroup, MacroKind::TryTaskGroup];
        let texts = texts.iter().map(|text| text.parse().unwrap());
        texts.flat_map(|tokens: TokenStream| both.map(|of| (of, tokens.clone()))).collect()
    }

    /// `tokens` with one token taken out, doubled, or replaced, at every place and depth.
    fn mutants(tokens: &TokenStream) -> Vec<TokenStream> {
        let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let strange = ["|", ",", "=", "?", "return", "async", "{}", "'a", "task_group!()"];
        let mut mutants = Vec::new();
        for (place, tree) in trees.iter().enumerate() {
            let mut put = |replacement: TokenStream| {
                let before = trees[..place].iter().cloned().map(TokenStream::from);
                let after = trees[place + 1..].iter().cloned().map(TokenStream::from);
                mutants.push(before.chain([replacement]).chain(after).collect());
            };
            put(TokenStream::new());
            put([tree.clone(), tree.clone()].into_iter().collect());
            for text in strange {
                put(text.parse().unwrap());
            }
            if let TokenTree::Group(inner) = tree {
                for inside in self::mutants(&inner.stream()) {
                    put(TokenTree::from(Group::new(inner.delimiter(), inside)).into());
                }
            }
        }
        mutants
    }
}
