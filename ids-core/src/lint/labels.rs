//! Rows and classes: duplicates, contradictions, small classes, labels that tell each other.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rows::Rows;
use super::text::{grouped, percent};
use super::{FEW_ROWS, Finding, Severity};
use crate::schema::Labels;

/// What random splits hold out, for the rows that would straddle one.
const TEST_SHARE: f64 = 0.3;

pub(super) fn findings(rows: &Rows, labels: &Labels) -> Vec<Finding> {
    let mut findings = equal_rows(rows);
    findings.extend(classes(rows, labels));
    findings.extend(labels_that_tell(rows));
    findings
}

/// Rows that are there more than once, and those that have several classes.
fn equal_rows(rows: &Rows) -> Vec<Finding> {
    /// Of the rows with one hash.
    #[derive(Default)]
    struct Group {
        rows: u64,
        most_of_a_class: u64,
        n_classes: u32,
    }
    let mut groups: FxHashMap<u64, Group> = FxHashMap::default();
    for (&(hash, _), &n) in &rows.equal {
        let group = groups.entry(hash).or_default();
        group.rows += u64::from(n);
        group.most_of_a_class = group.most_of_a_class.max(u64::from(n));
        group.n_classes += 1;
    }
    let all = rows.n_rows as f64;
    let repeated: Vec<&Group> = groups.values().filter(|group| group.rows > 1).collect();
    let mut findings = Vec::new();
    if !repeated.is_empty() {
        let copies: u64 = repeated.iter().map(|group| group.rows - 1).sum();
        // Of m equal rows, one is tested with probability t, and of the others one at least is learnt with 1 - t^(m-1).
        // Summed in order of size: the sum must not depend on the order of a hash map.
        let mut sizes: Vec<u64> = repeated.iter().map(|group| group.rows).collect();
        sizes.sort_unstable();
        let straddling = |&m: &u64| m as f64 * TEST_SHARE * (1.0 - TEST_SHARE.powf(m as f64 - 1.0));
        let straddling: f64 = sizes.iter().map(straddling).sum();
        let share = straddling / (TEST_SHARE * all);
        let detail = format!(
            "{} rows equal an earlier one in all features ({}), in {} groups; a random split that tests {} of the rows would have \
             learnt an equal of {} of the {} it tests, a split by hash (ids train, ids evaluate --split hash) of none",
            grouped(copies),
            percent(copies as f64 / all),
            grouped(repeated.len() as u64),
            percent(TEST_SHARE),
            grouped(straddling.round() as u64),
            grouped((TEST_SHARE * all).round() as u64),
        );
        let severity = if share >= 0.05 {
            Severity::Severe
        } else if share >= 0.005 {
            Severity::Warning
        } else {
            Severity::Note
        };
        let why = "a model is tested on what it has learnt by heart, and looks better than it is";
        findings.push(
            Finding::new("duplicates", severity, detail, why)
                .figure("rows", copies as f64)
                .figure("groups", repeated.len() as f64)
                .figure("straddling", straddling),
        );
    }
    let contradicting: u64 = groups.values().filter(|group| group.n_classes > 1).map(|group| group.rows).sum();
    if contradicting > 0 {
        let best = groups.values().map(|group| group.most_of_a_class).sum::<u64>() as f64 / all;
        let detail = format!(
            "{} rows ({}) equal a row of another class in all features: no model can be more accurate on this data than {:.2} %",
            grouped(contradicting),
            percent(contradicting as f64 / all),
            100.0 * best
        );
        let severity = if best < 0.99 { Severity::Warning } else { Severity::Note };
        let why = "what the features do not tell cannot be learnt; a model that claims more has seen something else";
        findings.push(
            Finding::new("contradiction", severity, detail, why)
                .figure("rows", contradicting as f64)
                .figure("best_accuracy", best),
        );
    }
    findings
}

fn classes(rows: &Rows, labels: &Labels) -> Vec<Finding> {
    let mut findings = Vec::new();
    let counts = || rows.classes.iter().zip(&rows.class_counts);
    if let [only] = &rows.classes[..] {
        let detail = format!("every row is of class `{only}`");
        findings
            .push(Finding::new("one_class", Severity::Severe, detail, "there is nothing to tell apart").about([only]));
    } else if !rows.classes.contains(&labels.benign) {
        let detail = format!("no row is of the benign class `{}`", labels.benign);
        let why = "false alarms, which decide whether a detector can be used, cannot be measured";
        findings.push(Finding::new("no_benign_rows", Severity::Severe, detail, why).about([&labels.benign]));
    }
    let mut few: Vec<_> = counts().filter(|(_, count)| **count < FEW_ROWS).collect();
    few.sort_by_key(|(class, count)| (**count, *class));
    if !few.is_empty() {
        let list: Vec<_> = few.iter().map(|(class, count)| format!("`{class}` {count}")).collect();
        let detail = format!("classes of fewer than {FEW_ROWS} rows: {}", list.join(", "));
        let why = "a few rows more or less move their recall, and macro-F1 with it, more than any model does";
        findings.push(
            Finding::new("few_rows", Severity::Warning, detail, why)
                .about(few.iter().map(|(class, _)| class.as_str()))
                .figure("classes", few.len() as f64),
        );
    }
    findings
}

/// Label columns of which one tells another in every row.
fn labels_that_tell(rows: &Rows) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, one) in rows.labels.iter().enumerate() {
        for (j, other) in rows.labels.iter().enumerate().filter(|(j, _)| *j != i) {
            let pairs: FxHashSet<(u32, u32)> = rows.label_sets.keys().map(|set| (set[i], set[j])).collect();
            let values = |position: fn(&(u32, u32)) -> u32| pairs.iter().map(position).collect::<FxHashSet<_>>().len();
            let (of_one, of_other) = (values(|pair| pair.0), values(|pair| pair.1));
            // One that never changes is told by anything.
            if pairs.len() == of_one && of_other > 1 {
                let detail =
                    format!("`{}` tells `{}` in every row; neither is an input of a model", one.name, other.name);
                let why =
                    "a label that is taken for a feature decides everything: leave both out where you train elsewhere";
                findings.push(Finding::new("labels_tell", Severity::Note, detail, why).about([&one.name, &other.name]));
            }
        }
    }
    findings
}
