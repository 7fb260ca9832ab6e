//! Categories to their indices, by the rules of Spark's `StringIndexerModel` (StringIndexer.scala).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::bind::{Binder, Symbol};
use super::row::{NumberSource, Row, TextSource};
use super::{Apply, Bind, HandleInvalid, Invalid};
use crate::decode::excerpt;
use crate::rows::DataType;

/// Replaces a category by its position among the fitted labels. Text is compared exactly; a number is
/// compared as the text that Spark makes of it, `3` of an integer, `3.0` of a double.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StringIndexer {
    /// Columns to index.
    pub input_columns: Vec<String>,
    /// Columns with the indices, one per input.
    pub output_columns: Vec<String>,
    /// Per input: its labels in the order of their indices.
    pub labels: Vec<Vec<String>>,
    /// `keep` gives unseen and missing values the index `labels.len()`.
    pub handle_invalid: HandleInvalid,
}

#[derive(Debug)]
struct Bound {
    columns: Vec<BoundColumn>,
    handle_invalid: HandleInvalid,
}

#[derive(Debug)]
struct BoundColumn {
    name: String,
    lookup: Lookup,
    unseen: f64,
    output: usize,
}

/// Keys come from the model alone, so a fast hash without a secret is safe.
#[derive(Debug)]
enum Lookup {
    Text {
        source: TextSource,
        indices: FxHashMap<String, f64>,
    },
    /// By the bits of the number that each label is the text of.
    Number {
        source: NumberSource,
        indices: FxHashMap<u64, f64>,
    },
}

impl Bind for StringIndexer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        if self.output_columns.len() != self.input_columns.len() || self.labels.len() != self.input_columns.len() {
            return Err("input columns, output columns and label lists differ in number".into());
        }
        let mut columns = Vec::new();
        for ((input, output), labels) in self.input_columns.iter().zip(&self.output_columns).zip(&self.labels) {
            let numbered = labels.iter().zip((0u32..).map(f64::from));
            let lookup = match binder.look_up(input) {
                Symbol::Text(source) => {
                    Lookup::Text { source, indices: numbered.map(|(label, index)| (label.clone(), index)).collect() }
                }
                Symbol::Number(source, data_type) => {
                    let indices: FxHashMap<_, _> = numbered
                        .filter_map(|(label, index)| Some((key(number_of(label, data_type)?), index)))
                        .collect();
                    // Where all labels are below, an integer beyond is none of them.
                    let is_exact = |bits: &u64| f64::from_bits(*bits).abs() < FIRST_INEXACT;
                    if data_type == DataType::Integer && !indices.keys().all(is_exact) {
                        return Err(format!("it indexes `{input}`, of whose labels some are integers of 2^53 or more"));
                    }
                    if let (true, Some(label)) = (indices.is_empty(), labels.first()) {
                        return Err(format!(
                            "it indexes `{input}`, a column of {data_type:?}, but none of its labels, such as `{label}`, is how Spark writes one"
                        ));
                    }
                    Lookup::Number { source, indices }
                }
                // Spark passes silently over an input that is not there: so the indexer of the label
                // survives serving. Whoever needs the output fails, and then names the input.
                absent @ Symbol::Absent { .. } => {
                    binder.define(output, absent);
                    continue;
                }
                Symbol::Vector(_) => return Err(format!("it indexes `{input}`, which is a vector")),
            };
            let output = binder.define_index(output, labels);
            columns.push(BoundColumn { name: input.clone(), lookup, unseen: labels.len() as f64, output });
        }
        Ok(Arc::new(Bound { columns, handle_invalid: self.handle_invalid }))
    }

    fn is_eager(&self) -> bool {
        true
    }

    fn is_filter(&self) -> bool {
        self.handle_invalid == HandleInvalid::Skip
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        for column in &self.columns {
            let index = match &column.lookup {
                Lookup::Text { source, indices } => {
                    let value = source.read(row);
                    match value.and_then(|value| indices.get(value)) {
                        Some(&index) => index,
                        None => self.unseen(column, || value.map(|value| excerpt(value.as_bytes())))?,
                    }
                }
                Lookup::Number { source, indices } => {
                    let value = source.read(row);
                    // To skip, Spark calls DataFrame.na.drop, for which a NaN is missing.
                    let is_dropped = self.handle_invalid == HandleInvalid::Skip && value.is_some_and(f64::is_nan);
                    match value.filter(|_| !is_dropped).and_then(|value| indices.get(&key(value))) {
                        Some(&index) => index,
                        None => self.unseen(column, || value.map(|value| format!("{value}")))?,
                    }
                }
            };
            row.made.scalars[column.output] = Some(index);
        }
        Ok(())
    }
}

impl Bound {
    /// The index of a value that is none of the labels.
    #[inline]
    fn unseen(&self, column: &BoundColumn, shown: impl FnOnce() -> Option<String>) -> Result<f64, Invalid> {
        if self.handle_invalid == HandleInvalid::Keep {
            return Ok(column.unseen);
        }
        let reason = match shown() {
            Some(value) => format!("holds {value}, which was not seen in training"),
            None => "is missing".into(),
        };
        Err(Invalid { column: column.name.clone(), reason, handling: self.handle_invalid })
    }
}

/// 2^53: from there on, one double stands for several integers.
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

/// The bits of a number, one pattern for all NaN.
fn key(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }
}

/// The number that Spark's cast to a string would write as `label`.
///
/// Two doubles have two texts, so a label stands for at most one; which digits Java writes (the
/// shortest only from JDK 19 on) does not matter, as long as they read back.
fn number_of(label: &str, data_type: DataType) -> Option<f64> {
    match data_type {
        DataType::Integer => {
            let value: i64 = label.parse().ok()?;
            (value.to_string() == label).then_some(value as f64)
        }
        DataType::Double => java_decimal(label, |digits| digits.parse().ok()),
        DataType::Float => java_decimal(label, |digits| digits.parse::<f32>().ok().map(f64::from)),
        // Spark indexes no booleans.
        DataType::Boolean | DataType::Text | DataType::Vector(_) => None,
    }
}

/// Reads what Java's `Double.toString` and `Float.toString` write, and only that: at least one digit on
/// each side of the point, an exponent where the magnitude is below 10^-3 or at least 10^7.
fn java_decimal(label: &str, parse: impl FnOnce(&str) -> Option<f64>) -> Option<f64> {
    match label {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let unsigned = label.strip_prefix('-').unwrap_or(label);
    let (mantissa, exponent) = match unsigned.split_once('E') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_no_spare_zero = |text: &str| text == "0" || !text.starts_with('0');
    let is_plain = is_number(whole)
        && is_number(fraction)
        && has_no_spare_zero(whole)
        && (fraction == "0" || !fraction.ends_with('0'))
        && exponent.is_none_or(|exponent| {
            let digits = exponent.strip_prefix('-').unwrap_or(exponent);
            whole.len() == 1 && whole != "0" && is_number(digits) && !digits.starts_with('0')
        });
    let value = parse(label).filter(|_| is_plain)?;
    let has_exponent = value != 0.0 && !(1e-3..1e7).contains(&value.abs());
    (has_exponent == exponent.is_some()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stands_for_the_number_that_java_writes_so() {
        let double = |label| number_of(label, DataType::Double).map(f64::to_bits);
        for (label, value) in [
            ("1.0", 1.0),
            ("-0.0", -0.0),
            ("123456.789", 123_456.789),
            ("0.001", 0.001),
            ("9.999E-4", 0.000_999_9),
            ("1.0E10", 1e10),
            ("4.9E-324", 5e-324),
            ("Infinity", f64::INFINITY),
            ("NaN", f64::NAN),
        ] {
            assert_eq!(double(label), Some(value.to_bits()), "{label}");
        }
        for label in
            ["1", "1.", ".5", "1.50", "01.0", "1e10", "1.0E+10", "1.0E1", "10000000.0", "inf", "nan", " 1.0", ""]
        {
            assert_eq!(double(label), None, "{label}");
        }
        assert_eq!(number_of("0.1", DataType::Float), Some(f64::from(0.1f32)));
        assert_eq!(number_of("-7", DataType::Integer), Some(-7.0));
        assert_eq!(number_of("+7", DataType::Integer), None);
    }
}
