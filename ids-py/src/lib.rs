//! Python bindings of ids-core: so far the module and its version; the scorer and the pipelines come
//! with the package itself.

use pyo3::prelude::*;

/// The private extension module behind the public package.
#[pymodule]
fn _ids(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
