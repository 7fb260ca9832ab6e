//! Batches that lie column by column, e.g. Arrow's: which columns a source has is settled once, then batch after
//! batch is filled a column at a time.

use std::sync::Arc;

use super::{Named, RecordError, RowRules};
use crate::error::{Error, Result};
use crate::record::FlowRecords;
use crate::rows::Slot;
use crate::schema::{ColumnKind, Schema};

/// Decodes batches column by column.
#[derive(Debug, Clone)]
pub struct ColumnDecoder {
    rules: RowRules,
    positions: Vec<Option<usize>>,
    /// Positions in the schema of the columns that the model takes.
    inputs: Vec<usize>,
    /// Rows of the batch with a value that may not stand there: row, column and value.
    faults: Vec<(usize, usize, f64)>,
}

impl ColumnDecoder {
    /// A decoder of batches whose columns are called `names` and that must hold the columns `inputs` (see
    /// [`Model::inputs`](crate::Model::inputs)), unless the schema derives them or marks them optional.
    /// `source_name` is what messages call the source.
    ///
    /// # Errors
    /// [`Error::MissingColumns`] lists what the source lacks; [`Error::Columns`] names a column that it has twice, or
    /// that tells of another data set.
    pub fn new<S: AsRef<str>>(schema: Arc<Schema>, inputs: &[String], names: &[S], source_name: &str) -> Result<Self> {
        let named = Named::new(&schema, names);
        let named = named.map_err(|detail| Error::Columns { source_name: source_name.into(), detail })?;
        let positions = named.positions;
        let mut rules = RowRules::new(schema, inputs)?;
        rules.see_all(positions.iter().flatten().copied(), source_name)?;
        let inputs = inputs.iter().filter_map(|input| rules.schema.position(input)).collect();
        Ok(Self { rules, positions, inputs, faults: Vec::new() })
    }

    /// Per column of the source: its position in the schema; `None` for one that the schema does not know.
    pub fn positions(&self) -> &[Option<usize>] {
        &self.positions
    }

    /// Whether the inputs follow from the column at `position`: the others need not be filled in.
    pub fn is_needed(&self, position: usize) -> bool {
        let mut due = self.rules.due().filter(|rule| self.inputs.contains(&rule.target));
        self.inputs.contains(&position) || due.any(|rule| rule.operands().any(|operand| operand == position))
    }

    /// Makes `records` a batch of `n_rows`, to be filled column by column: the same columns every time.
    ///
    /// # Panics
    /// Where `records` is of another schema than the decoder.
    pub fn start(&mut self, n_rows: usize, records: &mut FlowRecords) {
        // Only to check that they are of one schema.
        drop(self.rules.new_row(records));
        self.faults.clear();
        records.rows_mut().resize(n_rows);
    }

    /// Fills the column of numbers at `position`, row by row.
    ///
    /// # Panics
    /// Where the column is one of texts.
    pub fn numbers(&mut self, position: usize, values: impl Iterator<Item = Option<f64>>, records: &mut FlowRecords) {
        let Slot::Number(slot) = self.rules.schema.slot(position) else { panic!("column {position} holds no numbers") };
        records.rows_mut().fill_numbers(slot, values);
        let place = self.rules.place(position);
        if place.kind == ColumnKind::Integer {
            let rows = records.as_ref().iter().map(|row| row.number(slot));
            let wrong = rows.enumerate().filter_map(|(row, value)| Some((row, position, value?)));
            self.faults.extend(wrong.filter(|&(_, _, value)| !place.takes(value)));
        }
    }

    /// Fills the column of texts at `position`, row by row.
    ///
    /// # Panics
    /// Where the column is one of numbers.
    pub fn texts<'t>(
        &mut self,
        position: usize,
        values: impl Iterator<Item = Option<&'t str>>,
        records: &mut FlowRecords,
    ) {
        let Slot::Text(slot) = self.rules.schema.slot(position) else { panic!("column {position} holds no texts") };
        records.rows_mut().fill_texts(slot, values);
    }

    /// Derives what is absent, and takes out the rows that are no flows: an error each, in order. Rows of the
    /// batch are numbered from `first` on.
    pub fn finish(&mut self, first: u64, records: &mut FlowRecords) -> Vec<RecordError> {
        let schema = &self.rules.schema;
        for rule in self.rules.due() {
            let number = |row: usize, position: usize| match schema.slot(position) {
                Slot::Number(slot) => records.as_ref().get(row).number(slot),
                _ => None,
            };
            let derived: Vec<_> = (0..records.len()).map(|row| rule.derive(|position| number(row, position))).collect();
            if let Slot::Number(slot) = schema.slot(rule.target) {
                records.rows_mut().fill_numbers(slot, derived);
            }
        }
        self.faults.sort_by_key(|&(row, position, _)| (row, position));
        self.faults.dedup_by_key(|&mut (row, ..)| row);
        let rows: Vec<_> = self.faults.iter().map(|&(row, ..)| row).collect();
        if !rows.is_empty() {
            records.rows_mut().remove(&rows);
        }
        let error = |&(row, position, value): &(usize, usize, f64)| RecordError {
            record: first + row as u64,
            column: Some(schema.columns()[position].name.clone()),
            offset: None,
            kind: RowRules::no_integer(&value.to_string()),
        };
        self.faults.iter().map(error).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Arc<Schema> {
        let text = "name = 'x'\n\
            [[columns]]\nname = 'n'\nkind = 'integer'\n[[columns]]\nname = 'd'\nkind = 'number'\n\
            [[columns]]\nname = 't'\nkind = 'category'\n\
            [[columns]]\nname = 'r'\nkind = 'number'\n\
            derive = { rule = 'packet_rate', packets = ['n'], duration = 'd' }";
        Arc::new(Schema::from_toml(text).expect("a schema"))
    }

    fn inputs(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn columns_are_derived_and_rows_that_are_no_flows_taken_out() {
        let schema = schema();
        let mut decoder =
            ColumnDecoder::new(Arc::clone(&schema), &inputs(&["r", "t"]), &["T", "n", "other", "d"], "the table")
                .expect("complete");
        assert_eq!(decoder.positions(), [Some(2), Some(0), None, Some(1)]);
        assert!((0..4).all(|position| decoder.is_needed(position)));
        let mut records = FlowRecords::new(schema);
        for _ in 0..2 {
            decoder.start(4, &mut records);
            decoder.texts(2, [Some("a"), None, Some("c"), Some("d")].into_iter(), &mut records);
            decoder.numbers(0, [Some(3.0), Some(0.5), None, Some(2.0)].into_iter(), &mut records);
            decoder.numbers(1, [Some(4.0), Some(1.0), Some(1.0), Some(0.0)].into_iter(), &mut records);
            let errors = decoder.finish(10, &mut records);
            let found: Vec<_> = errors.iter().map(|error| (error.record, error.column.as_deref())).collect();
            assert_eq!(found, [(11, Some("n"))]);
            let flows: Vec<_> = records.iter().map(|flow| (flow.text("t"), flow.number("r"))).collect();
            assert_eq!(flows, [(Some("a"), Some(0.5)), (Some("c"), None), (Some("d"), Some(0.0))]);
        }
    }

    #[test]
    fn what_a_source_lacks_or_has_twice_is_said() {
        let refused = |names: &[&str]| {
            ColumnDecoder::new(schema(), &inputs(&["r", "t"]), names, "the table").expect_err("refused").to_string()
        };
        let message = refused(&["n"]);
        assert!(message.contains("the table cannot supply 2 columns that the model needs: d, t"), "{message}");
        assert!(refused(&["n", "N"]).contains("`N` is there twice"));
    }
}
