//! How the value of a row grows with its size: flat is good.

use plotters::prelude::*;

use super::plot::{FAINT, INK, color};
use crate::results::{Results, directory};
use crate::row::{Entry, Family, Row};
use crate::rows::ROWS;

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The rows of which `n` is the size.
const GROWING: &[&str] = &["spawn", "switch", "timer", "echo"];
const PANEL: (u32, u32) = (630, 420);

pub fn write(results: &Results) {
    let path = directory().join("growth.svg");
    draw(results, &path).expect("the plot can be written");
    eprintln!("{}", path.display());
}

struct Line {
    entry: &'static Entry,
    points: Vec<(f64, f64)>,
}

fn lines(results: &Results, row: &'static Row) -> Vec<Line> {
    let line = |entry| {
        let point = |case| {
            let summary = results.summary(row, case, entry, row.metrics[0].key)?;
            Some((case.n as f64, summary.median))
        };
        let points: Vec<_> = row.cases.iter().filter(|case| case.n > 1).filter_map(point).collect();
        (points.len() > 1).then_some(Line { entry, points })
    };
    row.entries.iter().filter_map(line).collect()
}

fn draw(results: &Results, path: &std::path::Path) -> Drawn {
    let rows = ROWS.iter().filter(|row| GROWING.contains(&row.name));
    let panels: Vec<_> = rows.map(|row| (row, lines(results, row))).filter(|(_, lines)| !lines.is_empty()).collect();
    if panels.is_empty() {
        return Ok(());
    }
    let n_lines = panels.len().div_ceil(2);
    let root = SVGBackend::new(path, (PANEL.0 * 2, PANEL.1 * n_lines as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (row, lines)) in root.split_evenly((n_lines, 2)).iter().zip(&panels) {
        draw_panel(area, row, lines)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, row: &Row, lines: &[Line]) -> Drawn {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (least, most) =
        points().fold((f64::MAX, 0.0), |(least, most): (f64, f64), &(_, y)| (least.min(y), most.max(y)));
    let (from, to) = points().fold((f64::MAX, 0.0), |(from, to): (f64, f64), &(x, _)| (from.min(x), to.max(x)));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{} ({})", row.title, row.metrics[0].unit), ("sans-serif", 15).into_font().color(&INK))
        .margin(12)
        .margin_right(110)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d((from..to).log_scale(), (least * 0.8..most * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("how many at once")
        .axis_style(FAINT)
        .label_style(("sans-serif", 11).into_font().color(&INK))
        .draw()?;
    for Line { entry, points } in lines {
        let width = if entry.family == Family::Xiio { 3 } else { 1 };
        let style = color(entry.family).stroke_width(width);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        let end = *points.last().expect("a line has two points");
        let label = ("sans-serif", 11).into_font().color(&color(entry.family));
        chart.plotting_area().draw(&(EmptyElement::at(end) + Text::new(entry.name, (6, -5), label)))?;
    }
    Ok(())
}
