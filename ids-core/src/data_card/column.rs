//! What is in a column, counted row by row in bounded memory.

use std::hash::{BuildHasher as _, BuildHasherDefault};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use serde::Serialize;

use super::MOST_DISTINCT;
use crate::rows::{Row, Slot};
use crate::schema::{Column, ColumnKind};

/// A column of a file.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnCard {
    /// Its name in the schema.
    pub name: String,
    /// Its name in the file's header; none in JSON and for a column that is derived.
    pub written: Option<String>,
    /// What it holds.
    pub kind: ColumnKind,
    /// Unit of a number.
    pub unit: Option<String>,
    /// Flows without a value.
    pub missing: u64,
    /// Distinct values; if there are more than [`MOST_DISTINCT`], that many.
    pub distinct: usize,
    /// Whether there are more distinct values than were counted.
    pub has_more: bool,
    /// Whether all flows, of which there are several, have the same value.
    pub is_constant: bool,
    /// Of a column of numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<NumberCard>,
    /// Of a column of texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextCard>,
}

/// The numbers of a column. Minimum, mean and maximum are those of the finite ones.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NumberCard {
    /// Values that are NaN.
    pub nan: u64,
    /// Values that are infinite, of either sign.
    pub infinite: u64,
    /// Values below 0, minus infinity among them.
    pub negative: u64,
    /// The least.
    pub min: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
}

impl NumberCard {
    /// Values that are NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        self.nan + self.infinite
    }
}

/// The texts of a column.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TextCard {
    /// The most frequent values of a category or label, at most ten, with their flows.
    pub most_frequent: Vec<(String, u64)>,
}

impl ColumnCard {
    /// Whether no flow has a value.
    pub fn is_empty(&self) -> bool {
        self.distinct == 0 && self.number.as_ref().is_none_or(|number| number.nan == 0)
    }
}

/// Counts the values of a column.
pub(super) enum Tally {
    Number(Box<Numbers>),
    Text(Texts),
}

#[derive(Default)]
pub(super) struct Numbers {
    missing: u64,
    nan: u64,
    infinite: u64,
    negative: u64,
    n_finite: u64,
    min: f64,
    mean: f64,
    max: f64,
    distinct: Distinct,
}

#[derive(Default)]
pub(super) struct Texts {
    pub(super) missing: u64,
    /// Flows by value, for columns of few values.
    pub(super) values: FxHashMap<String, u64>,
    /// Flows of values beyond those.
    pub(super) others: u64,
    /// Whether values are kept, not only told apart.
    is_kept: bool,
    distinct: Distinct,
}

/// Tells values apart, up to a bound.
#[derive(Default)]
struct Distinct {
    values: FxHashSet<u64>,
    has_more: bool,
}

impl Distinct {
    fn see(&mut self, value: u64) {
        if self.has_more || self.values.contains(&value) {
            return;
        }
        if self.values.len() < MOST_DISTINCT {
            self.values.insert(value);
        } else {
            self.has_more = true;
        }
    }
}

impl Tally {
    pub(super) fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Number | ColumnKind::Integer => Self::Number(Box::default()),
            ColumnKind::Category | ColumnKind::Label => Self::Text(Texts { is_kept: true, ..Texts::default() }),
            ColumnKind::Identifier => Self::Text(Texts::default()),
        }
    }

    /// Counts the value of `row` at `slot`.
    pub(super) fn count(&mut self, row: Row<'_>, slot: Slot) {
        match (self, slot) {
            (Self::Number(numbers), Slot::Number(slot)) => numbers.count(row.number(slot)),
            (Self::Text(texts), Slot::Text(slot)) => texts.count(row.text(slot)),
            // The kind of a column decides on both.
            _ => {}
        }
    }

    /// The card of `column`, which the header calls `written`, over `n_flows`.
    pub(super) fn card(self, column: &Column, written: Option<String>, n_flows: u64) -> ColumnCard {
        let (missing, distinct, number, text) = match self {
            Self::Number(numbers) => {
                let Numbers { missing, nan, infinite, negative, n_finite, min, mean, max, distinct } = *numbers;
                let some = |value| (n_finite > 0).then_some(value);
                let card = NumberCard { nan, infinite, negative, min: some(min), mean: some(mean), max: some(max) };
                (missing, distinct, Some(card), None)
            }
            Self::Text(Texts { missing, values, distinct, .. }) => {
                const SHOWN: usize = 10;
                let mut most_frequent: Vec<_> = values.into_iter().collect();
                most_frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                most_frequent.truncate(SHOWN);
                (missing, distinct, None, Some(TextCard { most_frequent }))
            }
        };
        let n_distinct = distinct.values.len();
        let nan = number.as_ref().map_or(0, |number| number.nan);
        // Missing is a value here, and so is NaN.
        let n_kinds = n_distinct + usize::from(missing > 0) + usize::from(nan > 0);
        ColumnCard {
            name: column.name.clone(),
            written,
            kind: column.kind,
            unit: column.unit.clone(),
            missing,
            distinct: n_distinct,
            has_more: distinct.has_more,
            is_constant: n_flows > 1 && n_kinds == 1 && missing == 0,
            number,
            text,
        }
    }
}

impl Numbers {
    fn count(&mut self, value: Option<f64>) {
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        if value.is_nan() {
            self.nan += 1;
            return;
        }
        self.negative += u64::from(value < 0.0);
        // 0 and -0 are one value.
        self.distinct.see((value + 0.0).to_bits());
        if value.is_infinite() {
            self.infinite += 1;
            return;
        }
        self.n_finite += 1;
        if self.n_finite == 1 {
            (self.min, self.max) = (value, value);
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        // A running mean cannot overflow as a sum can (halves, for values that differ by more than the largest double).
        let weight = 1.0 / self.n_finite as f64;
        self.mean += value * weight - self.mean * weight;
    }
}

impl Texts {
    fn count(&mut self, value: Option<&str>) {
        /// Longest value that is kept, in bytes: of longer ones the beginning.
        const LONGEST: usize = 200;
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        self.distinct.see(BuildHasherDefault::<FxHasher>::default().hash_one(value));
        if !self.is_kept {
            return;
        }
        let end = (0..=value.len().min(LONGEST)).rfind(|&end| value.is_char_boundary(end)).unwrap_or(0);
        let value = &value[..end];
        if let Some(rows) = self.values.get_mut(value) {
            *rows += 1;
        } else if self.values.len() < MOST_DISTINCT {
            self.values.insert(value.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: &str) -> Column {
        toml::from_str(&format!("name = 'c'\nkind = '{kind}'")).expect("a column")
    }

    fn numbers(values: &[Option<f64>]) -> ColumnCard {
        let mut numbers = Numbers::default();
        for &value in values {
            numbers.count(value);
        }
        Tally::Number(Box::new(numbers)).card(&column("number"), None, values.len() as u64)
    }

    #[test]
    fn numbers_are_counted_by_what_they_are() {
        let card =
            numbers(&[Some(1.0), None, Some(f64::NAN), Some(f64::NEG_INFINITY), Some(-3.0), Some(0.0), Some(-0.0)]);
        let number = card.number.expect("numbers");
        assert_eq!((card.missing, card.distinct, card.has_more, card.is_constant), (1, 4, false, false));
        assert_eq!((number.nan, number.infinite, number.negative, number.not_finite()), (1, 1, 2, 2));
        assert_eq!((number.min, number.max), (Some(-3.0), Some(1.0)));
        assert!((number.mean.expect("a mean") + 0.5).abs() < 1e-12);
    }

    #[test]
    fn means_do_not_overflow() {
        let number = numbers(&[Some(f64::MAX), Some(f64::MAX), Some(-f64::MAX)]).number.expect("numbers");
        assert!(number.mean.expect("a mean").is_finite());
    }

    #[test]
    fn constant_is_one_value_and_none_missing() {
        let is_constant = |values: &[Option<f64>]| numbers(values).is_constant;
        assert!(is_constant(&[Some(2.0), Some(2.0)]) && is_constant(&[Some(f64::NAN), Some(f64::NAN)]));
        assert!(!is_constant(&[Some(2.0)]) && !is_constant(&[Some(2.0), None]) && !is_constant(&[None, None]));
        assert!(numbers(&[None, None]).is_empty() && !numbers(&[None, Some(f64::NAN)]).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut texts = Texts { is_kept: true, ..Texts::default() };
        for value in 0..2 * MOST_DISTINCT {
            texts.count(Some(&value.to_string()));
        }
        texts.count(Some(&"\u{e4}".repeat(1_000)));
        assert_eq!((texts.values.len(), texts.others), (MOST_DISTINCT, MOST_DISTINCT as u64 + 1));
        let card = Tally::Text(texts).card(&column("category"), None, 1);
        assert_eq!((card.distinct, card.has_more), (MOST_DISTINCT, true));
    }
}
