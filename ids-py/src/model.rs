//! `Model`: loading, describing and scoring.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ids_core::whole_file::WholeFile;
use ids_core::{Origin, Outcome, outcome};
use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use crate::errors::{self, IdsError};
use crate::input::{self, Columns, Input};
use crate::outputs::{Outputs, TILE, Wanted};
use crate::schema::{self, Schema};
use crate::scores::{Scores, matrix};
use crate::single::RowScorers;
use crate::watch::Watch;

/// A pipeline and forest that PySpark trained, ready to score flows as Spark would, to the bit.
///
/// Flows (`data` below) are, with the raw columns of the model's schema:
///
/// * a table with the Arrow PyCapsule interface: pyarrow, polars, a DuckDB result, what `read_flows` returned;
/// * a pandas DataFrame;
/// * a list of dicts, or one dict: a single flow;
/// * JSON as bytes: a record, or one per line;
/// * the path of a CSV or JSON lines file;
///
/// or, past the feature stages, a float64 NumPy array [n_rows, n_features] of assembled features, or [n_features] for a
/// single row. A column that the model takes must be there; a value may be missing (null, None, in JSON also NaN): the
/// model's own stages say what that means. Numbers are taken as doubles, in pandas NaN stays NaN.
///
/// A single flow, a dict or a vector, gives results without the row dimension. Rows are split over `n_threads` (None:
/// all processors); the doubles do not depend on it. The interpreter is released while a batch is scored.
///
/// >>> from ids_py import Model
/// >>> model = Model.from_spark("models/unsw-nb15-small")
/// >>> model.labels[:3], model.benign
/// (('Normal', 'Generic', 'Exploits'), 'Normal')
#[pyclass(module = "ids_py", frozen)]
pub(crate) struct Model {
    inner: Arc<ids_core::Model>,
    rows: RowScorers,
    /// The class names as Python has them, made once.
    labels: Py<PyTuple>,
}

/// What to do about rows that have no score.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnError {
    Raise,
    Nan,
}

impl OnError {
    fn new(errors: Option<&str>) -> PyResult<Self> {
        match errors {
            None | Some("raise") => Ok(Self::Raise),
            Some("nan") => Ok(Self::Nan),
            Some(other) => Err(PyValueError::new_err(format!("errors must be 'raise' or 'nan', not '{other}'"))),
        }
    }
}

impl Model {
    pub(crate) fn wrap(py: Python<'_>, model: ids_core::Model) -> PyResult<Self> {
        let labels = PyTuple::new(py, model.classes().iter())?.unbind();
        Ok(Self { inner: Arc::new(model), rows: RowScorers::new(), labels })
    }

    pub(crate) fn inner(&self) -> &Arc<ids_core::Model> {
        &self.inner
    }

    pub(crate) fn outputs(
        &self,
        data: &Bound<'_, PyAny>,
        columns: Columns,
        wanted: Wanted,
        n_threads: Option<usize>,
    ) -> PyResult<Outputs> {
        let n_threads = n_threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let model = &self.inner;
        let input = Input::new(data, model.schema(), model.inputs(), Some(model.forest().n_features()), columns)?;
        input.score(data.py(), model, wanted, n_threads)
    }

    /// One of the matrices of a batch or the vector of a row.
    fn values<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        n_threads: Option<i64>,
        errors: Option<&str>,
        is_raw: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, on_error, n_threads) = (data.py(), OnError::new(errors)?, errors::threads(n_threads)?);
        let vector = |score: ids_core::Score<'_>| {
            PyArray1::from_slice(py, if is_raw { score.raw } else { score.probabilities }).into_any()
        };
        if let Some(outcome) = self.rows.score(&self.inner, data, vector)? {
            return match outcome {
                Ok(values) => Ok(values),
                Err(reason) if on_error == OnError::Raise => Err(reason.exception(0, 1, 1)),
                Err(_) => Ok(PyArray1::from_vec(py, vec![f64::NAN; self.inner.classes().len()]).into_any()),
            };
        }
        let wanted = Wanted { raw: is_raw, probability: !is_raw, labels: false };
        let outputs = self.outputs(data, Columns::Inputs, wanted, n_threads)?;
        if on_error == OnError::Raise {
            input::refuse(&outputs)?;
        }
        let n_classes = outputs.n_classes;
        matrix(py, if is_raw { outputs.raw } else { outputs.probability }, n_classes)
    }
}

#[pymethods]
impl Model {
    /// Loads a directory that Spark saved: a PipelineModel with a forest.
    ///
    /// `schema` is a name, the path of a TOML file or a Schema; None takes the built-in one that has its columns. Raises
    /// ModelImportError where it cannot be scored, SchemaMismatch where the schema lacks columns.
    #[classmethod]
    #[pyo3(signature = (path, schema=None))]
    fn from_spark(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        path: PathBuf,
        schema: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let schema = schema.map(|schema| schema::named(Some(schema))).transpose()?;
        let loaded = py.detach(|| {
            let saved = ids_core::import::spark::read(&path)?;
            ids_core::Model::from_spark(saved, schema.map(|(schema, _)| (*schema).clone()))
        });
        Self::wrap(py, loaded.map_err(errors::core)?)
    }

    /// Loads a model file, or a directory that Spark saved.
    ///
    /// Raises ModelFileError where the file is damaged or no model file, and what from_spark raises.
    #[classmethod]
    fn load(_class: &Bound<'_, PyType>, py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let loaded = py.detach(|| ids_core::Model::load(&path));
        Self::wrap(py, loaded.map_err(errors::core)?)
    }

    /// The model of what `to_bytes` gave.
    ///
    /// Raises ModelFileError where the bytes are damaged.
    #[classmethod]
    fn from_bytes(_class: &Bound<'_, PyType>, py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        Self::wrap(py, ids_core::Model::from_bytes(data).map_err(errors::core)?)
    }

    /// Writes the model file: versioned, checksummed, quick to load.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.inner.save(&path)).map_err(errors::core)
    }

    /// The bytes of the model file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &py.detach(|| self.inner.to_bytes()).map_err(errors::core)?))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let from_bytes = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((from_bytes, (self.to_bytes(py)?,)))
    }

    /// Class names, in the order of the columns of predict_proba.
    #[getter]
    fn labels(&self, py: Python<'_>) -> Py<PyTuple> {
        self.labels.clone_ref(py)
    }

    /// The same as a NumPy array, as scikit-learn names it.
    #[getter]
    fn classes_<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names_array(self.labels.bind(py))
    }

    /// Length of a vector of assembled features, as scikit-learn names it.
    #[getter]
    fn n_features_in_(&self) -> usize {
        self.inner.forest().n_features()
    }

    /// The class that is no attack.
    #[getter]
    fn benign(&self) -> &str {
        &self.inner.classes()[self.inner.benign()]
    }

    /// Names of the assembled features, in the order of a matrix of them.
    ///
    /// >>> from ids_py import Model
    /// >>> Model.from_spark("models/unsw-nb15-small").features[:2]
    /// ['dur_imputed', 'spkts_imputed']
    #[getter]
    fn features(&self) -> Vec<String> {
        self.inner.features()
    }

    /// Names of the columns that a flow must have.
    #[getter]
    fn inputs(&self) -> Vec<String> {
        self.inner.inputs().to_vec()
    }

    /// The data set whose flows the model takes.
    #[getter]
    fn schema(&self) -> Schema {
        Schema(Arc::clone(self.inner.schema()))
    }

    /// Names of the columns that Spark's own `transform` would write, None for one that it leaves out:
    /// raw_prediction, probability, prediction, label.
    ///
    /// >>> from ids_py import Model
    /// >>> Model.from_spark("models/unsw-nb15-small").output_columns["raw_prediction"]
    /// 'rawPrediction'
    #[getter]
    fn output_columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (columns, names) = (self.inner.output_columns(), PyDict::new(py));
        names.set_item("raw_prediction", &columns.raw_prediction)?;
        names.set_item("probability", &columns.probability)?;
        names.set_item("prediction", &columns.prediction)?;
        names.set_item("label", &columns.label)?;
        Ok(names)
    }

    /// SHA-256 of what Spark saved, in hexadecimal.
    #[getter]
    fn sha256(&self) -> &str {
        &self.inner.provenance().sha256
    }

    /// The version that verdicts carry: the first 12 digits of `sha256`.
    #[getter]
    fn version(&self) -> &str {
        self.inner.version()
    }

    /// All that is known of the model, as a dictionary.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (model, info) = (&self.inner, PyDict::new(py));
        let (forest, provenance) = (model.forest(), model.provenance());
        info.set_item("version", model.version())?;
        info.set_item("sha256", &provenance.sha256)?;
        info.set_item("spark_version", &provenance.spark_version)?;
        let training = provenance.training.as_ref().map(|training| {
            let settings = PyDict::new(py);
            for (name, value) in &training.settings {
                settings.set_item(name, value)?;
            }
            let entry = PyDict::new(py);
            entry.set_item("program", &training.program)?;
            entry.set_item("rows", training.rows)?;
            entry.set_item("settings", settings)?;
            entry.set_item("holdout", training.holdout.as_ref().map(ToString::to_string))?;
            PyResult::Ok(entry)
        });
        info.set_item("training", training.transpose()?)?;
        info.set_item("schema", model.schema().name())?;
        info.set_item("n_trees", forest.n_trees())?;
        info.set_item("n_nodes", forest.n_nodes())?;
        info.set_item("depth", forest.depth())?;
        info.set_item("n_features", forest.n_features())?;
        info.set_item("labels", self.labels.bind(py))?;
        info.set_item("benign", self.benign())?;
        info.set_item("inputs", self.inputs())?;
        let alerts = PyDict::new(py);
        alerts.set_item("threshold", model.alerts().threshold)?;
        alerts.set_item("by_class", model.alerts().by_class.clone())?;
        info.set_item("alerts", alerts)?;
        info.set_item("stages", provenance.stages.clone())?;
        Ok(info)
    }

    /// Labels of the predicted classes: str [n_rows], of a single flow a str.
    ///
    /// A row without score raises: DecodeError where it is no flow, RowError where a stage of the pipeline drops or
    /// refuses it. With errors='nan' its label is None (and the array one of objects); `score` tells why.
    ///
    /// >>> from ids_py import Model
    /// >>> model = Model.from_spark("models/unsw-nb15-small")
    /// >>> model.predict("testdata/synthetic-unsw-nb15.csv").shape
    /// (9000,)
    /// >>> import csv
    /// >>> with open("testdata/synthetic-unsw-nb15.csv") as file:
    /// ...     line = next(csv.DictReader(file))
    /// >>> flow = {name: line[name] if name in ("proto", "service", "state") else float(line[name]) for name in model.inputs}
    /// >>> model.predict(flow)
    /// 'Generic'
    /// >>> model.predict({"proto": "udp"})
    /// Traceback (most recent call last):
    ///     ...
    /// ids_py.errors.DecodeError: row 0 has no score: column `service`: the column is absent and the model needs it
    #[pyo3(signature = (data, *, n_threads=None, errors=None))]
    fn predict<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        n_threads: Option<i64>,
        errors: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, on_error, n_threads) = (data.py(), OnError::new(errors)?, errors::threads(n_threads)?);
        if let Some(outcome) = self.rows.score(&self.inner, data, |score| score.class())? {
            return match outcome {
                Ok(class) => self.labels.bind(py).get_item(class),
                Err(reason) if on_error == OnError::Raise => Err(reason.exception(0, 1, 1)),
                Err(_) => Ok(py.None().into_bound(py)),
            };
        }
        let outputs = self.outputs(data, Columns::Inputs, Wanted::default(), n_threads)?;
        if on_error == OnError::Raise {
            input::refuse(&outputs)?;
        }
        labels_array(self.labels.bind(py), &outputs)
    }

    /// Probabilities of the classes, in the order of `labels`: float64 [n_rows, n_classes], of a single flow
    /// [n_classes]. Spark's `probability`.
    ///
    /// A row without score raises as in predict, or is NaN with errors='nan'.
    ///
    /// >>> from ids_py import Model
    /// >>> model = Model.from_spark("models/unsw-nb15-small")
    /// >>> model.predict_proba("testdata/synthetic-unsw-nb15.csv").shape
    /// (9000, 10)
    #[pyo3(signature = (data, *, n_threads=None, errors=None))]
    fn predict_proba<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        n_threads: Option<i64>,
        errors: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.values(data, n_threads, errors, false)
    }

    /// Summed votes of the classes: float64 [n_rows, n_classes], of a single flow [n_classes]. Spark's
    /// `rawPrediction`.
    ///
    /// A row without score raises as in predict, or is NaN with errors='nan'.
    #[pyo3(signature = (data, *, n_threads=None, errors=None))]
    fn raw_prediction<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        n_threads: Option<i64>,
        errors: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.values(data, n_threads, errors, true)
    }

    /// All outputs, and what became of each row. Raises for no row: those without score are in `faults`.
    ///
    /// >>> from ids_py import Model
    /// >>> model = Model.from_spark("models/unsw-nb15-small")
    /// >>> scores = model.score(b'{"dur": true}')
    /// >>> scores
    /// Scores(1 rows: 0 scored, 1 without a score)
    /// >>> scores.faults[0].column, scores.faults[0].detail
    /// ('dur', 'column `dur`, byte 8: found the boolean `true` where a number should stand')
    #[pyo3(signature = (data, *, n_threads=None))]
    fn score(&self, data: &Bound<'_, PyAny>, n_threads: Option<i64>) -> PyResult<Scores> {
        let wanted = Wanted { raw: true, probability: true, labels: false };
        let outputs = self.outputs(data, Columns::Inputs, wanted, errors::threads(n_threads)?)?;
        Scores::new(data.py(), outputs, self.labels.clone_ref(data.py()))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        // The same file of the same origin: the checksum tells.
        let bytes = |model: &Self| model.inner.to_bytes().ok();
        other.cast::<Self>().is_ok_and(|other| bytes(self) == bytes(other.get()))
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        PyString::new(py, self.sha256()).hash()
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }

    fn __repr__(&self) -> String {
        let (model, forest) = (&self.inner, self.inner.forest());
        format!(
            "Model(version='{}', schema='{}', {} trees of depth {}, {} features, {} classes)",
            model.version(),
            model.schema().name(),
            forest.n_trees(),
            forest.depth(),
            forest.n_features(),
            model.classes().len()
        )
    }

    fn _repr_html_(&self) -> String {
        let text = self.inner.to_string();
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!(
            "<details><summary><b>ids_py.Model</b> {}, {} trees, {} classes</summary><pre>{escaped}</pre></details>",
            self.inner.version(),
            self.inner.forest().n_trees(),
            self.inner.classes().len()
        )
    }
}

/// Names as a NumPy array of strings.
fn names_array<'py>(names: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    names.py().import("numpy")?.call_method1("array", (names,))
}

/// The label of each row, `[n_rows]`: strings, or objects where some are None because the row has no score.
pub(crate) fn labels_array<'py>(names: &Bound<'py, PyTuple>, outputs: &Outputs) -> PyResult<Bound<'py, PyAny>> {
    let py = names.py();
    let n_classes = names.len();
    // A row without score has NaN: the place after the last class.
    let places = outputs.prediction.iter().map(|&class| if class.is_nan() { n_classes as i64 } else { class as i64 });
    let places = PyArray1::from_iter(py, places);
    if outputs.faults.is_empty() {
        return names_array(names)?.call_method1("take", (places,));
    }
    let mut with_none: Vec<_> = names.iter().collect();
    with_none.push(py.None().into_bound(py));
    let objects = py.import("numpy")?.call_method1("array", (with_none, "object"))?;
    objects.call_method1("take", (places,))
}

/// Scores a file: a JSON line for each row, a verdict or why there is none, to the file `output` or to standard
/// output. Returns how many rows have a verdict and how many have none.
#[pyfunction]
#[pyo3(signature = (model, input, output=None))]
pub(crate) fn score_file(
    py: Python<'_>,
    model: &Bound<'_, Model>,
    input: PathBuf,
    output: Option<PathBuf>,
) -> PyResult<(u64, u64)> {
    let model = model.get().inner();
    let source = input.to_string_lossy();
    let is_same =
        |path: &PathBuf| path.canonicalize().is_ok_and(|path| input.canonicalize().is_ok_and(|input| input == path));
    if let Some(path) = output.as_ref().filter(|path| is_same(path)) {
        return Err(PyValueError::new_err(format!("the output {} is the input", path.display())));
    }
    let watch = Watch::new();
    let scored = py.detach(|| {
        let mut file = input::open(&input, model.schema(), model.inputs(), &watch).map_err(errors::core)?;
        let failed = |reason| {
            let path = output.clone().unwrap_or_else(|| "standard output".into());
            errors::core(ids_core::Error::Io { path, reason })
        };
        let mut whole = output.as_deref().map(WholeFile::create).transpose().map_err(errors::core)?;
        let mut stdout;
        let out: &mut dyn Write = match &mut whole {
            Some(file) => file,
            None => {
                stdout = BufWriter::new(std::io::stdout().lock());
                &mut stdout
            }
        };
        let (mut scorer, mut n_scored, mut n_bad) = (model.scorer(), 0, 0);
        while let Some(batch) = file.next_batch(4 * TILE).map_err(errors::core)? {
            if watch.is_over() {
                // Ctrl-C: a file that was there stays.
                return Ok((n_scored, n_bad));
            }
            outcome::outcomes(
                model,
                &mut scorer,
                batch,
                |row| Origin::of_file(&source, row),
                |outcome| {
                    match outcome {
                        Outcome::Verdict(_) => n_scored += 1,
                        Outcome::DeadLetter(_) => n_bad += 1,
                    }
                    let mut line =
                        serde_json::to_string(&outcome).map_err(|error| IdsError::new_err(error.to_string()))?;
                    line.push('\n');
                    out.write_all(line.as_bytes()).map_err(failed)
                },
            )?;
        }
        out.flush().map_err(failed)?;
        whole.map_or(Ok(()), WholeFile::finish).map_err(errors::core)?;
        Ok((n_scored, n_bad))
    });
    watch.finish()?;
    scored
}
