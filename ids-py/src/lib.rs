//! The private extension module `ids_py._ids`: converts, releases the interpreter, calls ids-core and ids-kafka,
//! maps errors. What is public is in `python/ids_py`, and what is computed is in the libraries.
#![allow(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

mod errors;
mod evaluate;
mod fault;
mod flows;
mod input;
mod kafka;
mod model;
mod outputs;
mod schema;
mod scores;
mod single;
mod train;
mod verdicts;
mod watch;

use pyo3::prelude::*;

/// The private extension module behind the public package.
#[pymodule]
mod _ids {
    use super::{PyModule, PyModuleMethods, PyResult};
    use numpy::PyArray1;
    use pyo3::Bound;

    #[pymodule_export]
    use super::evaluate::evaluate_json;
    #[pymodule_export]
    use super::fault::Fault;
    #[pymodule_export]
    use super::flows::{Flows, read_flows};
    #[pymodule_export]
    use super::kafka::{Detector, EmbeddedKafka, Producer};
    #[pymodule_export]
    use super::model::{Model, score_file};
    #[pymodule_export]
    use super::schema::Schema;
    #[pymodule_export]
    use super::scores::Scores;
    #[pymodule_export]
    use super::train::train;
    #[pymodule_export]
    use super::verdicts::verdicts;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // NumPy's functions are looked up at their first use, which panics where Ctrl-C interrupts it: now, and not later.
        module.py().import("numpy")?;
        drop(PyArray1::<f64>::zeros(module.py(), 0, false));
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
