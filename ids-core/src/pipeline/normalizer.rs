//! Vectors divided by their norm, by the rules of Spark's `Normalizer` (mllib's Normalizer.scala,
//! `Vectors.norm`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{Row, VectorPlace};
use super::{Apply, Bind, Invalid};

/// Divides a vector by its norm; one whose norm is 0 stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    /// The vector to divide.
    pub input_column: String,
    /// The quotient.
    pub output_column: String,
    /// The norm.
    pub norm: Norm,
}

/// A norm. Those of other orders go through a power whose last bit depends on the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// Sum of magnitudes (p = 1).
    L1,
    /// Root of the sum of squares (p = 2).
    L2,
    /// Largest magnitude (p = infinity).
    Max,
}

impl Norm {
    /// Summed from left to right. Entries that are not stored are 0 and add nothing.
    fn of(self, entries: &[f64]) -> f64 {
        match self {
            Self::L1 => entries.iter().fold(0.0, |sum, x| sum + x.abs()),
            Self::L2 => entries.iter().fold(0.0, |sum, x| sum + x * x).sqrt(),
            // A NaN is not larger than anything.
            Self::Max => entries.iter().fold(0.0, |most, x| if x.abs() > most { x.abs() } else { most }),
        }
    }
}

#[derive(Debug)]
struct Bound {
    name: String,
    input: VectorPlace,
    output: VectorPlace,
    norm: Norm,
}

impl Bind for Normalizer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let input = binder.require_vector(&self.input_column)?;
        Ok(Arc::new(Bound {
            name: self.input_column.clone(),
            input,
            output: binder.define_vector(&self.output_column, input.length),
            norm: self.norm,
        }))
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        row.map_vector(&self.name, self.input, self.output, |x, mut y| {
            let norm = self.norm.of(x.entries);
            for (i, (y, &x_i)) in y.entries.iter_mut().zip(x.entries).enumerate() {
                let is_stored = x.stored.is_none_or(|stored| stored[i]);
                *y = if norm != 0.0 && is_stored { x_i / norm } else { x_i };
            }
            y.set_form_of(x);
            Ok(())
        })
    }
}
