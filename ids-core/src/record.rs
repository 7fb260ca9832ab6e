//! Flows as their source gave them: named numbers and texts, where missing is missing and not 0.
//!
//! [`FlowRecords`] is the batch that decoders fill and models score; [`FlowRecord`] is one flow in it.
//! What the bytes looked like is not kept here, nor what a model makes of the values.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::schema::{ColumnKind, Schema, Slot};

/// A batch of flows of one schema, stored row by row.
#[derive(Debug, Clone)]
pub struct FlowRecords {
    schema: Arc<Schema>,
    n_numbers: usize,
    n_texts: usize,
    len: usize,
    /// `[len, n_numbers]`, row-major.
    numbers: Vec<Option<f64>>,
    /// `[len, n_texts]`, row-major: spans of `arena`.
    texts: Vec<Option<Span>>,
    arena: String,
}

/// A piece of the arena, as byte offsets.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// One flow of a batch: a view.
#[derive(Debug, Clone, Copy)]
pub struct FlowRecord<'a> {
    schema: &'a Schema,
    numbers: &'a [Option<f64>],
    texts: &'a [Option<Span>],
    arena: &'a str,
}

impl FlowRecords {
    /// An empty batch.
    pub fn new(schema: Arc<Schema>) -> Self {
        let (n_numbers, n_texts) = (schema.n_numbers(), schema.n_texts());
        Self { schema, n_numbers, n_texts, len: 0, numbers: Vec::new(), texts: Vec::new(), arena: String::new() }
    }

    /// The schema of every flow in the batch.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all flows, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.numbers.clear();
        self.texts.clear();
        self.arena.clear();
    }

    /// The flow at `index`.
    ///
    /// # Panics
    /// Where `index >= len()`, as slices do.
    pub fn get(&self, index: usize) -> FlowRecord<'_> {
        assert!(index < self.len, "flow {index} of {}", self.len);
        FlowRecord {
            schema: &self.schema,
            numbers: &self.numbers[index * self.n_numbers..][..self.n_numbers],
            texts: &self.texts[index * self.n_texts..][..self.n_texts],
            arena: &self.arena,
        }
    }

    /// All flows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FlowRecord<'_>> {
        (0..self.len).map(|index| self.get(index))
    }

    /// Appends a flow whose values are all missing and gives it for filling. It is part of the batch
    /// only once it is kept: dropping the row without [`NewRow::keep`] takes it out again.
    pub(crate) fn new_row(&mut self) -> NewRow<'_> {
        let arena_start = self.arena.len();
        self.numbers.resize((self.len + 1) * self.n_numbers, None);
        self.texts.resize((self.len + 1) * self.n_texts, None);
        NewRow { records: self, arena_start }
    }
}

/// The flow that a decoder is filling.
pub(crate) struct NewRow<'a> {
    records: &'a mut FlowRecords,
    arena_start: usize,
}

impl NewRow<'_> {
    pub(crate) fn set_number(&mut self, slot: usize, value: f64) {
        let first = self.records.len * self.records.n_numbers;
        self.records.numbers[first + slot] = Some(value);
    }

    pub(crate) fn number(&self, slot: usize) -> Option<f64> {
        self.records.numbers[self.records.len * self.records.n_numbers + slot]
    }

    pub(crate) fn set_text(&mut self, slot: usize, value: &str) {
        let FlowRecords { arena, texts, len, n_texts, .. } = &mut *self.records;
        let start = arena.len();
        arena.push_str(value);
        texts[*len * *n_texts + slot] = Some(Span { start, end: arena.len() });
    }

    pub(crate) fn keep(self) {
        self.records.len += 1;
    }
}

impl Drop for NewRow<'_> {
    fn drop(&mut self) {
        let records = &mut *self.records;
        let kept = records.numbers.len() == records.len * records.n_numbers
            && records.texts.len() == records.len * records.n_texts;
        if !kept {
            records.numbers.truncate(records.len * records.n_numbers);
            records.texts.truncate(records.len * records.n_texts);
            records.arena.truncate(self.arena_start);
        }
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
            Slot::Number(slot) => self.number_at(slot),
            Slot::Text(_) => None,
        }
    }

    /// Value of the category, label or identifier column `name`; `None` where it is missing or no
    /// such column exists.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.schema.slot(self.schema.position(name)?) {
            Slot::Text(slot) => self.text_at(slot),
            Slot::Number(_) => None,
        }
    }

    /// The flow's class, spelt as the schema spells it, if the source gave one.
    pub fn label(&self) -> Option<&'a str> {
        let labels = self.schema.labels()?;
        labels.class(self.text(&labels.column)?)
    }

    pub(crate) fn number_at(&self, slot: usize) -> Option<f64> {
        self.numbers[slot]
    }

    pub(crate) fn text_at(&self, slot: usize) -> Option<&'a str> {
        self.texts[slot].map(|span| &self.arena[span.start..span.end])
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
                Slot::Number(slot) => {
                    if let Some(value) = self.number_at(slot) {
                        let _ = write!(json, "{separator}\"{}\":", column.name);
                        push_double(&mut json, value);
                    }
                }
                Slot::Text(slot) => {
                    if let Some(value) = self.text_at(slot) {
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
    fn a_row_that_is_not_kept_leaves_no_trace() {
        let mut records = FlowRecords::new(Arc::new(Schema::unsw_nb15()));
        let mut row = records.new_row();
        row.set_number(0, 1.0);
        row.set_text(0, "kept");
        row.keep();
        let mut row = records.new_row();
        row.set_number(0, 2.0);
        row.set_text(0, "dropped");
        drop(row);
        assert_eq!(records.len(), 1);
        assert_eq!(records.arena, "kept");
        records.new_row().keep();
        assert_eq!(records.get(1).number_at(0), None);
        assert_eq!(records.get(0).text_at(0), Some("kept"));
    }

    #[test]
    fn doubles_are_written_so_that_they_read_back() {
        for value in [0.1, -0.0, 1e300, 5e-324, 123_456_789_012_345.6, f64::MAX, 90909.0902] {
            let mut json = String::new();
            push_double(&mut json, value);
            assert_eq!(json.parse::<f64>().expect("a number").to_bits(), value.to_bits(), "{json}");
        }
    }
}
