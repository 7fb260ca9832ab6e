//! Some entries of a vector, by the rules of Spark's `VectorSlicer` and of its fitted feature selectors
//! (VectorSlicer.scala, Selector.scala).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{Row, VectorPlace};
use super::{Apply, Bind, Invalid};

/// Takes entries out of a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorSlicer {
    /// The vector.
    pub input_column: String,
    /// The entries taken.
    pub output_column: String,
    /// Their positions, in the order in which they are taken.
    pub indices: Vec<usize>,
    /// Whether a 0 that a sparse vector stores stays stored: with a selector it does, with a slicer not.
    pub keeps_zeros: bool,
}

#[derive(Debug)]
struct Bound {
    name: String,
    input: VectorPlace,
    output: VectorPlace,
    indices: Vec<usize>,
    keeps_zeros: bool,
}

impl Bind for VectorSlicer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let input = binder.require_vector(&self.input_column)?;
        if let Some(index) = self.indices.iter().find(|&&index| index >= input.length && binder.missing.is_empty()) {
            return Err(format!("it takes entry {index} of `{}`, which has {}", self.input_column, input.length));
        }
        Ok(Arc::new(Bound {
            name: self.input_column.clone(),
            input,
            output: binder.define_vector(&self.output_column, self.indices.len()),
            indices: self.indices.clone(),
            keeps_zeros: self.keeps_zeros,
        }))
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        row.map_vector(&self.name, self.input, self.output, |x, mut y| {
            for (y, &index) in y.entries.iter_mut().zip(&self.indices) {
                *y = x.entries[index];
            }
            match x.stored {
                None => y.set_dense(),
                Some(stored) if self.keeps_zeros => y.set_sparse(|position| stored[self.indices[position]]),
                Some(_) => y.keep_nonzero(),
            }
            Ok(())
        })
    }
}
