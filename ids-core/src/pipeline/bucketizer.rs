//! Numbers to the bucket they fall in, by the rules of Spark's `Bucketizer` (Bucketizer.scala). A fitted
//! `QuantileDiscretizer` is one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{NumberSource, Row};
use super::{Apply, Bind, HandleInvalid, Invalid};
use crate::rows::DataType;

/// Replaces a number by the position of its bucket. A bucket holds its lower end, the last one its upper
/// end too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucketizer {
    /// Columns to divide.
    pub input_columns: Vec<String>,
    /// Columns with the positions, one per input.
    pub output_columns: Vec<String>,
    /// Per input: the ends of its buckets, rising.
    pub splits: Vec<Vec<f64>>,
    /// What a NaN does; `keep` gives it a bucket of its own, the last. `skip` drops missing values too, which
    /// else stay missing. A number outside of all buckets is always refused.
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
    source: NumberSource,
    splits: Vec<f64>,
    output: usize,
}

impl Bind for Bucketizer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        if self.output_columns.len() != self.input_columns.len() || self.splits.len() != self.input_columns.len() {
            return Err("input columns, output columns and lists of splits differ in number".into());
        }
        let mut columns = Vec::new();
        for ((input, output), splits) in self.input_columns.iter().zip(&self.output_columns).zip(&self.splits) {
            if splits.len() < 3 || !splits.windows(2).all(|pair| pair[0] < pair[1]) {
                return Err(format!("the splits of `{input}` are fewer than 3 or do not rise"));
            }
            let (source, _) = binder.require_number(input)?;
            let output = binder.define_number(output, DataType::Double);
            columns.push(BoundColumn { name: input.clone(), source, splits: splits.clone(), output });
        }
        Ok(Arc::new(Bound { columns, handle_invalid: self.handle_invalid }))
    }

    fn is_filter(&self) -> bool {
        self.handle_invalid == HandleInvalid::Skip
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        let invalid = |column: &BoundColumn, reason: String, handling| {
            Err(Invalid { column: column.name.clone(), reason, handling })
        };
        if self.handle_invalid == HandleInvalid::Skip {
            // Spark drops by all columns before it looks for the bucket of any (`dataset.na.drop`).
            for column in &self.columns {
                match column.source.read(row) {
                    None => return invalid(column, "is missing".into(), HandleInvalid::Skip),
                    Some(x) if x.is_nan() => return invalid(column, "is NaN".into(), HandleInvalid::Skip),
                    Some(_) => {}
                }
            }
        }
        for column in &self.columns {
            let bucket = match column.source.read(row) {
                None => None,
                Some(x) if x.is_nan() => match self.handle_invalid {
                    HandleInvalid::Keep => Some((column.splits.len() - 1) as f64),
                    handling => return invalid(column, "is NaN".into(), handling),
                },
                Some(x) => match bucket(&column.splits, x) {
                    Some(bucket) => Some(bucket as f64),
                    None => {
                        return invalid(column, format!("holds {x}, outside of all buckets"), HandleInvalid::Error);
                    }
                },
            };
            row.made.scalars[column.output] = bucket;
        }
        Ok(())
    }
}

/// The bucket of `x`, which is not NaN. The search is in Java's order of doubles, where -0.0 comes before
/// 0.0: with an end at 0.0, it falls in the bucket below.
fn bucket(splits: &[f64], x: f64) -> Option<usize> {
    if splits.last() == Some(&x) {
        return Some(splits.len() - 2);
    }
    match splits.binary_search_by(|split| split.total_cmp(&x)) {
        Ok(position) => Some(position),
        Err(position) if position == splits.len() => None,
        Err(position) => position.checked_sub(1),
    }
}
