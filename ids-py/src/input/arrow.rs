//! Tables with the Arrow PyCapsule interface: record batches, read where they lie.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayAccessor, ArrowPrimitiveType, PrimitiveArray, RecordBatch, RecordBatchReader};
use arrow_schema::{DataType, Schema as ArrowSchema};
use ids_core::decode::ColumnDecoder;
use ids_core::rows::Slot;
use ids_core::schema::ColumnKind;
use ids_core::{FlowRecords, Schema};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::input::AnyRecordBatch;

use super::{Columns, no_labels, read_columns, refuse_foreign, wrong_type};
use crate::errors::{self, DecodeError, SchemaMismatch};
use crate::outputs::{Source, TILE, Tile};

/// Record batches whose columns are found and checked.
pub(crate) struct ArrowRows {
    schema: Arc<Schema>,
    decoder: ColumnDecoder,
    /// Columns to read: position in the batches, position in the schema.
    columns: Vec<(usize, usize)>,
    batches: Vec<RecordBatch>,
    /// Position of the first row of each batch.
    firsts: Vec<usize>,
    n_rows: usize,
}

impl ArrowRows {
    /// Reads every batch of `data`, which has the PyCapsule interface.
    pub(crate) fn read(
        data: &Bound<'_, PyAny>,
        schema: &Arc<Schema>,
        inputs: &[String],
        columns: Columns,
    ) -> PyResult<Self> {
        let py = data.py();
        let no_table = |error: PyErr| {
            if !error.is_instance_of::<PyValueError>(py) {
                return error;
            }
            let found = data.get_type();
            PyTypeError::new_err(format!(
                "cannot read flows from {found}, which is no table: pass one with the columns that the model takes, e.g. \
                 what its to_frame() gives ({error})"
            ))
        };
        let reader = data.extract::<AnyRecordBatch>().and_then(AnyRecordBatch::into_reader).map_err(no_table)?;
        let arrow_schema = reader.schema();
        let failed = |error| DecodeError::new_err(format!("the Arrow stream failed: {error}"));
        let batches = reader.map(|batch| {
            py.check_signals()?;
            batch.map_err(failed)
        });
        let batches = batches.collect::<PyResult<Vec<_>>>()?;
        Self::new(&arrow_schema, batches, Arc::clone(schema), inputs, columns, "the Arrow table")
    }

    /// Batches of `arrow_schema`, as rows of `schema` that must hold the columns `inputs`.
    pub(crate) fn new(
        arrow_schema: &ArrowSchema,
        batches: Vec<RecordBatch>,
        schema: Arc<Schema>,
        inputs: &[String],
        columns: Columns,
        source: &str,
    ) -> PyResult<Self> {
        for field in arrow_schema.fields() {
            refuse_foreign(field.name(), &schema, source)?;
        }
        // Columns that are not read have no name here, so that two of them may have one name.
        let is_read = read_columns(&schema, inputs, columns);
        let named = |name| if schema.position(name).is_some_and(|position| is_read[position]) { name } else { "" };
        let names: Vec<_> = arrow_schema.fields().iter().map(|field| named(field.name())).collect();
        refuse_twins(&names, &schema, source)?;
        let decoder = ColumnDecoder::new(Arc::clone(&schema), inputs, &names, source).map_err(errors::core)?;
        let mut chosen = Vec::new();
        for (column, position) in decoder.positions().iter().enumerate() {
            let Some(position) = *position else { continue };
            let kind = schema.columns()[position].kind;
            let is_chosen = match columns {
                Columns::Inputs => false,
                Columns::Label => {
                    schema.labels().is_some_and(|labels| schema.position(&labels.column) == Some(position))
                }
                Columns::All => true,
            };
            if is_chosen || decoder.is_needed(position) {
                let data_type = arrow_schema.field(column).data_type();
                if !can_hold(data_type, kind) {
                    let (name, found) = (&schema.columns()[position].name, data_type.to_string());
                    return Err(wrong_type(name, &found, kind.is_number(), source, &schema));
                }
                chosen.push((column, position));
            }
        }
        let label = schema.labels().and_then(|labels| schema.position(&labels.column));
        if columns == Columns::Label && label.is_some_and(|label| !decoder.positions().contains(&Some(label))) {
            return Err(no_labels(&schema, source));
        }
        let mut n_rows = 0;
        let mut firsts = Vec::with_capacity(batches.len());
        for batch in &batches {
            firsts.push(n_rows);
            n_rows += batch.num_rows();
        }
        Ok(Self { schema, decoder, columns: chosen, batches, firsts, n_rows })
    }
}

impl Source for ArrowRows {
    type Decoder = (ColumnDecoder, FlowRecords);

    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn decoder(&self) -> Self::Decoder {
        (self.decoder.clone(), FlowRecords::new(Arc::clone(&self.schema)))
    }

    fn tile<'a>(&'a self, (decoder, records): &'a mut Self::Decoder, range: Range<usize>) -> Tile<'a> {
        // The last batch that begins at or before the row; empty ones before it begin there too.
        let at = self.firsts.partition_point(|&first| first <= range.start) - 1;
        let start = range.start - self.firsts[at];
        let end = (start + TILE.min(range.len())).min(self.batches[at].num_rows());
        decoder.start(end - start, records);
        for &(column, position) in &self.columns {
            let array = self.batches[at].column(column).slice(start, end - start);
            match self.schema.slot(position) {
                Slot::Number(_) => numbers(decoder, position, &array, records),
                _ => texts(decoder, position, &array, records),
            }
        }
        let errors = decoder.finish(0, records);
        let bad = errors.into_iter().map(|error| (error.record as usize, error)).collect();
        Tile { n_rows: end - start, range: 0..records.len(), records, bad }
    }
}

/// # Errors
/// Names the columns that are there twice, maybe by two of their names.
fn refuse_twins(names: &[&str], schema: &Schema, source: &str) -> PyResult<()> {
    let mut seen: Vec<Option<&str>> = vec![None; schema.columns().len()];
    let mut twins = Vec::new();
    for &name in names {
        let Some(position) = schema.position(name) else { continue };
        if schema.columns()[position].repeated {
            continue;
        }
        if let Some(first) = seen[position].replace(name) {
            twins.push((first, name));
        }
    }
    let Some(&(first, second)) = twins.first() else { return Ok(()) };
    let also = if first == second { String::new() } else { format!(", as `{first}` too") };
    let mut columns: Vec<_> = twins.into_iter().flat_map(|(first, second)| [first, second]).collect();
    columns.dedup();
    let columns: Vec<_> = columns.into_iter().map(str::to_owned).collect();
    Err(SchemaMismatch::new_err((format!("{source}: the column `{second}` is there twice{also}"), columns)))
}

/// Whether values of the Arrow type can stand in a column of that kind.
fn can_hold(data_type: &DataType, kind: ColumnKind) -> bool {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match data_type {
        DataType::Null => true,
        data_type if kind.is_number() => data_type.is_integer() || data_type.is_floating(),
        DataType::Dictionary(_, values) => is_text(values),
        // Row numbers, ports and 0/1 labels.
        data_type if data_type.is_integer() => kind != ColumnKind::Category,
        data_type => is_text(data_type),
    }
}

fn numbers(decoder: &mut ColumnDecoder, position: usize, array: &dyn Array, records: &mut FlowRecords) {
    macro_rules! fill {
        ($type:ty, $to_double:expr) => {
            fill_numbers(decoder, position, array.as_primitive::<$type>(), records, $to_double)
        };
    }
    match array.data_type() {
        DataType::Float64 => fill!(Float64Type, |value| value),
        DataType::Float32 => fill!(Float32Type, f64::from),
        DataType::Float16 => fill!(Float16Type, f64::from),
        DataType::Int8 => fill!(Int8Type, f64::from),
        DataType::Int16 => fill!(Int16Type, f64::from),
        DataType::Int32 => fill!(Int32Type, f64::from),
        DataType::Int64 => fill!(Int64Type, |value| value as f64),
        DataType::UInt8 => fill!(UInt8Type, f64::from),
        DataType::UInt16 => fill!(UInt16Type, f64::from),
        DataType::UInt32 => fill!(UInt32Type, f64::from),
        DataType::UInt64 => fill!(UInt64Type, |value| value as f64),
        _ => decoder.numbers(position, std::iter::repeat_n(None, array.len()), records),
    }
}

fn fill_numbers<T: ArrowPrimitiveType>(
    decoder: &mut ColumnDecoder,
    position: usize,
    array: &PrimitiveArray<T>,
    records: &mut FlowRecords,
    to_double: impl Fn(T::Native) -> f64,
) {
    let values = array.values().iter();
    match array.nulls() {
        None => decoder.numbers(position, values.map(|&value| Some(to_double(value))), records),
        Some(nulls) => {
            let cells = values.zip(nulls).map(|(&value, is_there)| is_there.then(|| to_double(value)));
            decoder.numbers(position, cells, records);
        }
    }
}

fn texts(decoder: &mut ColumnDecoder, position: usize, array: &dyn Array, records: &mut FlowRecords) {
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        if dictionary.values().is_empty() {
            return decoder.texts(position, std::iter::repeat_n(None, array.len()), records);
        }
        let keys = dictionary.normalized_keys();
        let keys = keys.into_iter().enumerate().map(|(row, key)| array.is_valid(row).then_some(key));
        return fill_texts(decoder, position, dictionary.values().as_ref(), keys, records);
    }
    fill_texts(decoder, position, array, (0..array.len()).map(Some), records);
}

/// Fills a column with those of `values` that `indices` name.
fn fill_texts(
    decoder: &mut ColumnDecoder,
    position: usize,
    values: &dyn Array,
    indices: impl Iterator<Item = Option<usize>>,
    records: &mut FlowRecords,
) {
    fn cell<'a, A: ArrayAccessor<Item = &'a str>>(array: A, index: Option<usize>) -> Option<&'a str> {
        index.filter(|&index| array.is_valid(index)).map(|index| array.value(index))
    }
    match values.data_type() {
        DataType::Utf8 => {
            let array = values.as_string::<i32>();
            decoder.texts(position, indices.map(|index| cell(array, index)), records);
        }
        DataType::LargeUtf8 => {
            let array = values.as_string::<i64>();
            decoder.texts(position, indices.map(|index| cell(array, index)), records);
        }
        DataType::Utf8View => {
            let array = values.as_string_view();
            decoder.texts(position, indices.map(|index| cell(array, index)), records);
        }
        data_type if data_type.is_integer() => {
            let texts = integers(values);
            let cells = indices.map(|index| texts[index?].as_deref());
            decoder.texts(position, cells, records);
        }
        _ => decoder.texts(position, indices.map(|_| None), records),
    }
}

/// Whole numbers as they are written.
fn integers(array: &dyn Array) -> Vec<Option<String>> {
    fn all<T: ArrowPrimitiveType<Native: ToString>>(array: &dyn Array) -> Vec<Option<String>> {
        array.as_primitive::<T>().iter().map(|value| value.map(|value| value.to_string())).collect()
    }
    match array.data_type() {
        DataType::Int8 => all::<Int8Type>(array),
        DataType::Int16 => all::<Int16Type>(array),
        DataType::Int32 => all::<Int32Type>(array),
        DataType::Int64 => all::<Int64Type>(array),
        DataType::UInt8 => all::<UInt8Type>(array),
        DataType::UInt16 => all::<UInt16Type>(array),
        DataType::UInt32 => all::<UInt32Type>(array),
        _ => all::<UInt64Type>(array),
    }
}
