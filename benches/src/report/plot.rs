//! The plot: a panel of bars for each case, and lines for the rows that are asked at several sizes.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::table::{Standing, number, ranking};
use crate::results::{Results, directory};
use crate::row::{Case, Family, Metric, Row};
use crate::rows::ROWS;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const COLUMNS: usize = 3;
const PANEL_WIDTH: u32 = 420;
const BAR_HEIGHT: i32 = 17;
const HEAD_HEIGHT: i32 = 40;
const NAME_WIDTH: i32 = 110;
const VALUE_WIDTH: i32 = 70;

pub const INK: RGBColor = RGBColor(40, 44, 52);
pub const FAINT: RGBColor = RGBColor(130, 136, 146);

pub fn color(family: Family) -> RGBColor {
    match family {
        Family::Xiio => RGBColor(214, 84, 42),
        Family::Tokio => RGBColor(62, 110, 176),
        Family::Peer => RGBColor(140, 164, 196),
        Family::Floor => RGBColor(190, 194, 200),
    }
}

struct Panel {
    title: String,
    unit: &'static str,
    standings: Vec<Standing>,
}

pub fn write(results: &Results) {
    let path = directory().join("plot.svg");
    draw(results, &path).expect("the plot can be written");
    eprintln!("{}", path.display());
}

fn draw(results: &Results, path: &std::path::Path) -> Drawn {
    let panel = |row: &'static Row, case: &'static Case, metric: &'static Metric| Panel {
        title: format!("{}: {}", row.title, case.name),
        unit: metric.unit,
        standings: ranking(results, row, case, metric),
    };
    let cases = ROWS.iter().flat_map(|row| row.cases.iter().map(move |case| (row, case)));
    let panels = cases.map(|(row, case)| panel(row, case, &row.metrics[0]));
    let panels: Vec<_> = panels.filter(|panel| !panel.standings.is_empty()).collect();
    if panels.is_empty() {
        return Ok(());
    }

    let height = |panel: &Panel| HEAD_HEIGHT + BAR_HEIGHT * panel.standings.len() as i32 + 24;
    let lines: Vec<_> = panels.chunks(COLUMNS).map(|line| line.iter().map(height).max().unwrap_or(0)).collect();
    let size = (PANEL_WIDTH * COLUMNS as u32, lines.iter().sum::<i32>() as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let mut top = 0;
    for (line, height) in panels.chunks(COLUMNS).zip(lines) {
        for (panel, column) in line.iter().zip(0..) {
            let left = PANEL_WIDTH as i32 * column;
            draw_panel(&root, panel, (left + 12, top + 12))?;
        }
        top += height;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(root: &Area<'_>, panel: &Panel, (left, top): (i32, i32)) -> Drawn {
    let style = |size: i32, color: &RGBColor, horizontal| {
        let anchor = Pos::new(horizontal, VPos::Center);
        ("sans-serif", size).into_font().color(color).pos(anchor)
    };
    root.draw_text(&panel.title, &style(13, &INK, HPos::Left), (left, top + 4))?;
    root.draw_text(panel.unit, &style(11, &FAINT, HPos::Left), (left, top + 20))?;

    let most = panel.standings.iter().map(|it| it.summary.median).fold(0.0, f64::max);
    let width = PANEL_WIDTH as i32 - 24 - NAME_WIDTH - VALUE_WIDTH;
    let x = |value: f64| left + NAME_WIDTH + (f64::from(width) * (value / most).min(1.0)) as i32;
    for (standing, line) in panel.standings.iter().zip(0..) {
        let middle = top + HEAD_HEIGHT + BAR_HEIGHT * line;
        let (family, summary) = (standing.entry.family, standing.summary);
        let ink = if family == Family::Xiio { color(family) } else { INK };
        root.draw_text(standing.entry.name, &style(12, &ink, HPos::Right), (x(0.0) - 6, middle))?;
        let bar = [(x(0.0), middle - 6), (x(summary.median), middle + 6)];
        root.draw(&Rectangle::new(bar, color(family).filled()))?;
        let range = [(x(summary.min), middle), (x(summary.max), middle)];
        root.draw(&PathElement::new(range, INK.mix(0.55)))?;
        let end = x(summary.median.max(summary.max)) + 5;
        root.draw_text(&number(summary.median), &style(11, &ink, HPos::Left), (end, middle))?;
    }
    Ok(())
}
