//! Vectors shifted and scaled entry by entry, by the rules of Spark's `StandardScalerModel`,
//! `RobustScalerModel`, `MaxAbsScalerModel`, `MinMaxScalerModel` and `ElementwiseProduct` (the files of
//! those names, and mllib's StandardScaler.scala), as they are from Spark 3.0 on. Spark 2.x divided where
//! these multiply by a reciprocal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{Row, VectorPlace};
use super::{Apply, Bind, Dialect, Invalid};

/// Subtracts, then multiplies: what standard, robust and maximum-absolute scalers do, and the
/// element-wise product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// The vector to scale.
    pub input_column: String,
    /// The scaled vector.
    pub output_column: String,
    /// What to subtract, `[n_features]`: means or medians. The result is then dense.
    pub shift: Option<Vec<f64>>,
    /// What to multiply by, `[n_features]`: reciprocals of deviations or ranges, 0 for a feature that
    /// never varied.
    pub scale: Option<Vec<f64>>,
}

#[derive(Debug)]
struct BoundScaler {
    name: String,
    input: VectorPlace,
    output: VectorPlace,
    shift: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
}

impl Bind for Scaler {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let fitted = [&self.shift, &self.scale].into_iter().flatten().map(Vec::len);
        let input = match (fitted.clone().min(), fitted.max()) {
            (None, _) => binder.require_vector(&self.input_column)?,
            (Some(least), Some(most)) if least != most => {
                return Err(format!("it shifts {most} entries and scales {least}, or the reverse"));
            }
            (Some(length), _) => binder.require_vector_of(&self.input_column, length)?,
        };
        Ok(Arc::new(BoundScaler {
            name: self.input_column.clone(),
            input,
            output: binder.define_vector(&self.output_column, input.length),
            shift: self.shift.clone(),
            scale: self.scale.clone(),
        }))
    }
}

impl Apply for BoundScaler {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        if self.shift.is_none() && self.scale.is_none() && row.vector(self.input).is_none() {
            row.vector_out(self.output).set_missing();
            return Ok(());
        }
        row.map_vector(&self.name, self.input, self.output, |x, mut y| {
            match (&self.shift, &self.scale, x.stored) {
                (Some(shift), Some(scale), _) => {
                    for (i, y) in y.entries.iter_mut().enumerate() {
                        *y = (x.entries[i] - shift[i]) * scale[i];
                    }
                    y.set_dense();
                }
                (Some(shift), None, _) => {
                    for (i, y) in y.entries.iter_mut().enumerate() {
                        *y = x.entries[i] - shift[i];
                    }
                    y.set_dense();
                }
                (None, Some(scale), None) => {
                    for (i, y) in y.entries.iter_mut().enumerate() {
                        *y = x.entries[i] * scale[i];
                    }
                    y.set_dense();
                }
                // Entries that are not stored stay 0, whatever the scale.
                (None, Some(scale), Some(stored)) => {
                    for (i, y) in y.entries.iter_mut().enumerate() {
                        *y = if stored[i] { x.entries[i] * scale[i] } else { 0.0 };
                    }
                    y.set_form_of(x);
                }
                (None, None, _) => {
                    y.entries.copy_from_slice(x.entries);
                    y.set_form_of(x);
                }
            }
            Ok(())
        })
    }
}

/// Maps the range seen in training to another, linearly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MinMaxScaler {
    /// The vector to scale.
    pub input_column: String,
    /// The scaled vector.
    pub output_column: String,
    /// Least values in training, `[n_features]`.
    pub original_min: Vec<f64>,
    /// Largest values in training, `[n_features]`.
    pub original_max: Vec<f64>,
    /// Lower end of the new range.
    pub min: f64,
    /// Upper end of the new range.
    pub max: f64,
}

#[derive(Debug)]
struct BoundMinMaxScaler {
    name: String,
    input: VectorPlace,
    output: VectorPlace,
    original_min: Vec<f64>,
    /// 0 for a feature that never varied.
    scale: Vec<f64>,
    min: f64,
    /// What a feature becomes that never varied.
    constant: f64,
    dialect: Dialect,
}

impl Bind for MinMaxScaler {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let length = self.original_min.len();
        if self.original_max.len() != length {
            return Err(format!("it has {length} minima and {} maxima", self.original_max.len()));
        }
        let input = binder.require_vector_of(&self.input_column, length)?;
        let scale = self.original_max.iter().zip(&self.original_min).map(|(most, least)| {
            let range = most - least;
            if range != 0.0 { (self.max - self.min) / range } else { 0.0 }
        });
        Ok(Arc::new(BoundMinMaxScaler {
            name: self.input_column.clone(),
            input,
            output: binder.define_vector(&self.output_column, length),
            original_min: self.original_min.clone(),
            scale: scale.collect(),
            min: self.min,
            constant: (self.max + self.min) / 2.0,
            dialect: binder.dialect,
        }))
    }
}

impl Apply for BoundMinMaxScaler {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        row.map_vector(&self.name, self.input, self.output, |x, mut y| {
            for (i, (y, &x)) in y.entries.iter_mut().zip(x.entries).enumerate() {
                *y = match self.scale[i] {
                    _ if x.is_nan() => x,
                    0.0 => self.constant,
                    scale => (x - self.original_min[i]) * scale + self.min,
                };
            }
            y.compress(self.dialect);
            Ok(())
        })
    }
}
