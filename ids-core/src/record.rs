//! Flows as their source gave them: named numbers and texts, where missing is missing and not 0.
//!
//! [`FlowRecords`] is the batch that decoders fill and models score; [`FlowRecord`] is one flow in it.
//! What the bytes looked like is not kept here, nor what a model makes of the values.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::rows::{NewRow, Row, Rows, Slot};
use crate::schema::{ColumnKind, Schema};

/// A batch of flows of one schema.
#[derive(Debug, Clone)]
pub struct FlowRecords {
    schema: Arc<Schema>,
    rows: Rows,
}

/// One flow of a batch: a view.
#[derive(Debug, Clone, Copy)]
pub struct FlowRecord<'a> {
    schema: &'a Schema,
    row: Row<'a>,
}

impl FlowRecords {
    /// An empty batch.
    pub fn new(schema: Arc<Schema>) -> Self {
        let rows = Rows::new(Arc::clone(schema.fields()));
        Self { schema, rows }
    }

    /// The schema of every flow in the batch.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Removes all flows, keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// The flow at `index`.
    ///
    /// # Panics
    /// Where `index >= len()`, as slices do.
    pub fn get(&self, index: usize) -> FlowRecord<'_> {
        FlowRecord { schema: &self.schema, row: self.rows.get(index) }
    }

    /// All flows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FlowRecord<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Appends a flow whose values are all missing and gives it for filling: see [`Rows::new_row`].
    pub(crate) fn new_row(&mut self) -> NewRow<'_> {
        self.rows.new_row()
    }

    /// The rows, for filling column by column.
    pub(crate) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }
}

impl AsRef<Rows> for FlowRecords {
    fn as_ref(&self) -> &Rows {
        &self.rows
    }
}

impl<'a> FlowRecord<'a> {
    /// The schema that names the flow's columns.
    pub fn schema(&self) -> &'a Schema {
        self.schema
    }

    /// Value of the number column `name`; `None` where it is missing or no such column exists.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.schema.slot(self.schema.position(name)?) {
            Slot::Number(slot) => self.row.number(slot),
            _ => None,
        }
    }

    /// Value of the category, label or identifier column `name`; `None` where it is missing or no
    /// such column exists.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.schema.slot(self.schema.position(name)?) {
            Slot::Text(slot) => self.row.text(slot),
            _ => None,
        }
    }

    /// The flow's class, spelt as the schema spells it, if the source gave one.
    pub fn label(&self) -> Option<&'a str> {
        let labels = self.schema.labels()?;
        labels.class(self.text(&labels.column)?)
    }

    /// The values, by their slots in the schema's fields.
    pub fn row(&self) -> Row<'a> {
        self.row
    }

    /// The flow as a JSON object without its labels: what a sensor would send. Numbers are written
    /// so that they read back to the same double; NaN and the infinities as bare `NaN`, `Infinity`
    /// and `-Infinity`, as Python's `json` writes them and the decoder reads them.
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(1024);
        for (position, column) in self.schema.columns().iter().enumerate() {
            let separator = if json.is_empty() { '{' } else { ',' };
            match self.schema.slot(position) {
                _ if column.kind == ColumnKind::Label => {}
                Slot::Vector(_) => {}
                Slot::Number(slot) => {
                    if let Some(value) = self.row.number(slot) {
                        let _ = write!(json, "{separator}\"{}\":", column.name);
                        push_double(&mut json, value);
                    }
                }
                Slot::Text(slot) => {
                    if let Some(value) = self.row.text(slot) {
                        let quoted = serde_json::Value::from(value);
                        let _ = write!(json, "{separator}\"{}\":{quoted}", column.name);
                    }
                }
            }
        }
        if json.is_empty() {
            json.push('{');
        }
        json.push('}');
        json
    }
}

/// Shortest decimal that reads back to `value`.
fn push_double(json: &mut String, value: f64) {
    let magnitude = value.abs();
    let _ = if value.is_infinite() {
        write!(json, "{}", if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else if value == 0.0 || value.is_nan() || (1e-5..1e16).contains(&magnitude) {
        write!(json, "{value}")
    } else {
        write!(json, "{value:e}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_so_that_they_read_back() {
        for value in [0.1, -0.0, 1e300, 5e-324, 123_456_789_012_345.6, f64::MAX, 90909.0902] {
            let mut json = String::new();
            push_double(&mut json, value);
            assert_eq!(json.parse::<f64>().expect("a number").to_bits(), value.to_bits(), "{json}");
        }
    }
}
