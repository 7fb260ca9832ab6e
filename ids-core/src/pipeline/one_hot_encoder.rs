//! Indices to vectors with a single 1, by the rules of Spark's `OneHotEncoderModel` (OneHotEncoder.scala).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::Binder;
use super::row::{NumberSource, Row, VectorPlace};
use super::{Apply, Bind, HandleInvalid, Invalid};

/// Replaces an index by a sparse vector with a 1 there; what follows the point of the index is ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneHotEncoder {
    /// Columns with the indices.
    pub input_columns: Vec<String>,
    /// The vectors, one per input.
    pub output_columns: Vec<String>,
    /// Per input: how many categories there were in training.
    pub category_sizes: Vec<usize>,
    /// Whether the last category is the vector without a 1.
    pub drop_last: bool,
    /// `keep` makes a category, the last, of every index that is none.
    pub handle_invalid: HandleInvalid,
}

impl OneHotEncoder {
    /// Lengths of the vectors, one per output.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.category_sizes.iter().map(|&n_categories| self.length(n_categories))
    }

    fn length(&self, n_categories: usize) -> usize {
        match (self.handle_invalid, self.drop_last) {
            (HandleInvalid::Keep, false) => n_categories.saturating_add(1),
            (HandleInvalid::Keep, true) | (_, false) => n_categories,
            (_, true) => n_categories.saturating_sub(1),
        }
    }
}

#[derive(Debug)]
struct Bound {
    columns: Vec<BoundColumn>,
    handle_invalid: HandleInvalid,
}

#[derive(Debug)]
struct BoundColumn {
    name: String,
    source: NumberSource,
    n_categories: usize,
    output: VectorPlace,
}

impl Bind for OneHotEncoder {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let n = self.input_columns.len();
        if self.output_columns.len() != n || self.category_sizes.len() != n {
            return Err("input columns, output columns and category sizes differ in number".into());
        }
        let mut columns = Vec::new();
        for ((input, output), &n_categories) in
            self.input_columns.iter().zip(&self.output_columns).zip(&self.category_sizes)
        {
            let (source, _) = binder.require_number(input)?;
            let output = binder.define_vector(output, self.length(n_categories));
            columns.push(BoundColumn { name: input.clone(), source, n_categories, output });
        }
        Ok(Arc::new(Bound { columns, handle_invalid: self.handle_invalid }))
    }

    fn is_filter(&self) -> bool {
        self.handle_invalid == HandleInvalid::Skip
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        for column in &self.columns {
            let Some(index) = column.source.read(row) else {
                row.vector_out(column.output).set_missing();
                continue;
            };
            let category = if index >= 0.0 && index < column.n_categories as f64 {
                index as usize
            } else if self.handle_invalid == HandleInvalid::Keep {
                column.n_categories
            } else {
                let reason = format!("holds {index}, which is no category seen in training");
                return Err(Invalid { column: column.name.clone(), reason, handling: self.handle_invalid });
            };
            let mut output = row.vector_out(column.output);
            output.entries.fill(0.0);
            if let Some(entry) = output.entries.get_mut(category) {
                *entry = 1.0;
            }
            output.set_sparse(|position| position == category);
        }
        Ok(())
    }
}
