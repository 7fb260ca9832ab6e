//! Numbers and vectors to one vector, by the rules of Spark's `VectorAssembler` (VectorAssembler.scala).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::{Binder, Symbol};
use super::row::{Form, NumberSource, Row, VectorPlace};
use super::{Apply, Bind, Dialect, HandleInvalid, Invalid};

/// Joins columns into a vector, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorAssembler {
    /// Numbers and vectors.
    pub input_columns: Vec<String>,
    /// The vector.
    pub output_column: String,
    /// What a missing number or vector, or a NaN that is no part of a vector, does; `keep` makes NaN of them.
    pub handle_invalid: HandleInvalid,
}

#[derive(Debug)]
struct Bound {
    /// Columns with their names.
    parts: Vec<(String, Part)>,
    output: VectorPlace,
    handle_invalid: HandleInvalid,
    dialect: Dialect,
}

#[derive(Debug)]
enum Part {
    Number(NumberSource),
    Vector(VectorPlace),
}

impl Bind for VectorAssembler {
    fn bind(&self, binder: &mut Binder<'_>) -> Result<Arc<dyn Apply>, String> {
        let mut parts = Vec::new();
        let mut length = 0usize;
        for input in &self.input_columns {
            match binder.require(input)? {
                Some(Symbol::Number(source, _)) => {
                    parts.push((input.clone(), Part::Number(source)));
                    length = length.saturating_add(1);
                }
                Some(Symbol::Vector(place)) => {
                    length = length.saturating_add(place.length);
                    parts.push((input.clone(), Part::Vector(place)));
                }
                Some(Symbol::Text(_)) => return Err(format!("`{input}` is text, not a number")),
                // Noted as missing: binding fails in the end. Most likely a number.
                Some(Symbol::Absent { .. }) | None => length = length.saturating_add(1),
            }
        }
        let output = binder.define_vector(&self.output_column, length);
        Ok(Arc::new(Bound { parts, output, handle_invalid: self.handle_invalid, dialect: binder.dialect }))
    }

    fn is_eager(&self) -> bool {
        true
    }

    fn is_filter(&self) -> bool {
        self.handle_invalid == HandleInvalid::Skip
    }
}

impl Apply for Bound {
    fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        let invalid = |name: &String, reason: &str| {
            Err(Invalid { column: name.clone(), reason: reason.into(), handling: self.handle_invalid })
        };
        let is_kept = self.handle_invalid == HandleInvalid::Keep;
        let mut next = self.output.start;
        for (name, part) in &self.parts {
            match part {
                Part::Number(source) => {
                    let value = source.read(row);
                    if !is_kept && value.is_none_or(f64::is_nan) {
                        return invalid(name, if value.is_none() { "is missing" } else { "is NaN" });
                    }
                    row.made.entries[next] = without_negative_zero(value.unwrap_or(f64::NAN));
                    next += 1;
                }
                Part::Vector(place) => {
                    let is_missing = row.made.forms[place.id] == Form::Missing;
                    if is_missing && !is_kept {
                        return invalid(name, "is missing");
                    }
                    for from in place.range() {
                        let entry = if is_missing { f64::NAN } else { row.made.entries[from] };
                        row.made.entries[next] = without_negative_zero(entry);
                        next += 1;
                    }
                }
            }
        }
        row.vector_out(self.output).compress(self.dialect);
        Ok(())
    }
}

/// Spark keeps only the entries that are `!= 0.0`, so a -0.0 comes out as 0.0. Adding 0.0 does the
/// same and leaves every other value, NaN included, as it is.
fn without_negative_zero(x: f64) -> f64 {
    x + 0.0
}
