//! Categories to their indices, by the rules of Spark's `StringIndexerModel` (StringIndexer.scala).

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{Binder, HandleInvalid, Invalid, Row, Symbol};
use crate::decode::excerpt;

/// Replaces a category by its position among the fitted labels. Text is compared exactly.
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

#[derive(Debug, Clone)]
pub(super) struct Bound {
    columns: Vec<BoundColumn>,
    handle_invalid: HandleInvalid,
}

#[derive(Debug, Clone)]
struct BoundColumn {
    name: String,
    slot: usize,
    /// Keys come from the model alone, so a fast hash without a secret is safe.
    indices: FxHashMap<String, f64>,
    unseen: f64,
    output: usize,
}

impl StringIndexer {
    pub(super) fn bind(&self, binder: &mut Binder<'_>) -> Result<Bound, String> {
        if self.output_columns.len() != self.input_columns.len() || self.labels.len() != self.input_columns.len() {
            return Err("input columns, output columns and label lists differ in number".into());
        }
        let mut columns = Vec::new();
        for ((input, output), labels) in self.input_columns.iter().zip(&self.output_columns).zip(&self.labels) {
            match binder.look_up(input) {
                Symbol::Text { slot } => columns.push(BoundColumn {
                    name: input.clone(),
                    slot,
                    indices: labels.iter().cloned().zip((0u32..).map(f64::from)).collect(),
                    unseen: labels.len() as f64,
                    output: binder.define_scalar(output),
                }),
                // Spark passes silently over an input that is not there: so the indexer of the label
                // survives serving. Whoever needs the output fails, and then names the input.
                absent @ Symbol::Absent { .. } => binder.define(output, absent),
                Symbol::Number(_) | Symbol::Vector(_) => {
                    return Err(format!("it indexes `{input}`, which is no text; only text can be indexed so far"));
                }
            }
        }
        Ok(Bound { columns, handle_invalid: self.handle_invalid })
    }
}

impl Bound {
    pub(super) fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        for column in &self.columns {
            let value = row.record.text_at(column.slot);
            let index = match value.and_then(|value| column.indices.get(value)) {
                Some(&index) => index,
                None if self.handle_invalid == HandleInvalid::Keep => column.unseen,
                None => {
                    let reason = match value {
                        Some(value) => format!("holds {}, which was not seen in training", excerpt(value.as_bytes())),
                        None => "is missing".into(),
                    };
                    return Err(Invalid { column: column.name.clone(), reason, handling: self.handle_invalid });
                }
            };
            row.scalars[column.output] = Some(index);
        }
        Ok(())
    }
}
