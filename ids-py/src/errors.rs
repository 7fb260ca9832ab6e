//! Errors of the libraries as the exceptions of `ids_py.errors`.

use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::{PyErr, PyResult};

/// The exception classes, which Python defines: there they have bases of their own and attributes.
mod classes {
    #![allow(missing_docs)] // a macro makes them
    use pyo3::import_exception;

    import_exception!(ids_py.errors, IdsError);
    import_exception!(ids_py.errors, DecodeError);
    import_exception!(ids_py.errors, RowError);
    import_exception!(ids_py.errors, SchemaMismatch);
    import_exception!(ids_py.errors, SchemaError);
    import_exception!(ids_py.errors, ModelImportError);
    import_exception!(ids_py.errors, ModelFileError);
    import_exception!(ids_py.errors, ConfigError);
    import_exception!(ids_py.errors, TrainingError);
    import_exception!(ids_py.errors, KafkaError);
}

pub(crate) use classes::{
    ConfigError, DecodeError, IdsError, KafkaError, ModelFileError, ModelImportError, RowError, SchemaError,
    SchemaMismatch, TrainingError,
};

/// The exception that an error of ids-core becomes.
pub(crate) fn core(error: ids_core::Error) -> PyErr {
    use ids_core::Error;
    let message = error.to_string();
    match error {
        // Python has exceptions for files of its own: FileNotFoundError, PermissionError and so on.
        Error::Io { path, reason } => match reason.raw_os_error() {
            Some(code) => {
                let text = reason.to_string();
                os(code, text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text), path)
            }
            None => std::io::Error::new(reason.kind(), message).into(),
        },
        Error::MissingColumns { columns, .. } => SchemaMismatch::new_err((message, columns)),
        Error::Columns { .. } | Error::Header { .. } => SchemaMismatch::new_err(message),
        Error::Schema { .. } => SchemaError::new_err(message),
        Error::SparkFormat { .. }
        | Error::UnsupportedStage { .. }
        | Error::Pipeline { .. }
        | Error::Forest { .. }
        | Error::Model { .. } => ModelImportError::new_err(message),
        Error::ModelFile { .. } => ModelFileError::new_err(message),
        Error::Training { .. } => TrainingError::new_err(message),
        Error::Policy { .. } => ConfigError::new_err(message),
        _ => IdsError::new_err(message),
    }
}

/// The exception that an error of ids-kafka becomes.
pub(crate) fn kafka(error: ids_kafka::Error) -> PyErr {
    use ids_kafka::Error;
    match error {
        Error::Core(error) => core(error),
        Error::Config(_) => ConfigError::new_err(error.to_string()),
        other => KafkaError::new_err(other.to_string()),
    }
}

/// A column that is not what the model takes.
pub(crate) fn mismatch(column: &str, message: impl Into<String>) -> PyErr {
    SchemaMismatch::new_err((message.into(), vec![column.to_owned()]))
}

/// An `OSError` as Python raises it itself, of the class that belongs to the code.
pub(crate) fn os(code: i32, text: &str, path: PathBuf) -> PyErr {
    PyOSError::new_err((code, text.to_owned(), path.into_os_string()))
}

/// How many threads a caller asks for; `None` for as many as there are processors.
pub(crate) fn threads(n_threads: Option<i64>) -> PyResult<Option<usize>> {
    let Some(asked) = n_threads else { return Ok(None) };
    match usize::try_from(asked) {
        Ok(n_threads) if n_threads > 0 => Ok(Some(n_threads)),
        _ => {
            let message = format!("n_threads must be 1 or more, or None for all processors, not {asked}");
            Err(PyValueError::new_err(message))
        }
    }
}
