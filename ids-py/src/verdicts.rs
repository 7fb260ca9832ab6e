//! What a detector says of Kafka's messages, as a table: for Spark, which reads and writes them itself.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_schema::{DataType, Field, Fields};
use ids_core::decode::Batch;
use ids_core::{FlowRecords, JsonDecoder, Model, Origin, Outcome, RecordError, RecordErrorKind, Scorer, outcome};
use ids_kafka::headers;
use pyo3::prelude::*;
use pyo3_arrow::PyRecordBatchReader;
use pyo3_arrow::input::AnyRecordBatch;

use crate::errors::{self, IdsError, mismatch};

/// What a detector would say of messages whose values are flows as JSON, by row: `key` and `value` of the verdict,
/// `dead_letter` the headers of its dead letter, null where it is scored.
///
/// The messages are an Arrow table with the columns that Spark's Kafka source has: topic, partition, offset, timestamp
/// and value.
#[pyfunction]
pub(crate) fn verdicts<'py>(
    py: Python<'py>,
    model: &Bound<'py, crate::model::Model>,
    messages: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyRecordBatchReader>> {
    let reader = messages.extract::<AnyRecordBatch>()?.into_reader()?;
    let model = model.get().inner();
    let mut speaker = Speaker::new(model)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let said = batches.iter().map(|batch| {
        let messages = Messages::of(batch)?;
        py.detach(|| speaker.speak(model, &messages))
    });
    let said = said.collect::<PyResult<Vec<_>>>()?;
    let schema = match said.first() {
        Some(batch) => batch.schema(),
        None => Said::default().finish()?.schema(),
    };
    let reader: Box<dyn RecordBatchReader + Send> =
        Box::new(RecordBatchIterator::new(said.into_iter().map(Ok), schema));
    Bound::new(py, PyRecordBatchReader::new(reader))
}

fn failed(error: arrow_schema::ArrowError) -> PyErr {
    IdsError::new_err(error.to_string())
}

/// Messages of Kafka, as Spark hands them over.
struct Messages<'a> {
    topic: ArrayRef,
    partition: &'a PrimitiveArray<Int32Type>,
    offset: &'a PrimitiveArray<Int64Type>,
    timestamp: &'a PrimitiveArray<TimestampMicrosecondType>,
    value: ArrayRef,
}

impl<'a> Messages<'a> {
    fn of(batch: &'a RecordBatch) -> PyResult<Self> {
        let of_type = |name: &str, is_right: fn(&DataType) -> bool, expected: &str| {
            let column = batch.column_by_name(name);
            let column = column.ok_or_else(|| mismatch(name, format!("the messages have no column `{name}`")))?;
            if is_right(column.data_type()) {
                return Ok(column);
            }
            let found = column.data_type();
            Err(mismatch(name, format!("column `{name}` of the messages holds {found}, not {expected}")))
        };
        fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef) -> &PrimitiveArray<T> {
            column.as_primitive::<T>()
        }
        Ok(Self {
            topic: Arc::clone(of_type("topic", |found| *found == DataType::Utf8, "text")?),
            partition: primitive(of_type("partition", |found| *found == DataType::Int32, "a 32-bit integer")?),
            offset: primitive(of_type("offset", |found| *found == DataType::Int64, "a 64-bit integer")?),
            timestamp: primitive(of_type(
                "timestamp",
                |found| matches!(found, DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, _)),
                "a timestamp in microseconds",
            )?),
            value: Arc::clone(of_type("value", |found| *found == DataType::Binary, "bytes")?),
        })
    }

    fn origin(&self, row: usize) -> Origin<'_> {
        // Of a message without a timestamp Spark has -1 ms.
        let timestamp_us = self.timestamp.is_valid(row).then(|| self.timestamp.value(row)).filter(|&us| us >= 0);
        Origin {
            topic: self.topic.as_string::<i32>().value(row),
            partition: self.partition.value(row),
            offset: self.offset.value(row),
            timestamp_ms: timestamp_us.map(|us| us.div_euclid(1000)),
        }
    }
}

/// Decodes and scores; keeps its memory from batch to batch.
struct Speaker {
    decoder: JsonDecoder,
    scorer: Scorer,
    records: FlowRecords,
}

impl Speaker {
    fn new(model: &Model) -> PyResult<Self> {
        let schema = model.schema();
        let decoder = JsonDecoder::new(Arc::clone(schema), model.inputs()).map_err(errors::core)?;
        Ok(Self { decoder, scorer: model.scorer(), records: FlowRecords::new(Arc::clone(schema)) })
    }

    fn speak(&mut self, model: &Model, messages: &Messages<'_>) -> PyResult<RecordBatch> {
        let values = messages.value.as_binary::<i32>();
        let (mut rows, mut bad) = (Vec::with_capacity(values.len()), Vec::new());
        self.records.clear();
        for (row, value) in (0..).zip(values) {
            let decoded = match value {
                Some(value) => self.decoder.decode(row, value, &mut self.records),
                None => Err(RecordError { record: row, column: None, offset: None, kind: RecordErrorKind::Tombstone }),
            };
            match decoded {
                Ok(()) => rows.push(row),
                Err(error) => bad.push(error),
            }
        }
        let batch = Batch { records: &self.records, rows: &rows, bad: &bad };
        let mut said = Said::default();
        let origin = |row: u64| messages.origin(row as usize);
        outcome::outcomes(model, &mut self.scorer, batch, origin, |outcome| said.push(&outcome))
            .map_err(|error| IdsError::new_err(error.to_string()))?;
        said.finish()
    }
}

/// The columns of what is said.
struct Said {
    key: BinaryBuilder,
    value: BinaryBuilder,
    dead_letter: ListBuilder<StructBuilder>,
}

impl Default for Said {
    fn default() -> Self {
        let fields =
            Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)]);
        let header = StructBuilder::new(fields, vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
        Self { key: BinaryBuilder::new(), value: BinaryBuilder::new(), dead_letter: ListBuilder::new(header) }
    }
}

impl Said {
    fn push(&mut self, outcome: &Outcome<'_>) -> serde_json::Result<()> {
        let origin = match outcome {
            Outcome::Verdict(verdict) => verdict.origin,
            Outcome::DeadLetter(dead_letter) => dead_letter.origin,
        };
        self.key.append_value(origin.to_string());
        match outcome {
            Outcome::Verdict(verdict) => {
                self.value.append_value(serde_json::to_vec(verdict)?);
                self.dead_letter.append_null();
            }
            Outcome::DeadLetter(dead_letter) => {
                self.value.append_value(serde_json::to_vec(&dead_letter.marker())?);
                let header = self.dead_letter.values();
                for (name, value) in headers::of_dead_letter(dead_letter) {
                    if let Some(names) = header.field_builder::<StringBuilder>(0) {
                        names.append_value(name);
                    }
                    if let Some(values) = header.field_builder::<BinaryBuilder>(1) {
                        values.append_value(value);
                    }
                    header.append(true);
                }
                self.dead_letter.append(true);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> PyResult<RecordBatch> {
        let columns: [(&str, ArrayRef); 3] = [
            ("key", Arc::new(self.key.finish())),
            ("value", Arc::new(self.value.finish())),
            ("dead_letter", Arc::new(self.dead_letter.finish())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(failed)
    }
}
