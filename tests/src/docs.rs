//! The code in `README.md` and `docs/`, as doctests.

macro_rules! pages {
    ($($name:ident = $path:literal),+ $(,)?) => {
        $(#[doc = include_str!(concat!("../../", $path))] mod $name {})+
    };
}

pages! {
    readme = "README.md",
    architecture = "docs/architecture.md",
    cancellation = "docs/cancellation.md",
    cores = "docs/cores.md",
    tour = "docs/tour.md",
    debugging = "docs/debugging.md",
    design = "docs/design.md",
    from_python = "docs/from_python.md",
    from_tokio = "docs/from_tokio.md",
    send = "docs/send.md",
    testing = "docs/testing.md",
    unsafe_code = "docs/unsafe.md",
}
