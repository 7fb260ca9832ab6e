//! A forest that is trained on one data set, to be tested on another.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use ids_core::train::TrainingFlows;
use ids_core::{Model, Schema};

use crate::flow_file::{FlowFile, schema_of};
use crate::forest_args::ForestArgs;

/// Trains on all labelled flows of `train`, by the columns that `test` has too; says on standard error which are left out.
pub fn train(train: &Path, test: &Path, schema: Option<&str>, forest: &ForestArgs, seed: u64) -> Result<Arc<Model>> {
    if [train, test].contains(&Path::new("-")) {
        bail!("both files are read more than once, so neither can be standard input");
    }
    let found = [schema_of(train, schema)?, schema_of(test, schema)?];
    if found[0].name() != found[1].name() {
        bail!(
            "{} is of schema `{}`, {} of `{}`: what their columns mean differs, and what was learnt on one says nothing of the other",
            train.display(),
            found[0].name(),
            test.display(),
            found[1].name()
        );
    }
    let [schema, _] = found.map(Arc::new);
    let tested = columns(test, &schema)?;
    let mut flows = TrainingFlows::new(Arc::clone(&schema))?;
    let mut absent = BTreeSet::new();
    flows.retain(|column| tested.contains(column) || !absent.insert(column.to_owned()));
    let mut file = FlowFile::of_schema(train, &schema, &[], "taking the rows to train on")?;
    let (mut n_bad, mut n_unlabelled) = (0, 0);
    while let Some(batch) = file.next_batch()? {
        n_bad += batch.bad.len();
        n_unlabelled += batch.records.iter().filter(|record| !flows.push(record)).count();
    }
    let left_out: Vec<_> = file.given().intersection(&absent).map(|column| format!("`{column}`")).collect();
    if !left_out.is_empty() {
        eprintln!("          {} does not have {}: no input", test.display(), left_out.join(", "));
    }
    if n_bad + n_unlabelled > 0 {
        eprintln!("          {n_bad} rows are no flows, {n_unlabelled} have no label: left out");
    }
    forest.grow(flows, seed, |line| {
        eprintln!("{line}");
        Ok(())
    })
}

/// Names of the columns that the file at `path` has.
fn columns(path: &Path, schema: &Arc<Schema>) -> Result<BTreeSet<String>> {
    let mut file = FlowFile::of_schema(path, schema, &[], "looking at the columns")?;
    while file.next_batch()?.is_some() {}
    Ok(file.given())
}
