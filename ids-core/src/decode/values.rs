//! Records whose values are typed already, e.g. those of a dictionary: one value after the other.

use std::sync::Arc;

use super::{Fault, RecordError, RecordErrorKind, RowRules, excerpt};
use crate::error::Result;
use crate::record::FlowRecords;
use crate::rows::{NewRow, Slot};
use crate::schema::Schema;

/// Decodes records value by value.
#[derive(Debug, Clone)]
pub struct ValueDecoder {
    rules: RowRules,
}

/// A value of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None.
    Missing,
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
}

/// A record that is being decoded. It is part of the batch only once it is finished.
#[derive(Debug)]
pub struct NewRecord<'a> {
    rules: &'a mut RowRules,
    row: NewRow<'a>,
}

impl ValueDecoder {
    /// A decoder of records that must hold the columns `inputs` (see
    /// [`Model::inputs`](crate::Model::inputs)), unless the schema derives them or marks them optional.
    ///
    /// # Errors
    /// [`Error::MissingColumns`](crate::Error::MissingColumns) lists inputs that the schema does not know.
    pub fn new(schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        Ok(Self { rules: RowRules::new(schema, inputs)? })
    }

    /// Begins a record of `records`.
    ///
    /// # Panics
    /// Where `records` is of another schema than the decoder.
    pub fn start<'a>(&'a mut self, records: &'a mut FlowRecords) -> NewRecord<'a> {
        self.rules.start();
        let row = self.rules.new_row(records);
        NewRecord { rules: &mut self.rules, row }
    }
}

impl NewRecord<'_> {
    /// Sets the column at `position` of the schema. `record` is the number by which an error names the record.
    ///
    /// # Errors
    /// Where it is given twice, or the value is of another type than the column.
    pub fn set(&mut self, record: u64, position: usize, value: Value<'_>) -> std::result::Result<(), RecordError> {
        self.fill(position, value).map_err(|kind| self.error(record, position, kind))
    }

    /// The error of a value that is not even one of the types.
    pub fn error(&self, record: u64, position: usize, kind: RecordErrorKind) -> RecordError {
        self.rules.error(record, Fault::whole(kind).in_column(position))
    }

    /// The error of the record as a whole.
    pub fn refusal(&self, record: u64, kind: RecordErrorKind) -> RecordError {
        self.rules.error(record, Fault::whole(kind))
    }

    /// Derives what is absent, checks that nothing needed is, and makes the record part of the batch.
    ///
    /// # Errors
    /// Where a column is absent that the model needs.
    pub fn finish(mut self, record: u64) -> std::result::Result<(), RecordError> {
        self.rules.finish(&mut self.row).map_err(|fault| self.rules.error(record, fault))?;
        self.row.keep();
        Ok(())
    }

    fn fill(&mut self, position: usize, value: Value<'_>) -> std::result::Result<(), RecordErrorKind> {
        if !self.rules.see(position)? {
            return Ok(());
        }
        let wrong = |expected, found: String| Err(RecordErrorKind::WrongType { expected, found });
        let place = self.rules.place(position);
        match (place.slot, value) {
            (_, Value::Missing) => {}
            (Slot::Number(slot), Value::Number(value)) => {
                if !place.takes(value) {
                    return Err(RowRules::no_integer(&value.to_string()));
                }
                self.row.set_number(slot, value);
            }
            (Slot::Text(slot), Value::Text(value)) => self.row.set_text(slot, value),
            (Slot::Number(_), Value::Text(found)) => return wrong("a number", excerpt(found.as_bytes())),
            (Slot::Text(_), Value::Number(found)) => return wrong("a text", format!("`{found}`")),
            (Slot::Vector(_), _) => return wrong("a number or text", "a vector".into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_as_json_would_give_it() {
        let schema = Arc::new(Schema::unsw_nb15());
        let at = |name: &str| schema.position(name).expect("a column");
        let inputs = ["rate".to_owned(), "proto".to_owned()];
        let mut decoder = ValueDecoder::new(Arc::clone(&schema), &inputs).expect("known inputs");
        let mut records = FlowRecords::new(Arc::clone(&schema));
        let mut record = decoder.start(&mut records);
        for (name, value) in [("spkts", 2.0), ("dpkts", 3.0), ("dur", 0.5)] {
            record.set(0, at(name), Value::Number(value)).expect("a number");
        }
        record.set(0, at("proto"), Value::Text("udp")).expect("a text");
        record.finish(0).expect("complete");
        assert_eq!((records.get(0).number("rate"), records.get(0).text("proto")), (Some(8.0), Some("udp")));

        let mut record = decoder.start(&mut records);
        let error = record.set(1, at("proto"), Value::Number(6.0)).expect_err("no text");
        assert_eq!((error.column.as_deref(), error.kind.code()), (Some("proto"), "wrong_type"));
        let error = record.set(1, at("proto"), Value::Missing).expect_err("given twice");
        assert_eq!(error.kind, RecordErrorKind::DuplicateColumn);
        let error = record.finish(1).expect_err("incomplete");
        assert_eq!((error.record, error.column.as_deref(), error.kind.code()), (1, Some("spkts"), "missing_column"));
        assert_eq!(records.len(), 1);
    }
}
