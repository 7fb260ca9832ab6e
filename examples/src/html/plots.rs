//! The plots of a report, as SVG.

use anyhow::Result;
use ids_core::Quality;
use ids_core::evaluate::{Alarms, Intervals, Reliability};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const INK: RGBColor = RGBColor(0x33, 0x3d, 0x47);
const FAINT: RGBColor = RGBColor(0xdd, 0xe2, 0xe6);
const BLUE: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const GREEN: RGBColor = RGBColor(0x2e, 0x9d, 0x6b);
const ORANGE: RGBColor = RGBColor(0xd9, 0x7b, 0x1c);
/// How wide a letter of a label is, in pixels, about.
const LETTER: f64 = 6.6;
/// Longer class names are cut.
const MOST_LETTERS: usize = 26;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws on a white area of that size; the SVG.
fn drawn(width: i32, height: i32, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

fn text(area: &Area<'_>, words: &str, at: (i32, i32), anchor: HPos, color: RGBColor) -> Result<()> {
    let style = ("sans-serif", 12).into_font().color(&color).pos(Pos::new(anchor, VPos::Center));
    Ok(area.draw(&Text::new(words.to_owned(), at, style))?)
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= MOST_LETTERS {
        return name.to_owned();
    }
    name.chars().take(MOST_LETTERS - 1).chain(['…']).collect()
}

/// Pixels that the names of the classes take.
fn width_of_names(quality: &Quality) -> i32 {
    let longest = quality.classes.iter().map(|class| shortened(&class.class).chars().count()).max().unwrap_or(0);
    (longest as f64 * LETTER) as i32 + 16
}

/// Precision, recall and F1 of each class as bars, with their intervals.
pub(super) fn classes(quality: &Quality, intervals: &Intervals) -> Result<String> {
    const BAR: i32 = 8;
    const GROUP: i32 = 3 * BAR + 10;
    let left = width_of_names(quality);
    let (width, top) = (720, 28);
    let height = top + GROUP * quality.classes.len() as i32 + 26;
    let x = |value: f64| left + (value * f64::from(width - left - 20)).round() as i32;
    drawn(width, height, |area| {
        for (position, (name, color)) in
            [("precision", BLUE), ("recall", GREEN), ("F1", ORANGE)].into_iter().enumerate()
        {
            let at = left + 100 * position as i32;
            area.draw(&Rectangle::new([(at, 8), (at + 12, 18)], color.filled()))?;
            text(area, name, (at + 18, 14), HPos::Left, INK)?;
        }
        for tenth in 0..=5 {
            let value = f64::from(tenth) / 5.0;
            area.draw(&PathElement::new([(x(value), top), (x(value), height - 22)], FAINT))?;
            text(area, &format!("{value:.1}"), (x(value), height - 12), HPos::Center, INK)?;
        }
        for (row, (class, of)) in quality.classes.iter().zip(&intervals.classes).enumerate() {
            let y = top + GROUP * row as i32 + 5;
            text(area, &shortened(&class.class), (left - 8, y + 3 * BAR / 2), HPos::Right, INK)?;
            let bars =
                [(class.precision, of.precision, BLUE), (class.recall, of.recall, GREEN), (class.f1, of.f1, ORANGE)];
            for (bar, (value, interval, color)) in bars.into_iter().enumerate() {
                let Some(interval) = interval else { continue };
                let y = y + BAR * bar as i32;
                area.draw(&Rectangle::new([(left, y), (x(value), y + BAR - 2)], color.mix(0.75).filled()))?;
                let middle = y + BAR / 2 - 1;
                area.draw(&PathElement::new([(x(interval.low), middle), (x(interval.high), middle)], INK))?;
                for end in [interval.low, interval.high] {
                    area.draw(&PathElement::new([(x(end), middle - 2), (x(end), middle + 2)], INK))?;
                }
            }
        }
        Ok(())
    })
}

/// Rows by actual class (down) and predicted class (across); the colour is the share of the actual class's rows.
pub(super) fn confusion(quality: &Quality) -> Result<String> {
    const CELL: i32 = 50;
    const ROW: i32 = 26;
    let left = width_of_names(quality) + 26;
    let n = quality.classes.len() as i32;
    let top = 24;
    drawn(left + CELL * n + 8, top + ROW * n + 8, |area| {
        for (row, (class, counts)) in quality.classes.iter().zip(&quality.confusion).enumerate() {
            let y = top + ROW * row as i32;
            let number = row + 1;
            text(area, &format!("{} ({number})", shortened(&class.class)), (left - 8, y + ROW / 2), HPos::Right, INK)?;
            text(area, &format!("({number})"), (left + CELL * row as i32 + CELL / 2, 12), HPos::Center, INK)?;
            for (column, &count) in counts.iter().enumerate() {
                let x = left + CELL * column as i32;
                let share = count as f64 / class.support.max(1) as f64;
                // From white; a little at once, so that what is rare is seen.
                let depth = if count == 0 { 0.0 } else { 0.06 + 0.94 * share };
                let toward = |full: u8| (255.0 - depth * (255.0 - f64::from(full))) as u8;
                let fill = RGBColor(toward(BLUE.0), toward(BLUE.1), toward(BLUE.2));
                area.draw(&Rectangle::new([(x, y), (x + CELL, y + ROW)], fill.filled()))?;
                area.draw(&Rectangle::new([(x, y), (x + CELL, y + ROW)], FAINT))?;
                let ink = if depth > 0.55 { WHITE } else { INK };
                text(area, &count.to_string(), (x + CELL / 2, y + ROW / 2), HPos::Center, ink)?;
            }
        }
        Ok(())
    })
}

/// Shares against mean probabilities, with their intervals; below them how many rows each bin has.
pub(super) fn reliability(reliability: &Reliability, x: &str, y: &str) -> Result<String> {
    drawn(440, 460, |area| {
        let (upper, lower) = area.split_vertically(340);
        let mut chart = ChartBuilder::on(&upper)
            .margin(10)
            .x_label_area_size(22)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        let axes = ("sans-serif", 12).into_font().color(&INK);
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(FAINT).axis_style(FAINT).label_style(axes.clone());
        mesh.x_labels(6).y_labels(6).y_desc(y).draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], INK.mix(0.4)))?;
        let filled: Vec<_> = reliability.bins.iter().filter(|bin| bin.rows > 0).collect();
        chart.draw_series(filled.iter().map(|bin| {
            ErrorBar::new_vertical(bin.mean, bin.interval.low, bin.observed, bin.interval.high, BLUE.filled(), 8)
        }))?;
        chart.draw_series(LineSeries::new(filled.iter().map(|bin| (bin.mean, bin.observed)), BLUE.stroke_width(2)))?;
        let most = reliability.bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
        let mut counts = ChartBuilder::on(&lower)
            .margin(10)
            .margin_top(0)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..1.0, 0u64..most)?;
        let mut mesh = counts.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(TRANSPARENT).axis_style(FAINT).label_style(axes);
        mesh.x_labels(6).y_labels(2).x_desc(x).y_desc("rows").draw()?;
        let bars = reliability.bins.iter();
        counts.draw_series(
            bars.map(|bin| Rectangle::new([(bin.low, 0), (bin.high, bin.rows)], BLUE.mix(0.35).filled())),
        )?;
        Ok(())
    })
}

/// Share of the alarms that are true against the share of attacks among the flows, with its interval.
pub(super) fn precision(alarms: &Alarms) -> Result<String> {
    drawn(720, 320, |area| {
        let ends = |pick: fn(f64, f64) -> f64, start| alarms.base_rates.iter().map(|at| at.base_rate).fold(start, pick);
        let (least, most) = (ends(f64::min, 1.0), ends(f64::max, 0.0));
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d((least..most).log_scale(), 0.0..1.0)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(FAINT).axis_style(FAINT);
        mesh.label_style(("sans-serif", 12).into_font().color(&INK)).x_label_formatter(&|x| format!("{x}"));
        mesh.y_labels(6).x_desc("share of attacks among the flows").y_desc("share of alarms that are true").draw()?;
        let low = alarms.base_rates.iter().map(|at| (at.base_rate, at.precision.interval.low));
        let high = alarms.base_rates.iter().rev().map(|at| (at.base_rate, at.precision.interval.high));
        chart.draw_series([Polygon::new(low.chain(high).collect::<Vec<_>>(), BLUE.mix(0.2))])?;
        let points = alarms.base_rates.iter().map(|at| (at.base_rate, at.precision.value));
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        if let Some(asked) = &alarms.asked {
            let at = (asked.base_rate.clamp(least, most), asked.precision.value);
            chart.draw_series([Circle::new(at, 5, ORANGE.filled())])?;
        }
        Ok(())
    })
}
