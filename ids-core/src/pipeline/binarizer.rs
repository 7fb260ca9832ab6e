//! Numbers to 0 and 1 by a threshold, by the rules of Spark's `Binarizer` (Binarizer.scala).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::{Binder, Symbol};
use super::row::{NumberSource, Row, VectorPlace};
use super::{Apply, Bind, Dialect, Invalid};
use crate::rows::DataType;

/// Replaces what is above the threshold by 1 and the rest by 0: numbers, or the entries of vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Binarizer {
    /// Numbers or vectors.
    pub input_columns: Vec<String>,
    /// The same in 0 and 1, one per input.
    pub output_columns: Vec<String>,
    /// One per input.
    pub thresholds: Vec<f64>,
}

#[derive(Debug)]
struct Bound {
    columns: Vec<BoundColumn>,
    dialect: Dialect,
}

#[derive(Debug)]
struct BoundColumn {
    name: String,
    threshold: f64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Number { source: NumberSource, output: usize },
    Vector { input: VectorPlace, output: VectorPlace },
}

impl Bind for Binarizer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        if self.output_columns.len() != self.input_columns.len() || self.thresholds.len() != self.input_columns.len() {
            return Err("input columns, output columns and thresholds differ in number".into());
        }
        let mut columns = Vec::new();
        for ((input, output), &threshold) in self.input_columns.iter().zip(&self.output_columns).zip(&self.thresholds) {
            let kind = match binder.require(input)? {
                Some(Symbol::Vector(place)) => {
                    Kind::Vector { input: place, output: binder.define_vector(output, place.length) }
                }
                _ => {
                    let (source, _) = binder.require_number(input)?;
                    Kind::Number { source, output: binder.define_number(output, DataType::Double) }
                }
            };
            columns.push(BoundColumn { name: input.clone(), threshold, kind });
        }
        Ok(Arc::new(Bound { columns, dialect: binder.dialect }))
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        let one_if = |holds: bool| if holds { 1.0 } else { 0.0 };
        for column in &self.columns {
            let threshold = column.threshold;
            match column.kind {
                // NaN is not above. From 4.0 on, neither is what is missing; before, it stays missing.
                Kind::Number { source, output } => {
                    let binary = source.read(row).map(|x| one_if(x > threshold));
                    row.made.scalars[output] =
                        if self.dialect == Dialect::UpTo3 { binary } else { binary.or(Some(0.0)) };
                }
                Kind::Vector { input, output } => row.map_vector(&column.name, input, output, |x, mut y| {
                    for (y, &x) in y.entries.iter_mut().zip(x.entries) {
                        // Spark walks the entries that are not 0: below a threshold of less than 0 it looks for
                        // those at or below it, which NaN is not; else for those above it, which NaN is not.
                        *y = one_if(if threshold < 0.0 {
                            x == 0.0 || x.is_nan() || x > threshold
                        } else {
                            x > threshold
                        });
                    }
                    y.compress(self.dialect);
                    Ok(())
                })?,
            }
        }
        Ok(())
    }
}
