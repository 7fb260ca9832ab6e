//! Bytes to [`FlowRecords`](crate::FlowRecords): what every format shares.
//!
//! A decoder checks one record completely before it enters the batch. What is wrong with a record is
//! a [`RecordError`]: a value with the record, the column, the byte offset and what was found there,
//! for the caller to count and dead-letter. The formats are in [`json`] and [`csv`]; [`FlowReader`] reads
//! files of either. Values that are typed already come in by row ([`ValueDecoder`]) or by column
//! ([`ColumnDecoder`]).

mod batches;
mod columns;
pub mod csv;
mod csv_columns;
pub mod json;
pub mod parquet;
mod plain_number;
mod reader;
mod values;

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::record::FlowRecords;
use crate::rows::{NewRow, Slot};
use crate::schema::{ColumnKind, Derivation, Schema};

pub use batches::{Batch, FlowBatches};
pub use columns::ColumnDecoder;
pub use csv::{CsvDecoder, CsvReader};
pub use csv_columns::CsvColumns;
pub use json::JsonDecoder;
pub use parquet::ParquetReader;
pub use reader::{FlowReader, Read, Skipped, columns_of};
pub use values::{NewRecord, Value, ValueDecoder};

/// What is wrong with a record, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// The record's number as its caller counts: an offset in Kafka, a row (from 1) in a file.
    pub record: u64,
    /// The column at fault, if the fault belongs to one.
    pub column: Option<String>,
    /// Offset of the fault in the record, in bytes, if it has a place.
    pub offset: Option<usize>,
    /// What is wrong.
    pub kind: RecordErrorKind,
}

/// The kinds of fault a record can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordErrorKind {
    /// The record has no bytes, or only blanks.
    #[error("the record is empty")]
    Empty,
    /// The message has no value: a tombstone.
    #[error("the message has no value (a tombstone)")]
    Tombstone,
    /// The bytes are not UTF-8.
    #[error("the bytes are not UTF-8")]
    InvalidUtf8,
    /// The record ends before it is complete.
    #[error("the record ends where {expected} should stand")]
    Truncated {
        /// What should have come.
        expected: &'static str,
    },
    /// A byte that the format does not allow there.
    #[error("found {found} where {expected} should stand")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A value of another type than the column's.
    #[error("found {found} where {expected} should stand")]
    WrongType {
        /// The type of the column.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// A number too large for a double.
    #[error("the number {found} is too large for a double")]
    NumberOverflow {
        /// The literal.
        found: String,
    },
    /// A column that tells of another data set.
    #[error("the record is of another data set: {why}")]
    ForeignColumn {
        /// Which, and what to do.
        why: String,
    },
    /// A column given twice, under one name or under two.
    #[error("the column is given twice")]
    DuplicateColumn,
    /// A column that the model needs is absent.
    #[error("the column is absent and the model needs it")]
    MissingColumn,
    /// A CSV row with fewer fields than the header has.
    #[error("the row has {found} fields, not {expected}")]
    RowTooShort {
        /// Fields of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// A CSV row with more fields than the header has.
    #[error("the row has more than {expected} fields")]
    RowTooLong {
        /// Fields of the header.
        expected: usize,
    },
}

impl RecordErrorKind {
    /// Whether a record that names a column `name` is of another data set than `schema`, and if so the fault of it.
    pub fn of_foreign(schema: &Schema, name: &str) -> Option<Self> {
        let why = schema.foreign(name)?;
        Some(Self::ForeignColumn { why: format!("`{}`: {why}", name.trim()) })
    }

    /// A short, stable name for metrics and dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Tombstone => "tombstone",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::Truncated { .. } => "truncated",
            Self::Unexpected { .. } => "syntax",
            Self::WrongType { .. } => "wrong_type",
            Self::NumberOverflow { .. } => "number_overflow",
            Self::ForeignColumn { .. } => "foreign_column",
            Self::DuplicateColumn => "duplicate_column",
            Self::MissingColumn => "missing_column",
            Self::RowTooShort { .. } => "row_too_short",
            Self::RowTooLong { .. } => "row_too_long",
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.record)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for RecordError {}

/// What a decoder found wrong, before it is known in which record.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) column: Option<usize>,
    pub(crate) offset: Option<usize>,
    pub(crate) kind: RecordErrorKind,
}

impl Fault {
    pub(crate) fn at(offset: usize, kind: RecordErrorKind) -> Self {
        Self { column: None, offset: Some(offset), kind }
    }

    pub(crate) fn whole(kind: RecordErrorKind) -> Self {
        Self { column: None, offset: None, kind }
    }

    /// Blames the column at `position`, unless a column is blamed already.
    pub(crate) fn in_column(mut self, position: usize) -> Self {
        self.column.get_or_insert(position);
        self
    }
}

/// The first bytes of what was found, made printable.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LIMIT: usize = 40;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(LIMIT)]).escape_debug().to_string();
    if bytes.len() > LIMIT { format!("`{shown}...`") } else { format!("`{shown}`") }
}

/// The columns of a source, by the names it gives them.
struct Named {
    /// Per column of the source: its position in the schema; `None` for one that the schema does not know, or that
    /// was given before.
    positions: Vec<Option<usize>>,
    /// The columns that were given before, where the schema says that they may be.
    repeated: Vec<usize>,
}

impl Named {
    /// # Errors
    /// What is wrong: a column that is there twice, or one of another data set.
    fn new<S: AsRef<str>>(schema: &Schema, names: &[S]) -> std::result::Result<Self, String> {
        let (mut positions, mut repeated) = (Vec::with_capacity(names.len()), Vec::new());
        let mut is_given = vec![false; schema.columns().len()];
        for (column, name) in names.iter().enumerate() {
            let name = name.as_ref().trim();
            if let Some(why) = schema.foreign(name) {
                return Err(format!("the column `{name}` tells of another data set: {why}"));
            }
            let mut position = schema.position(name);
            if let Some(given) = position
                && std::mem::replace(&mut is_given[given], true)
            {
                if !schema.columns()[given].repeated {
                    return Err(format!("the column `{name}` is there twice"));
                }
                position = None;
                repeated.push(column);
            }
            positions.push(position);
        }
        Ok(Self { positions, repeated })
    }
}

/// A column, as decoders need it at every value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its position in the schema.
    position: usize,
    slot: Slot,
    kind: ColumnKind,
    /// Whether it holds the class of a flow.
    is_class: bool,
}

impl Place {
    /// Whether `value` may stand there: in a column of integers only what a double holds as exactly one whole number.
    #[inline]
    fn takes(self, value: f64) -> bool {
        const MOST: f64 = 9_007_199_254_740_992.0; // 2^53
        self.kind != ColumnKind::Integer || (value.fract() == 0.0 && value.abs() <= MOST)
    }
}

/// What a record must hold, and how to complete it: the rules that do not depend on the format.
#[derive(Debug, Clone)]
pub(crate) struct RowRules {
    schema: Arc<Schema>,
    /// Positions of columns that must be present.
    required: Vec<usize>,
    derivations: Vec<BoundDerivation>,
    /// The column that holds the class of a flow.
    class: Option<usize>,
    /// Which columns the current record has given, by position.
    seen: Vec<bool>,
    /// Which columns any record so far has given.
    given: Vec<bool>,
}

/// A derivation with its names looked up.
#[derive(Debug, Clone)]
struct BoundDerivation {
    target: usize,
    /// Whether a record without the target must have the operands.
    required: bool,
    packets: Vec<usize>,
    duration: usize,
}

impl BoundDerivation {
    fn operands(&self) -> impl Iterator<Item = usize> {
        self.packets.iter().copied().chain([self.duration])
    }

    /// The value, from the numbers at the positions of its operands; `None` where one is missing.
    fn derive(&self, number: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let packets: Option<f64> = self.packets.iter().map(|&position| number(position)).sum();
        match (packets?, number(self.duration)?) {
            (_, 0.0) => Some(0.0),
            (packets, duration) => Some((packets - 1.0) / duration),
        }
    }
}

impl RowRules {
    /// A new row of `records`, for filling.
    ///
    /// # Panics
    /// Where they are of another schema: values would land in the wrong columns.
    pub(crate) fn new_row<'r>(&self, records: &'r mut FlowRecords) -> NewRow<'r> {
        let (found, expected) = (records.schema(), &self.schema);
        assert!(
            found.fields().is_like(expected.fields()),
            "records of schema `{}` given to a decoder of schema `{}`: their columns differ",
            found.name(),
            expected.name()
        );
        records.new_row()
    }

    /// Rules for records from which a model takes the columns `inputs`.
    ///
    /// # Errors
    /// [`Error::MissingColumns`] lists inputs that the schema does not know.
    fn new(schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        let mut required = Vec::new();
        let mut unknown = Vec::new();
        for input in inputs {
            match schema.position(input) {
                Some(position) => required.push(position),
                None => unknown.push(input.clone()),
            }
        }
        if !unknown.is_empty() {
            let source_name = format!("schema `{}`", schema.name());
            return Err(Error::MissingColumns { source_name, columns: unknown });
        }
        let find = |name: &str| schema.position(name).expect("checked when the schema was made");
        let columns = schema.columns();
        let derivations = columns
            .iter()
            .enumerate()
            .filter_map(|(target, column)| {
                let Derivation::PacketRate { packets, duration } = column.derive.as_ref()?;
                Some(BoundDerivation {
                    target,
                    required: required.contains(&target) && !column.optional,
                    packets: packets.iter().map(|name| find(name)).collect(),
                    duration: find(duration),
                })
            })
            .collect();
        required.retain(|&position| columns[position].derive.is_none() && !columns[position].optional);
        let class = schema.labels().and_then(|labels| schema.position(&labels.column));
        let (seen, given) = (vec![false; columns.len()], vec![false; columns.len()]);
        Ok(Self { schema, required, derivations, class, seen, given })
    }

    fn start(&mut self) {
        self.seen.fill(false);
    }

    /// Notes that the record gives the column at `position`. Whether its value counts: not where it was given before,
    /// which only some columns may be.
    fn see(&mut self, position: usize) -> std::result::Result<bool, RecordErrorKind> {
        let is_first = !std::mem::replace(&mut self.seen[position], true);
        if is_first || self.schema.columns()[position].repeated {
            return Ok(is_first);
        }
        Err(RecordErrorKind::DuplicateColumn)
    }

    /// Takes the columns that every record of a source has, and says which ones are absent from all.
    ///
    /// # Errors
    /// [`Error::MissingColumns`] lists what the model needs and `source_name` cannot supply.
    fn see_all(&mut self, positions: impl IntoIterator<Item = usize>, source_name: &str) -> Result<()> {
        self.start();
        for position in positions {
            self.seen[position] = true;
        }
        let operands = self.derivations.iter().filter(|rule| rule.required && !self.seen[rule.target]);
        let operands = operands.flat_map(BoundDerivation::operands);
        let mut absent: Vec<_> = self.required.iter().copied().chain(operands).filter(|&p| !self.seen[p]).collect();
        absent.sort_unstable();
        absent.dedup();
        if absent.is_empty() {
            return Ok(());
        }
        let columns = absent.into_iter().map(|position| self.schema.columns()[position].name.clone()).collect();
        Err(Error::MissingColumns { source_name: source_name.into(), columns })
    }

    /// Positions of the columns that any record so far has given, or had derived.
    fn given(&self) -> Vec<usize> {
        let derived = |position| {
            let mut rules = self.derivations.iter().filter(|rule| rule.target == position);
            rules.any(|rule| rule.operands().all(|operand| self.given[operand]))
        };
        (0..self.given.len()).filter(|&position| self.given[position] || derived(position)).collect()
    }

    /// The derivations of columns that are absent and whose operands are not.
    fn due(&self) -> impl Iterator<Item = &BoundDerivation> {
        let is_due =
            |rule: &&BoundDerivation| !self.seen[rule.target] && rule.operands().all(|operand| self.seen[operand]);
        self.derivations.iter().filter(is_due)
    }

    /// Derives what is absent and checks that nothing needed is.
    fn finish(&mut self, row: &mut NewRow<'_>) -> std::result::Result<(), Fault> {
        for (given, seen) in self.given.iter_mut().zip(&self.seen) {
            *given |= seen;
        }
        let missing = |position| Fault::whole(RecordErrorKind::MissingColumn).in_column(position);
        if let Some(&absent) = self.required.iter().find(|&&position| !self.seen[position]) {
            return Err(missing(absent));
        }
        for rule in self.derivations.iter().filter(|rule| rule.required && !self.seen[rule.target]) {
            if let Some(absent) = rule.operands().find(|&operand| !self.seen[operand]) {
                return Err(missing(absent));
            }
        }
        for rule in self.due() {
            let value = rule.derive(|position| match self.schema.slot(position) {
                Slot::Number(slot) => row.number(slot),
                _ => None,
            });
            if let (Slot::Number(slot), Some(value)) = (self.schema.slot(rule.target), value) {
                row.set_number(slot, value);
            }
        }
        Ok(())
    }

    /// Completes a fault to an error that names the record and the column.
    fn error(&self, record: u64, fault: Fault) -> RecordError {
        let column = fault.column.map(|position| self.schema.columns()[position].name.clone());
        RecordError { record, column, offset: fault.offset, kind: fault.kind }
    }

    #[cold]
    fn no_integer(text: &str) -> RecordErrorKind {
        RecordErrorKind::WrongType { expected: "a whole number up to 2^53", found: excerpt(text.as_bytes()) }
    }

    /// What there is to know of the column at `position` to read its values.
    fn place(&self, position: usize) -> Place {
        let kind = self.schema.columns()[position].kind;
        Place { position, slot: self.schema.slot(position), kind, is_class: self.class == Some(position) }
    }
}
