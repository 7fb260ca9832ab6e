//! A report as text: what `ids evaluate` prints.

use std::fmt;

use super::alarms::{Alarms, AtBaseRate};
use super::calibration::{Calibration, Reliability};
use super::cases::{RowCounts, SplitRows, UnknownClass};
use super::comparison::Comparison;
use super::interval::{Estimate, Interval};
use super::report::Report;
use crate::data_card::grouped;
use crate::split::{SideCounts, Split};

/// Classes that the model does not know, of which so many are named.
const MOST_UNKNOWN: usize = 20;

impl fmt::Display for Report {
    /// Rows, figures with their intervals, confusion matrix, calibration, alarms, comparison.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model     {}", self.model)?;
        rows(f, self)?;
        writeln!(f)?;
        figures(f, self)?;
        writeln!(f)?;
        self.quality.write_confusion(f)?;
        writeln!(f, "\n")?;
        calibration(f, &self.calibration)?;
        writeln!(f)?;
        alarms(f, &self.alarms)?;
        if let Some(comparison) = &self.comparison {
            writeln!(f)?;
            compared(f, &self.model, comparison)?;
        }
        let bootstrap = self.bootstrap;
        write!(
            f,
            "\nIn brackets 95 % intervals: percentiles of {} bootstrap replicates of the rows (Efron & Tibshirani 1993), \
             seed {};\nof shares that are 0 or 1, and of bins and thresholds, Wilson's (1927). An F1 of 0 or 1 has none, and\na difference of \
             two shares that are both 0 or both 1 tells nothing. Rows count as independent.",
            grouped(u64::from(bootstrap.replicates)),
            bootstrap.seed
        )
    }
}

fn rows(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let RowCounts { read, rejected, split, spared, unscored, unlabelled, unknown, first_fault } = &report.input;
    writeln!(f, "rows      {:>10} read from {}", grouped(*read), report.source)?;
    let mut line = |n: u64, what: &str| if n > 0 { writeln!(f, "          {:>10} {what}", grouped(n)) } else { Ok(()) };
    line(*rejected, "are no flows")?;
    if let Some(SplitRows { holdout, counts }) = split {
        let SideCounts { train, test, repeated, unplaced } = *counts;
        let (share, seed) = (holdout.test_share, holdout.seed);
        line(*spared, "are on the test side and spared")?;
        let by = match &holdout.split {
            Split::Hash => format!("by a hash of all features, share {share}, seed {seed}"),
            Split::Group { columns } if columns.is_empty() => format!("by addresses, share {share}, seed {seed}"),
            Split::Group { columns } => format!("by {}, share {share}, seed {seed}", columns.join(", ")),
            Split::Time { column } => format!("the last by `{column}`, share {share}"),
        };
        line(train, "are on the training side and not looked at")?;
        line(repeated, "equal a training row and are left out of the test")?;
        line(unplaced, "have no value to split by and are left out")?;
        line(test, &format!("are on the test side: {by}"))?;
    }
    line(*unscored, "of these the model cannot score")?;
    line(*unlabelled, "of these have no label")?;
    line(*unknown, "of these are of classes that the model was not taught: in none of the figures")?;
    line(report.quality.rows, "are evaluated")?;
    for caution in &report.cautions {
        writeln!(f, "beware    {}", caution.replace(": ", ":\n          "))?;
    }
    if let Some(fault) = first_fault {
        writeln!(f, "          the first without a score: {fault}")?;
    }
    if !report.unknown_classes.is_empty() {
        writeln!(f, "unknown   called an attack, of the rows of classes that the model was not taught:")?;
    }
    for UnknownClass { class, rows, called_attack } in report.unknown_classes.iter().take(MOST_UNKNOWN) {
        writeln!(f, "          {:>10} of {:>10}  {class}", grouped(*called_attack), grouped(*rows))?;
    }
    match report.unknown_classes.len().saturating_sub(MOST_UNKNOWN) {
        0 => Ok(()),
        more => writeln!(f, "          and of {more} classes more"),
    }
}

fn figures(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let (quality, intervals) = (&report.quality, &report.intervals);
    let width = quality.classes.iter().map(|class| class.class.chars().count()).max().unwrap_or(0);
    let width = width.max("macro average".len()) + 1;
    writeln!(f, "{:width$}  {:20}  {:20}  {:20}  {:>8}", "class", "precision", "recall", "F1", "support")?;
    for (class, of) in quality.classes.iter().zip(&intervals.classes) {
        let [precision, recall, f1] = [(class.precision, of.precision), (class.recall, of.recall), (class.f1, of.f1)]
            .map(|(x, of)| figure(x, of));
        writeln!(f, "{:width$}  {precision:20}  {recall:20}  {f1:20}  {:>8}", class.class, grouped(class.support))?;
    }
    let macro_f1 = figure(quality.macro_f1, Some(intervals.macro_f1));
    writeln!(f, "{:width$}  {:20}  {:20}  {macro_f1:20}  {:>8}", "macro average", "", "", grouped(quality.rows))?;
    writeln!(f)?;
    let share = |value, interval| percent(Estimate { value, interval });
    writeln!(f, "accuracy          {}", share(quality.accuracy, intervals.accuracy))?;
    let caught = share(quality.attack_recall, intervals.attack_recall);
    writeln!(f, "attacks caught    {caught}  called an attack, of whatever class")?;
    let rate = share(quality.false_alarm_rate, intervals.false_alarm_rate);
    writeln!(f, "false alarms      {rate}  of benign flows called an attack")
}

fn calibration(f: &mut fmt::Formatter<'_>, calibration: &Calibration) -> fmt::Result {
    let Calibration { predicted, attack, brier, attack_brier } = calibration;
    let n_bins = predicted.bins.len();
    writeln!(
        f,
        "calibration: is a probability of 0.8 right 8 times in 10? (error: ECE, {n_bins} bins, Guo et al. 2017)"
    )?;
    writeln!(f, "  of the predicted class   error {:.4}   Brier score {brier:.4} (0 to 2)", predicted.ece)?;
    writeln!(f, "  of an attack             error {:.4}   Brier score {attack_brier:.4} (0 to 1)", attack.ece)?;
    writeln!(f, "  {:14}  {:>10}  {:26}  {:>10}  of an attack", "", "of the", "predicted class", "")?;
    let head = |holds: &str| format!("{:>10}  {:>6}  {holds:20}", "rows", "mean");
    writeln!(f, "  {:14}  {}  {}", "probability", head("right"), head("attacks").trim_end())?;
    for (position, bin) in predicted.bins.iter().enumerate() {
        let line = format!("{}  {}", of_bin(predicted, position), of_bin(attack, position));
        writeln!(f, "  {:.3} to {:.3}  {}", bin.low, bin.high, line.trim_end())?;
    }
    Ok(())
}

fn of_bin(reliability: &Reliability, position: usize) -> String {
    let bin = &reliability.bins[position];
    match bin.rows {
        0 => format!("{:>10}  {:>6}  {:20}", "-", "", ""),
        rows => format!("{:>10}  {:6.3}  {:20}", grouped(rows), bin.mean, figure(bin.observed, Some(bin.interval))),
    }
}

fn alarms(f: &mut fmt::Formatter<'_>, alarms: &Alarms) -> fmt::Result {
    let whose = if alarms.has_thresholds {
        "flows called an attack with a probability that reaches the model's alert threshold"
    } else {
        "flows called an attack (the model has no alert thresholds)"
    };
    writeln!(f, "alarms: {whose}")?;
    let Alarms { caught, attack_rows, false_alarms, benign_rows, .. } = alarms;
    writeln!(f, "  of attacks   {}  {} of {}", percent(alarms.recall), grouped(*caught), grouped(*attack_rows))?;
    let rate = percent(alarms.false_alarm_rate);
    writeln!(f, "  of benign    {rate}  {} of {}", grouped(*false_alarms), grouped(*benign_rows))?;
    if let Some(asked) = &alarms.asked {
        let AtBaseRate { base_rate, precision, flows_per_day, true_alarms_per_day, false_alarms_per_day } = asked;
        let flows = flows_per_day.map(|flows| format!(" and {} flows a day", number(flows))).unwrap_or_default();
        writeln!(f, "  where {base_rate} of the flows are attacks{flows}:")?;
        if let (Some(of_attacks), Some(of_benign)) = (true_alarms_per_day, false_alarms_per_day) {
            writeln!(f, "    true alarms a day   {}", daily(*of_attacks))?;
            writeln!(f, "    false alarms a day  {}", daily(*of_benign))?;
        }
        writeln!(f, "    alarms that are true {}", percent(*precision))?;
    }
    writeln!(f, "  share of attacks among flows -> share of alarms that are true (Axelsson 2000)")?;
    let is_decade = |at: &&AtBaseRate| (at.base_rate.log10() - at.base_rate.log10().round()).abs() < 1e-9;
    for AtBaseRate { base_rate, precision, .. } in alarms.base_rates.iter().filter(is_decade) {
        writeln!(f, "    {base_rate:<8}  {}", percent(*precision))?;
    }
    writeln!(f, "  if all flows with P(attack) from a threshold on were alarms, of whatever class:")?;
    writeln!(f, "    threshold  {:25}  of benign", "of attacks")?;
    for row in &alarms.attack_thresholds {
        let (recall, rate) = (percent(row.recall), percent(row.false_alarm_rate));
        writeln!(f, "    {:<9}  {recall:25}  {rate}", row.threshold)?;
    }
    Ok(())
}

fn compared(f: &mut fmt::Formatter<'_>, model: &str, comparison: &Comparison) -> fmt::Result {
    let Comparison { versus, differences, mcnemar, .. } = comparison;
    writeln!(f, "{model} versus {versus}, on the same rows")?;
    if model == versus {
        writeln!(f, "  They are of one version and predict alike; their thresholds for alerts may differ.")?;
    }
    writeln!(f, "  {:16}  {:>12}  {:>12}  difference", "", model, versus)?;
    for row in differences {
        let Interval { low, high } = row.difference.interval;
        let name = row.figure.replace('_', " ");
        let value = row.difference.value;
        writeln!(f, "  {name:16}  {:12.4}  {:12.4}  {value:+.4} [{low:+.4}, {high:+.4}]", row.model, row.versus)?;
    }
    let method = match mcnemar.method {
        "exact" => "exact",
        _ => "chi-squared with Edwards' correction",
    };
    let [only_model, only_versus] = [mcnemar.only_model, mcnemar.only_versus].map(grouped);
    writeln!(f, "  only {model} has the class right in {only_model} rows, only {versus} in {only_versus}:")?;
    let p = if mcnemar.p_value < 1e-4 { "p below 0.0001".to_owned() } else { format!("p = {:.4}", mcnemar.p_value) };
    writeln!(f, "  {p} (McNemar 1947, {method})")
}

/// `0.912 [0.901, 0.923]`; without an interval, there is no figure.
fn figure(value: f64, interval: Option<Interval>) -> String {
    match interval {
        Some(Interval { low, high }) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        None if value > 0.0 => format!("{value:.3}"),
        None => "-".into(),
    }
}

/// ` 91.20 % [90.10, 92.30]`.
fn percent(share: Estimate) -> String {
    let Estimate { value, interval: Interval { low, high } } = share.times(100.0);
    format!("{value:6.2} % [{low:.2}, {high:.2}]")
}

fn daily(of: Estimate) -> String {
    let Estimate { value, interval: Interval { low, high } } = of;
    format!("{:>9} [{}, {}]", number(value), number(low), number(high))
}

/// A number of flows: whole from 100 on.
fn number(x: f64) -> String {
    if x < 100.0 { format!("{x:.1}") } else { grouped(x.round() as u64) }
}
