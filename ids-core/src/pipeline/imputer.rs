//! Missing numbers to a fitted value, by the rules of Spark's `ImputerModel` (Imputer.scala).

use serde::{Deserialize, Serialize};

use super::{Binder, NumberSource, Row, Symbol};

/// Replaces missing values, and those equal to `missing_value`, by a surrogate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imputer {
    /// Columns to complete.
    pub input_columns: Vec<String>,
    /// Completed columns, one per input.
    pub output_columns: Vec<String>,
    /// What stands in for a missing value, one per input.
    pub surrogates: Vec<f64>,
    /// The value that counts as missing besides a missing one; NaN equals NaN here, as in Spark SQL.
    pub missing_value: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Bound {
    columns: Vec<BoundColumn>,
    missing_value: f64,
}

#[derive(Debug, Clone)]
struct BoundColumn {
    source: NumberSource,
    surrogate: f64,
    output: usize,
}

impl Imputer {
    pub(super) fn bind(&self, binder: &mut Binder<'_>) -> Result<Bound, String> {
        if self.output_columns.len() != self.input_columns.len() || self.surrogates.len() != self.input_columns.len() {
            return Err("input columns, output columns and surrogates differ in number".into());
        }
        let mut columns = Vec::new();
        for ((input, output), &surrogate) in self.input_columns.iter().zip(&self.output_columns).zip(&self.surrogates) {
            let source = match binder.require(input)? {
                Some(Symbol::Number(source)) => source,
                // Noted as missing: binding fails in the end, with the whole list.
                None => NumberSource::Scalar(0),
                Some(_) => return Err(format!("`{input}` is no number")),
            };
            columns.push(BoundColumn { source, surrogate, output: binder.define_scalar(output) });
        }
        Ok(Bound { columns, missing_value: self.missing_value })
    }
}

impl Bound {
    pub(super) fn apply(&self, row: &mut Row<'_>) {
        let is_missing = |x: f64| x == self.missing_value || (x.is_nan() && self.missing_value.is_nan());
        for column in &self.columns {
            let value = column.source.read(row).filter(|&x| !is_missing(x));
            row.scalars[column.output] = Some(value.unwrap_or(column.surrogate));
        }
    }
}
