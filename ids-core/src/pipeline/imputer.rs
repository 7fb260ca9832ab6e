//! Missing numbers to a fitted value, by the rules of Spark's `ImputerModel` (Imputer.scala).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{NumberSource, Row};
use super::{Apply, Bind, Invalid};
use crate::rows::DataType;

/// Replaces missing values, and those equal to `missing_value`, by a surrogate, rounded to the type of
/// the column.
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

#[derive(Debug)]
struct Bound {
    columns: Vec<BoundColumn>,
    missing_value: f64,
}

#[derive(Debug)]
struct BoundColumn {
    source: NumberSource,
    surrogate: f64,
    output: usize,
}

impl Bind for Imputer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        if self.output_columns.len() != self.input_columns.len() || self.surrogates.len() != self.input_columns.len() {
            return Err("input columns, output columns and surrogates differ in number".into());
        }
        // All inputs are looked up before an output takes the place of one, as Spark does.
        let inputs = self.input_columns.iter().map(|input| binder.require_number(input));
        let inputs: Vec<_> = inputs.collect::<Result<_, _>>()?;
        let mut columns = Vec::new();
        for ((source, data_type), (output, &surrogate)) in
            inputs.into_iter().zip(self.output_columns.iter().zip(&self.surrogates))
        {
            // Spark computes in doubles and casts the result back.
            let surrogate = match data_type {
                DataType::Float => f64::from(surrogate as f32),
                DataType::Integer => surrogate as i64 as f64,
                _ => surrogate,
            };
            columns.push(BoundColumn { source, surrogate, output: binder.define_number(output, data_type) });
        }
        Ok(Arc::new(Bound { columns, missing_value: self.missing_value }))
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        let is_missing = |x: f64| x == self.missing_value || (x.is_nan() && self.missing_value.is_nan());
        for column in &self.columns {
            let value = column.source.read(row).filter(|&x| !is_missing(x));
            row.made.scalars[column.output] = Some(value.unwrap_or(column.surrogate));
        }
        Ok(())
    }
}
