//! Indices back to their labels, by the rules of Spark's `IndexToString` (StringIndexer.scala).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{Label, NumberSource, Row};
use super::{Apply, Bind, Dialect, HandleInvalid, Invalid};

/// Replaces an index by its label; what follows the point of the index is ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexToString {
    /// Column with the indices.
    pub input_column: String,
    /// Column with the labels.
    pub output_column: String,
    /// The labels; without any, those of the stage that made the indices.
    pub labels: Vec<String>,
}

#[derive(Debug)]
struct Bound {
    name: String,
    source: NumberSource,
    labels: Arc<[String]>,
    dialect: Dialect,
    output: usize,
}

impl Bind for IndexToString {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let (source, _) = binder.require_number(&self.input_column)?;
        let labels = match binder.labels(&self.input_column) {
            _ if !self.labels.is_empty() => self.labels.clone(),
            Some(labels) => labels.to_vec(),
            None => return Err(format!("it has no labels, and `{}` has none either", self.input_column)),
        };
        Ok(Arc::new(Bound {
            name: self.input_column.clone(),
            source,
            labels: labels.into(),
            dialect: binder.dialect,
            output: binder.define_text(&self.output_column),
        }))
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        let label = match self.source.read(row) {
            None if self.dialect < Dialect::From4_1 => None,
            None => return Err(Invalid::missing(&self.name)),
            Some(index) => {
                // `as` cuts the fraction off, and takes NaN to 0, as Java's cast does.
                let position = usize::try_from(index as i32).ok().filter(|&position| position < self.labels.len());
                // From 4.1 on the cast follows ANSI rules, which refuse NaN.
                let is_refused = index.is_nan() && self.dialect >= Dialect::From4_1;
                let position = position.filter(|_| !is_refused).ok_or_else(|| Invalid {
                    column: self.name.clone(),
                    reason: format!("holds {index}, which is the index of no label"),
                    handling: HandleInvalid::Error,
                })?;
                Some(Label { labels: Arc::clone(&self.labels), position })
            }
        };
        row.made.texts[self.output] = label;
        Ok(())
    }
}
