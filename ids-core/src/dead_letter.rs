//! What is said of a record that has no verdict: where it was read and what is wrong with it.
//!
//! The record's own bytes travel beside it, untouched; in Kafka a dead letter is the original key
//! and value with these fields as headers, each named `ids.<field>` (see `docs/dead-letter.schema.json`).

use serde::Serialize;

use crate::decode::RecordError;
use crate::pipeline::RowFault;
use crate::verdict::Origin;

/// Why a record has no verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter<'a> {
    /// Where the record was read.
    #[serde(flatten)]
    pub origin: Origin<'a>,
    /// Kind of fault: a short, stable name.
    pub kind: &'static str,
    /// What is wrong, in words.
    pub detail: String,
    /// The column at fault, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Offset of the fault in the record, in bytes, if it has a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_offset: Option<usize>,
    /// Version of the model that should have scored the record.
    pub model: &'a str,
}

/// What stands among the verdicts for a record that has none: with it, every record has a message there
/// (see `docs/verdict.schema.json`).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Marker<'a> {
    /// Where the record was read.
    pub origin: Origin<'a>,
    /// Kind of fault: the dead letter says more.
    pub dead_letter: &'static str,
    /// Version of the model that should have scored the record.
    pub model: &'a str,
}

impl<'a> DeadLetter<'a> {
    /// What stands for it among the verdicts.
    pub fn marker(&self) -> Marker<'a> {
        Marker { origin: self.origin, dead_letter: self.kind, model: self.model }
    }

    /// The dead letter of a record that could not be decoded.
    pub fn undecoded(origin: Origin<'a>, error: &RecordError, model: &'a str) -> Self {
        Self {
            origin,
            kind: error.kind.code(),
            detail: error.kind.to_string(),
            column: error.column.clone(),
            byte_offset: error.offset,
            model,
        }
    }

    /// The dead letter of a flow that a stage of the pipeline refused or dropped.
    pub fn unscored(origin: Origin<'a>, fault: &RowFault, model: &'a str) -> Self {
        let (RowFault::Dropped { column, .. } | RowFault::Refused { column, .. }) = fault;
        Self {
            origin,
            kind: fault.code(),
            detail: fault.to_string(),
            column: Some(column.clone()),
            byte_offset: None,
            model,
        }
    }
}
