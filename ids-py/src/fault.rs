//! Why a row has no score: as a value in Rust, an object in Python, and an exception.

use ids_core::{RecordError, RowFault};
use pyo3::prelude::*;

use crate::errors::{DecodeError, RowError};

/// What kept a row from its score.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// It is no flow.
    Undecodable(RecordError),
    /// A stage of the pipeline dropped or refused it.
    Unscored(RowFault),
}

impl Reason {
    /// What became of the row.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::Unscored(fault) => fault.code(),
        }
    }

    pub(crate) fn stage(&self) -> Option<&str> {
        match self {
            Self::Unscored(RowFault::Dropped { stage, .. } | RowFault::Refused { stage, .. }) => Some(stage),
            _ => None,
        }
    }

    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::Undecodable(error) => error.column.as_deref(),
            Self::Unscored(RowFault::Dropped { column, .. } | RowFault::Refused { column, .. }) => Some(column),
            Self::Unscored(_) => None,
        }
    }

    /// Short, stable name of the kind of fault, as in metrics and dead letters.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Undecodable(error) => error.kind.code(),
            Self::Unscored(fault) => fault.code(),
        }
    }

    /// What is wrong, in words.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Undecodable(RecordError { column, offset, kind, .. }) => {
                let column = column.as_ref().map(|column| format!("column `{column}`, ")).unwrap_or_default();
                let offset = offset.map(|offset| format!("byte {offset}, ")).unwrap_or_default();
                match format!("{column}{offset}") {
                    place if place.is_empty() => kind.to_string(),
                    place => format!("{}: {kind}", place.trim_end_matches(", ")),
                }
            }
            Self::Unscored(fault) => fault.to_string(),
        }
    }

    /// The exception of a caller that needs every row to be a flow.
    pub(crate) fn no_flow(error: RecordError, row: usize) -> PyErr {
        let reason = Self::Undecodable(error);
        let message = format!("row {row} is no flow: {} (read_flows sets such rows apart)", reason.detail());
        let column = reason.column().map(str::to_owned);
        DecodeError::new_err((message, row, column, reason.stage().map(str::to_owned), reason.outcome(), reason.kind()))
    }

    /// The exception of a caller that needs a score of the row; `n_faulty` of `n_rows` have none.
    pub(crate) fn exception(&self, row: usize, n_faulty: usize, n_rows: usize) -> PyErr {
        let mut message = format!("row {row} has no score: {}", self.detail());
        if n_rows > 1 {
            message += &format!(" ({n_faulty} of {n_rows} rows have none; score() tells them all)");
        }
        let arguments = (
            message,
            row,
            self.column().map(str::to_owned),
            self.stage().map(str::to_owned),
            self.outcome(),
            self.kind(),
        );
        match self {
            Self::Undecodable(_) => DecodeError::new_err(arguments),
            Self::Unscored(_) => RowError::new_err(arguments),
        }
    }
}

/// Why one row of the input has no score.
#[pyclass(module = "ids_py", frozen, get_all)]
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The row, counted from 0.
    row: u64,
    /// `undecodable`, `dropped` or `refused`.
    outcome: &'static str,
    /// Short, stable name of the kind of fault.
    kind: &'static str,
    /// The pipeline's stage that dropped or refused the row.
    stage: Option<String>,
    /// The column at fault.
    column: Option<String>,
    /// Offset of the fault in the record, in bytes.
    offset: Option<usize>,
    /// What is wrong, in words.
    detail: String,
}

impl Fault {
    pub(crate) fn new(row: u64, reason: &Reason) -> Self {
        Self {
            row,
            outcome: reason.outcome(),
            kind: reason.kind(),
            stage: reason.stage().map(str::to_owned),
            column: reason.column().map(str::to_owned),
            offset: match reason {
                Reason::Undecodable(error) => error.offset,
                Reason::Unscored(_) => None,
            },
            detail: reason.detail(),
        }
    }
}

#[pymethods]
impl Fault {
    fn __repr__(&self) -> String {
        format!("Fault(row={}, outcome='{}', detail={:?})", self.row, self.outcome, self.detail)
    }
}
