//! `train`: a model of labelled flows, without Spark.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ids_core::Schema;
use ids_core::train::{FeaturesPerNode, Settings, TrainingFlows};
use pyo3::prelude::*;

use crate::errors;
use crate::fault::Reason;
use crate::flows::Flows;
use crate::input::{self, Columns, Input, JsonRows, RecordRows, Records};
use crate::model::Model;
use crate::outputs::Source;
use crate::schema;
use crate::watch::Watch;

/// Trains a random forest on labelled flows, without Spark, and gives the model: it scores, and `save` writes it, like
/// any other.
///
/// `data` is what a model scores, features apart: a table, a DataFrame, dicts, JSON, a file, what `read_flows` returned;
/// with the label column. Flows without a label are left out; a row that is no flow raises DecodeError, which
/// `read_flows` avoids by setting such rows apart. `schema` is a name, the path of a TOML file or a Schema
/// (None: that of `read_flows`, else unsw-nb15). The model takes every column that the schema lets a model take and that has a value.
///
/// `features_per_node` is how many features each node draws: 'sqrt' or 'third' of all, 'all', or a number. `balance`
/// makes rare classes heavier: 0, each row weighs the same, to 1, each class does. The same flows, settings and seed give
/// the same model on any number of threads. The interpreter is released meanwhile, and Ctrl-C ends it.
///
/// Raises TrainingError where a setting is out of range or the flows do not teach.
///
/// >>> from ids_py import train
/// >>> train("testdata/synthetic-unsw-nb15.csv", trees=5, depth=4)
/// Model(version='...', schema='unsw-nb15', 5 trees of depth 4, 42 features, 10 classes)
#[pyfunction]
#[pyo3(signature = (data, schema=None, *, trees=50, depth=12, min_rows_per_leaf=1, features_per_node=None, bins=256,
    balance=0.5, seed=0, n_threads=None))]
#[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
pub(crate) fn train(
    data: &Bound<'_, PyAny>,
    schema: Option<&Bound<'_, PyAny>>,
    trees: usize,
    depth: usize,
    min_rows_per_leaf: u64,
    features_per_node: Option<&Bound<'_, PyAny>>,
    bins: usize,
    balance: f64,
    seed: u64,
    n_threads: Option<i64>,
) -> PyResult<Model> {
    let py = data.py();
    let features_per_node = match features_per_node {
        None => FeaturesPerNode::Third,
        Some(asked) => asked.str()?.to_string().parse::<FeaturesPerNode>().map_err(errors::TrainingError::new_err)?,
    };
    let threads = errors::threads(n_threads)?;
    let settings = Settings { trees, depth, min_rows_per_leaf, features_per_node, bins, balance, seed, threads };
    let schema = match (schema, data.cast::<Flows>()) {
        (None, Ok(flows)) => Arc::clone(flows.get().schema()),
        _ => schema::named(schema)?.0,
    };
    let flows = collect(data, &schema)?;
    let watch = Watch::new();
    let trained = py.detach(|| {
        let go_on = |_| if watch.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        ids_core::train::train(flows, &settings, go_on)
    });
    watch.finish()?;
    let model = trained.map_err(errors::core)?.expect("nobody but Ctrl-C stops it");
    Model::wrap(py, model)
}

/// The labelled flows of `data`.
fn collect(data: &Bound<'_, PyAny>, schema: &Arc<Schema>) -> PyResult<TrainingFlows> {
    let (py, watch) = (data.py(), Watch::new());
    let mut flows = TrainingFlows::new(Arc::clone(schema)).map_err(errors::core)?;
    match Input::new(data, schema, &[], None, Columns::All)? {
        Input::Records(Records { records, bad }) => take(&RecordRows::new(&records, &bad), &mut flows, &watch)?,
        Input::Flows(read) => take(&RecordRows::new(read.get().records(), &[]), &mut flows, &watch)?,
        Input::Json(bytes) => {
            let rows = JsonRows::new(&bytes, schema, &[])?;
            py.detach(|| take(&rows, &mut flows, &watch))?;
        }
        Input::Arrow(rows) => py.detach(|| take(&rows, &mut flows, &watch))?,
        Input::File(path) => {
            let read = py.detach(|| take_file(&path, schema, &mut flows, &watch));
            // Ctrl-C is why a file could not be read on.
            watch.finish()?;
            read?;
            return Ok(flows);
        }
        Input::Features(_) => unreachable!("without a number of features an array is refused"),
    }
    watch.finish()?;
    Ok(flows)
}

/// Takes the flows of a source, or some of them if `watch` says to end.
///
/// # Errors
/// The first row that is no flow.
fn take(rows: &impl Source, flows: &mut TrainingFlows, watch: &Watch) -> PyResult<()> {
    let (mut decoder, mut row) = (rows.decoder(), 0);
    while row < rows.n_rows() && !watch.is_over() {
        let tile = rows.tile(&mut decoder, row..rows.n_rows());
        if let Some((position, error)) = tile.bad.into_iter().next() {
            return Err(Reason::no_flow(error, row + position));
        }
        for position in tile.range {
            flows.push(&tile.records.get(position));
        }
        row += tile.n_rows;
    }
    Ok(())
}

fn take_file(path: &Path, schema: &Arc<Schema>, flows: &mut TrainingFlows, watch: &Watch) -> PyResult<()> {
    const BATCH: usize = 1024;
    let mut batches = input::open(path, schema, &[], watch).map_err(errors::core)?;
    while let Some(batch) = batches.next_batch(BATCH).map_err(errors::core)? {
        if let Some(error) = batch.bad.first() {
            // Rows of files are counted from 1, of everything in Python from 0.
            let row = error.record.saturating_sub(1) as usize;
            return Err(Reason::no_flow(error.clone(), row));
        }
        for record in batch.records.iter() {
            flows.push(&record);
        }
    }
    Ok(())
}
