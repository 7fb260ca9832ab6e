//! A vector centred and scaled, by the rules of Spark's `StandardScalerModel` (StandardScaler.scala) from 3.0 on.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Binder, Row, Symbol};

/// Subtracts the mean, then multiplies by the reciprocal of the standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandardScaler {
    /// The vector to scale.
    pub input_column: String,
    /// The scaled vector.
    pub output_column: String,
    /// Standard deviations, `[n_features]`, if the stage scales.
    pub std: Option<Vec<f64>>,
    /// Means, `[n_features]`, if the stage centres.
    pub mean: Option<Vec<f64>>,
}

#[derive(Debug, Clone)]
pub(super) struct Bound {
    input: Range<usize>,
    output: Range<usize>,
    shift: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
}

impl StandardScaler {
    pub(super) fn bind(&self, binder: &mut Binder<'_>) -> Result<Bound, String> {
        let input = match binder.require(&self.input_column)? {
            Some(Symbol::Vector(range)) => range,
            // Noted as missing: binding fails in the end, with the whole list.
            None => {
                let output = binder.define_vector(&self.output_column, 0);
                return Ok(Bound { input: 0..0, output, shift: None, scale: None });
            }
            Some(_) => return Err(format!("`{}` is no vector", self.input_column)),
        };
        for (fitted, noun) in [(&self.std, "standard deviations"), (&self.mean, "means")] {
            if let Some(fitted) = fitted.as_ref().filter(|fitted| fitted.len() != input.len()) {
                return Err(format!("it has {} {noun} for a vector of {}", fitted.len(), input.len()));
            }
        }
        if self.std.iter().flatten().any(|&std| std != 0.0 && !(1.0 / std).is_finite()) {
            // Spark's result then depends on whether the vector is sparse.
            return Err("a standard deviation is so small that its reciprocal is infinite".into());
        }
        // A column that never varied is scaled to 0.
        let reciprocal = |&std: &f64| if std == 0.0 { 0.0 } else { 1.0 / std };
        let output = binder.define_vector(&self.output_column, input.len());
        let scale = self.std.as_ref().map(|std| std.iter().map(reciprocal).collect());
        Ok(Bound { input, output, shift: self.mean.clone(), scale })
    }
}

impl Bound {
    pub(super) fn apply(&self, row: &mut Row<'_>) {
        for (i, (from, to)) in self.input.clone().zip(self.output.clone()).enumerate() {
            let mut x = row.vectors[from];
            if let Some(shift) = &self.shift {
                x -= shift[i];
            }
            if let Some(scale) = &self.scale {
                x *= scale[i];
            }
            row.vectors[to] = x;
        }
    }
}
