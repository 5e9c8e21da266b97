//! A recording as a page of HTML that needs nothing else: no network, no other file.

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page that shows a trace, which is JSON.
///
/// Outside of its strings JSON has no `<`, and inside it may be written otherwise; so nothing in a trace can end the element that it is in.
pub fn page(trace: &str) -> String {
    let page = TEMPLATE.replace("/* STYLE */", STYLE).replace("/* SCRIPT */", SCRIPT);
    let (before, after) = page.split_once("<!-- TRACE -->").unwrap_or((&page, ""));
    [before, &trace.replace('<', "\\u003c"), after].concat()
}
