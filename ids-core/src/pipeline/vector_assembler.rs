//! Numbers and vectors to one vector, by the rules of Spark's `VectorAssembler` (VectorAssembler.scala).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Binder, HandleInvalid, Invalid, NumberSource, Row, Symbol};

/// Joins columns into a vector, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorAssembler {
    /// Numbers and vectors.
    pub input_columns: Vec<String>,
    /// The vector.
    pub output_column: String,
    /// What a missing number or NaN does; `keep` makes both NaN.
    pub handle_invalid: HandleInvalid,
}

#[derive(Debug, Clone)]
pub(super) struct Bound {
    parts: Vec<Part>,
    output: Range<usize>,
    handle_invalid: HandleInvalid,
}

#[derive(Debug, Clone)]
enum Part {
    Number { name: String, source: NumberSource },
    Vector(Range<usize>),
}

impl VectorAssembler {
    pub(super) fn bind(&self, binder: &mut Binder<'_>) -> Result<Bound, String> {
        let mut parts = Vec::new();
        let mut length = 0;
        for input in &self.input_columns {
            match binder.require(input)? {
                Some(Symbol::Number(source)) => {
                    parts.push(Part::Number { name: input.clone(), source });
                    length += 1;
                }
                Some(Symbol::Vector(range)) => {
                    length += range.len();
                    parts.push(Part::Vector(range));
                }
                Some(Symbol::Text { .. }) => return Err(format!("`{input}` is text, not a number")),
                // Noted as missing: binding fails in the end, with the whole list. Most likely a number.
                Some(Symbol::Absent { .. }) | None => length += 1,
            }
        }
        let output = binder.define_vector(&self.output_column, length);
        Ok(Bound { parts, output, handle_invalid: self.handle_invalid })
    }
}

impl Bound {
    pub(super) fn apply(&self, row: &mut Row<'_>) -> Result<(), Invalid> {
        let mut next = self.output.start;
        for part in &self.parts {
            match part {
                Part::Number { name, source } => {
                    let value = source.read(row);
                    if self.handle_invalid != HandleInvalid::Keep && value.is_none_or(f64::is_nan) {
                        let reason = if value.is_none() { "is missing" } else { "is NaN" };
                        let (column, reason) = (name.clone(), reason.to_owned());
                        return Err(Invalid { column, reason, handling: self.handle_invalid });
                    }
                    row.vectors[next] = without_negative_zero(value.unwrap_or(f64::NAN));
                    next += 1;
                }
                Part::Vector(range) => {
                    for from in range.clone() {
                        row.vectors[next] = without_negative_zero(row.vectors[from]);
                        next += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Spark keeps only the entries that are `!= 0.0`, so a -0.0 comes out as 0.0. Adding 0.0 does the
/// same and leaves every other value, NaN included, as it is.
fn without_negative_zero(x: f64) -> f64 {
    x + 0.0
}
