//! A report as one HTML page that needs nothing else: no scripts, no fonts, plots as inline SVG.

mod plots;

use anyhow::Result;
use askama::Template;
use ids_core::Report;
use ids_core::evaluate::{Estimate, Interval};

/// The page, `templates/report.html`.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    /// The whole report as text: every figure of the page, and those that it leaves out.
    text: String,
    classes: String,
    confusion: String,
    predicted: String,
    attack: String,
    precision: String,
}

/// The page of a report.
///
/// # Errors
/// Where a plot cannot be drawn.
pub(crate) fn page(report: &Report) -> Result<String> {
    let calibration = &report.calibration;
    let page = Page {
        report,
        text: report.to_string(),
        classes: plots::classes(&report.quality, &report.intervals)?,
        confusion: plots::confusion(&report.quality)?,
        predicted: plots::reliability(&calibration.predicted, "probability of the predicted class", "share right")?,
        attack: plots::reliability(&calibration.attack, "probability of an attack", "share of attacks")?,
        precision: plots::precision(&report.alarms)?,
    };
    Ok(page.render()?)
}

impl Page<'_> {
    /// The figures at the top: name, value, interval, what it is.
    fn headline(&self) -> Vec<(&'static str, String, String, &'static str)> {
        let (quality, of) = (&self.report.quality, &self.report.intervals);
        let percent = |value: f64| format!("{:.2} %", 100.0 * value);
        let of_percent = |Interval { low, high }: Interval| format!("{:.2} to {:.2} %", 100.0 * low, 100.0 * high);
        let macro_f1 = format!("{:.3} to {:.3}", of.macro_f1.low, of.macro_f1.high);
        let alarms = &self.report.alarms;
        vec![
            (
                "attacks caught",
                percent(quality.attack_recall),
                of_percent(of.attack_recall),
                "called an attack, of whatever class",
            ),
            ("false alarms", percent(quality.false_alarm_rate), of_percent(of.false_alarm_rate), "of benign flows"),
            ("macro-F1", format!("{:.3}", quality.macro_f1), macro_f1, "mean over the classes"),
            ("accuracy", percent(quality.accuracy), of_percent(of.accuracy), "the right class"),
            (
                "calibration error",
                format!("{:.3}", self.report.calibration.predicted.ece),
                format!("Brier score {:.3}", self.report.calibration.brier),
                "of the predicted class",
            ),
            (
                "attacks alerted",
                percent(alarms.recall.value),
                of_percent(alarms.recall.interval),
                if alarms.has_thresholds { "by the model's thresholds" } else { "the model has no thresholds" },
            ),
        ]
    }

    /// What is to be expected a day, if that was asked: in words.
    fn expected(&self) -> Option<String> {
        let asked = self.report.alarms.asked.as_ref()?;
        let of = |Estimate { value, interval: Interval { low, high } }: Estimate| {
            format!("{value:.1} ({low:.1} to {high:.1})")
        };
        let daily = match (asked.flows_per_day, asked.true_alarms_per_day, asked.false_alarms_per_day) {
            (Some(flows), Some(of_attacks), Some(of_benign)) => {
                format!(
                    " and of {flows} flows a day, {} true and {} false alarms come in a day:",
                    of(of_attacks),
                    of(of_benign)
                )
            }
            _ => ",".to_owned(),
        };
        let precision = of(asked.precision.times(100.0));
        Some(format!("Where {} of the flows are attacks{daily} {precision} % of the alarms are true.", asked.base_rate))
    }
}
