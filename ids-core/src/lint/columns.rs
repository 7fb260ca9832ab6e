//! Columns: those that decide alone, name the row, never change, or say the same as another.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use super::rows::{Column, MISSING, Rows, Values};
use super::rule::{Told, told};
use super::text::{grouped, percent};
use super::{DECIDES, Finding, NEARLY_DECIDES, Severity};
use crate::schema::{ColumnKind, Labels};

/// Share of the rows with a value from which on values are mostly unique.
const MOSTLY_UNIQUE: f64 = 0.9;
/// A value says a class where so many of its rows are of it, ...
const SAYS: f64 = 0.99;
/// ... and it is worth telling where so many of the rows of the class have it.
const WORTH_TELLING: f64 = 0.2;
/// From so many rows on a value or column is judged.
const ENOUGH: usize = 100;

pub(super) fn findings(rows: &Rows, labels: &Labels) -> Vec<Finding> {
    let sample = &rows.sample;
    let benign = rows.classes.iter().position(|class| *class == labels.benign).map(|position| position as u16);
    let there: Vec<&Column> = sample.columns.iter().filter(|column| !column.is_empty()).collect();
    let (constant, changing): (Vec<&Column>, Vec<&Column>) = there.into_iter().partition(|column| is_constant(column));
    let mut findings = Vec::new();
    for column in &changing {
        if let Some(told) = told(sample, column, rows.classes.len(), benign) {
            findings.extend(decides(column, told));
        }
    }
    let inputs: Vec<&Column> = changing.into_iter().filter(|column| is_input(column)).collect();
    for column in &inputs {
        findings.extend(names_the_row(column));
    }
    for column in &inputs {
        findings.extend(values_that_decide(rows, column));
    }
    findings.extend(constants(&constant));
    findings.extend(repeated(&inputs));
    findings
}

fn is_input(column: &Column) -> bool {
    column.kind != ColumnKind::Identifier
}

fn is_constant(column: &Column) -> bool {
    match &column.values {
        Values::Numbers(values) => values.windows(2).all(|pair| pair[0] == pair[1] || pair.iter().all(|x| x.is_nan())),
        Values::Texts { codes, .. } => codes.windows(2).all(|pair| pair[0] == pair[1]),
    }
}

/// A column that alone tells attacks from benign flows.
fn decides(column: &Column, told: Told) -> Option<Finding> {
    if told.attacks < NEARLY_DECIDES {
        return None;
    }
    let name = &column.name;
    let tells = format!(
        "balanced accuracy {:.2} between benign and attack, {:.2} between all classes, on rows held out by hash",
        told.attacks, told.classes
    );
    let finding = if is_input(column) {
        let (severity, how) =
            if told.attacks >= DECIDES { (Severity::Severe, "decides") } else { (Severity::Warning, "nearly decides") };
        let why = "what one number tells is often how the data was made (one machine attacks, one tool has its own TTL), and \
                   not what an attack is: a model learns that and fails elsewhere";
        Finding::new("decides_alone", severity, format!("`{name}` alone {how} the label: {tells}"), why)
    } else {
        let why = "it names hosts or moments of this recording; the schema rightly keeps it from models";
        Finding::new(
            "identifier_decides",
            Severity::Note,
            format!("`{name}`, which is no input, tells the label: {tells}"),
            why,
        )
    };
    Some(finding.about([name]).figure("attack_or_not", told.attacks).figure("classes", told.classes))
}

/// An input whose values name the row: a number of the row, a time, a number drawn at random.
fn names_the_row(column: &Column) -> Option<Finding> {
    let Values::Numbers(values) = &column.values else { return None };
    let there: Vec<f64> = values.iter().copied().filter(|value| value.is_finite() && *value != 0.0).collect();
    if there.len() < ENOUGH {
        return None;
    }
    let rising = there.windows(2).filter(|pair| pair[0] <= pair[1]).count() as f64 / (there.len() - 1) as f64;
    let mut sorted = there.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let unique = sorted.chunk_by(|a, b| a == b).count() as f64 / there.len() as f64;
    let name = &column.name;
    if rising >= 0.99 && unique >= MOSTLY_UNIQUE {
        let detail = format!(
            "`{name}` rises from row to row ({} of the steps, {} of the values unique): a time, or the number of the row",
            percent(rising),
            percent(unique)
        );
        let why = "attacks were recorded one after the other, so when a row was written tells its class; nothing of it holds \
                   tomorrow: make it an `identifier` in the schema";
        let finding = Finding::new("rises_with_row", Severity::Severe, detail, why);
        return Some(finding.about([name]).figure("rising", rising).figure("unique", unique));
    }
    // Kolmogorov and Smirnov's distance from what is drawn evenly from 0 to 2^32.
    const RANGE: f64 = 4_294_967_296.0;
    let n = sorted.len() as f64;
    let distance = (1..).zip(&sorted).map(|(i, value)| (f64::from(i) / n - value / RANGE).abs()).fold(0.0, f64::max);
    let is_whole = there.iter().all(|value| value.fract() == 0.0);
    if is_whole && unique >= MOSTLY_UNIQUE && distance < 0.05 {
        let detail = format!(
            "`{name}` is drawn at random where it is not 0: whole numbers spread evenly below 2^32, {} unique (TCP's initial \
             sequence numbers are)",
            percent(unique)
        );
        let why = "beyond whether it is 0 it says nothing; trees find splits in noise where rows are few";
        let finding = Finding::new("random_number", Severity::Warning, detail, why);
        return Some(finding.about([name]).figure("unique", unique).figure("distance", distance));
    }
    None
}

/// Values of a category that go with one class.
fn values_that_decide(rows: &Rows, column: &Column) -> Option<Finding> {
    let Values::Texts { codes, names, .. } = &column.values else { return None };
    let n_classes = rows.classes.len();
    let mut counts: FxHashMap<u32, Vec<u64>> = FxHashMap::default();
    let mut totals = vec![0u64; n_classes];
    for (&code, &class) in codes.iter().zip(&rows.sample.classes) {
        counts.entry(code).or_insert_with(|| vec![0; n_classes])[usize::from(class)] += 1;
        totals[usize::from(class)] += 1;
    }
    let mut found = Vec::new();
    for (&code, of_classes) in counts.iter().filter(|(code, _)| **code != MISSING) {
        let n: u64 = of_classes.iter().sum();
        let (class, &most) = of_classes.iter().enumerate().max_by_key(|(_, count)| **count)?;
        let (purity, covered) = (most as f64 / n as f64, most as f64 / totals[class] as f64);
        if n >= ENOUGH as u64 && purity >= SAYS && covered >= WORTH_TELLING && totals[class] < codes.len() as u64 {
            found.push((n, names[code as usize].as_str(), rows.classes[class].as_str(), purity, covered));
        }
    }
    if found.is_empty() {
        return None;
    }
    found.sort_by_key(|&(n, name, ..)| (std::cmp::Reverse(n), name));
    let covered = found.iter().map(|value| value.4).fold(0.0, f64::max);
    let list: Vec<_> = found
        .iter()
        .map(|(n, name, class, purity, covered)| {
            let (n, purity, covered) = (grouped(*n), percent(*purity), percent(*covered));
            format!("`{name}` ({n} rows) is {purity} `{class}`, and {covered} of `{class}` have it")
        })
        .collect();
    let detail = format!("values of `{}` that go with one class: {}", column.name, list.join("; "));
    let why = "a value that no other class has may be the tool or the set-up of the recording, not the attack";
    Some(
        Finding::new("value_decides", Severity::Warning, detail, why)
            .about([&column.name])
            .figure("values", found.len() as f64)
            .figure("most_of_a_class", covered),
    )
}

fn constants(columns: &[&Column]) -> Option<Finding> {
    let inputs: Vec<&str> =
        columns.iter().filter(|column| is_input(column)).map(|column| column.name.as_str()).collect();
    if inputs.is_empty() {
        return None;
    }
    let detail = format!("columns with one value throughout: {}", list(&inputs));
    let why = "they teach nothing; elsewhere they may change, and no one knows what a model makes of that";
    Some(
        Finding::new("constant", Severity::Note, detail, why)
            .about(inputs.clone())
            .figure("columns", inputs.len() as f64),
    )
}

/// Columns that are equal throughout, and columns that put the rows in one order, up or down.
fn repeated(columns: &[&Column]) -> Vec<Finding> {
    let mut by_values: FxHashMap<u64, Vec<&str>> = FxHashMap::default();
    let mut by_order: FxHashMap<u64, Vec<&str>> = FxHashMap::default();
    for column in columns {
        let name = column.name.as_str();
        let (values, order) = match &column.values {
            Values::Numbers(values) => {
                (hash(values.iter().map(|value| (value + 0.0).to_bits())), Some(hash_of_order(values)))
            }
            // As text, and apart from numbers.
            Values::Texts { codes, names, .. } => (hash(codes.iter().map(|&code| names.get(code as usize))), None),
        };
        let equal = by_values.entry(values).or_default();
        equal.push(name);
        // Of equal ones the first stands for all.
        if let (Some(order), 1) = (order, equal.len()) {
            by_order.entry(order).or_default().push(name);
        }
    }
    let several = |groups: FxHashMap<u64, Vec<&'_ str>>| {
        let mut groups: Vec<Vec<String>> = groups
            .into_values()
            .filter(|group| group.len() > 1)
            .map(|group| group.into_iter().map(str::to_owned).collect())
            .collect();
        groups.sort();
        groups
    };
    let why = "importance is shared among them by chance, and a model that loses one of them is lost in part";
    let finding = |kind, what: &str, group: Vec<String>| {
        let names: Vec<&str> = group.iter().map(String::as_str).collect();
        let detail = format!("{} {what}", list(&names));
        Finding::new(kind, Severity::Note, detail, why).about(group)
    };
    let same_values =
        several(by_values).into_iter().map(|group| finding("same_values", "have the same values throughout", group));
    let same_order = several(by_order).into_iter().map(|group| {
        finding(
            "same_order",
            "put the rows in the same order (rank correlation 1 or -1): to a tree they are one",
            group,
        )
    });
    same_values.chain(same_order).collect()
}

fn hash<T: Hash>(values: impl Iterator<Item = T>) -> u64 {
    let mut hasher = FxHasher::default();
    values.for_each(|value| value.hash(&mut hasher));
    hasher.finish()
}

/// One hash for all columns whose values rise and fall together, or against each other. A missing value has a rank of
/// its own.
fn hash_of_order(values: &[f64]) -> u64 {
    let mut order: Vec<u32> = (0..).zip(values).filter(|(_, value)| !value.is_nan()).map(|(row, _)| row).collect();
    order.sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
    let mut ranks = vec![None; values.len()];
    let mut last = 0u32;
    for (position, &row) in order.iter().enumerate() {
        let is_new = position > 0 && values[order[position - 1] as usize] != values[row as usize];
        last += u32::from(is_new);
        ranks[row as usize] = Some(last);
    }
    let up = hash(ranks.iter());
    let down = hash(ranks.iter().map(|rank| rank.map(|rank| last - rank)));
    up.min(down)
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_is_what_two_columns_share() {
        let values = [3.0, f64::NAN, 1.0, 1.0, -7.0, 0.0, -0.0];
        let order = hash_of_order(&values);
        assert_eq!(order, hash_of_order(&values.map(f64::exp)));
        assert_eq!(order, hash_of_order(&values.map(|x| -x)));
        assert_ne!(order, hash_of_order(&values.map(f64::abs)));
        assert_ne!(order, hash_of_order(&[3.0, 9.0, 1.0, 1.0, -7.0, 0.0, 0.0]));
    }
}
