//! Makes modules of the programs in `README.md` and `docs/` that are shown with their output, for the test
//! `docs_programs`.
//!
//! A program is a block that begins with ```` ```rust ````; its output is the ```` ```text ```` block after it, if nothing
//! but empty lines and lines that end in a colon stands between. Blocks without an output are doctests and no more.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..");
    let docs = fs::read_dir(root.join("docs")).into_iter().flatten();
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    println!("cargo::rerun-if-changed=../docs");
    println!("cargo::rerun-if-changed=../README.md");

    let (mut modules, mut table) = (String::new(), String::new());
    for page in &pages {
        let name = page.file_name().unwrap().to_str().unwrap();
        for program in programs(&fs::read_to_string(page).unwrap()) {
            let Program { line, code, output } = program;
            let module = format!("{}_{line}", name.trim_end_matches(".md").to_lowercase());
            write!(modules, "pub(crate) mod {module} {{\n{code}\npub(crate) fn run() -> std::process::ExitCode {{ std::process::Termination::report(main()) }}\n}}\n").unwrap();
            writeln!(table, "    ({name:?}, {line}, {module}::run, {output:?}),").unwrap();
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("docs_programs.rs");
    fs::write(out, format!("{modules}pub(crate) const PROGRAMS: &[crate::Program] = &[\n{table}];\n")).unwrap();
}

struct Program {
    line: usize,
    code: String,
    output: String,
}

/// The programs of a page that are followed by their output.
fn programs(page: &str) -> Vec<Program> {
    let mut programs = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut before: Option<(usize, String)> = None;
    while let Some((index, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let block: String = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .flat_map(|l| [l, "\n"])
                .collect();
            before = match (language, before.take()) {
                ("rust", _) => Some((index + 1, block)),
                ("text", Some((line, code))) => {
                    programs.push(Program { line, code, output: block });
                    None
                }
                _ => None,
            };
        } else if !line.is_empty() && !line.ends_with(':') {
            before = None;
        }
    }
    programs
}
