//! Programs that must not compile, with the words they are refused with, and their neighbours
//! that must. The words of the compiler are pinned, too: rust-toolchain and `.stderr` move
//! together (`TRYBUILD=overwrite`).

#[test]
fn mistakes_are_explained_and_neighbours_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
