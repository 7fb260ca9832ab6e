//! Categorical features of a vector to their indices, by the rules of Spark's `VectorIndexerModel`
//! (VectorIndexer.scala).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{Row, VectorPlace};
use super::{Apply, Bind, HandleInvalid, Invalid};

/// Replaces each value of a categorical feature by its index, and leaves the other features alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorIndexer {
    /// The vector to index.
    pub input_column: String,
    /// The indexed vector.
    pub output_column: String,
    /// Length of the vector.
    pub n_features: usize,
    /// The categorical features: position, and pairs of a value and its index.
    pub category_maps: Vec<(usize, Vec<(f64, u32)>)>,
    /// What a value does that is no category; `keep` gives it the index after the last.
    pub handle_invalid: HandleInvalid,
}

#[derive(Debug)]
struct Bound {
    name: String,
    input: VectorPlace,
    output: VectorPlace,
    features: Vec<BoundFeature>,
    handle_invalid: HandleInvalid,
}

#[derive(Debug)]
struct BoundFeature {
    position: usize,
    /// By the bits of the value; that of 0.0 for both zeros.
    indices: FxHashMap<u64, f64>,
    /// The index of a value that is no category.
    unseen: f64,
}

/// Both zeros are one category: Scala compares keys with `==`.
fn key(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

impl Bind for VectorIndexer {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let input = binder.require_vector_of(&self.input_column, self.n_features)?;
        let mut features = Vec::new();
        for (position, map) in &self.category_maps {
            if *position >= self.n_features {
                return Err(format!("it indexes feature {position} of {}", self.n_features));
            }
            // NaN equals nothing, not even itself: it is never found.
            let known = map.iter().filter(|(value, _)| !value.is_nan());
            let indices = known.map(|&(value, index)| (key(value), f64::from(index))).collect();
            features.push(BoundFeature { position: *position, indices, unseen: map.len() as f64 });
        }
        Ok(Arc::new(Bound {
            name: self.input_column.clone(),
            input,
            output: binder.define_vector(&self.output_column, self.n_features),
            features,
            handle_invalid: self.handle_invalid,
        }))
    }

    fn is_filter(&self) -> bool {
        self.handle_invalid == HandleInvalid::Skip
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        row.map_vector(&self.name, self.input, self.output, |x, mut y| {
            y.entries.copy_from_slice(x.entries);
            y.set_form_of(x);
            for feature in &self.features {
                // Of a sparse vector Spark maps what is stored: it gives the category 0.0 the index 0.
                if x.stored.is_some_and(|stored| !stored[feature.position]) {
                    continue;
                }
                let value = x.entries[feature.position];
                y.entries[feature.position] = match feature.indices.get(&key(value)) {
                    Some(&index) if !value.is_nan() => index,
                    _ if self.handle_invalid == HandleInvalid::Keep => feature.unseen,
                    _ => {
                        let position = feature.position;
                        let reason = format!("holds {value} at {position}, which was not seen in training");
                        return Err(Invalid { column: self.name.clone(), reason, handling: self.handle_invalid });
                    }
                };
            }
            Ok(())
        })
    }
}
