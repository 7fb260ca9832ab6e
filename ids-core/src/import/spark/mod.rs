//! What spark.ml saved, read from its directory without a JVM: a pipeline, a forest, a tree or a single
//! stage, of Spark 2.4 to 4.3.
//!
//! A saved stage is a directory: `metadata/` (JSON in a text file), `data/` (Parquet), for ensembles
//! `treesMetadata/`; a pipeline has `stages/<position>_<uid>/`. How versions differ is settled where the
//! files are read: metadata in `metadata.rs`, stages in `stages.rs`, forests in `forest.rs`.

mod forest;
mod metadata;
mod stages;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::forest::{DotProduct, Forest};
use crate::pipeline::{Dialect, Stage};
use crate::table::visible_names;

use metadata::Metadata;

/// What a saved pipeline, forest or stage holds that scoring needs.
#[derive(Debug, Clone)]
pub struct SparkModel {
    /// The feature stages, in order.
    pub stages: Vec<Stage>,
    /// The forest at the end, if there is one.
    pub forest: Option<SavedForest>,
    /// Class names in the forest's order, if it is a classification and the pipeline names them.
    pub classes: Option<Vec<String>>,
    /// The IndexToString of the prediction, if the pipeline has one.
    pub predicted_label: Option<PredictedLabel>,
    /// Version of the Spark that saved it.
    pub spark_version: String,
    /// Uid and class of every stage, in order.
    pub stage_classes: Vec<(String, String)>,
    /// SHA-256 of the files, in hexadecimal: see [`fingerprint`].
    pub sha256: String,
}

impl SparkModel {
    /// Makes it behave as the Spark of that version (3.5: `(3, 5)`) would run it. Without, it behaves as the
    /// Spark that saved it: see [`Dialect`] and [`DotProduct`](crate::forest::DotProduct).
    pub fn run_as(&mut self, version: (u32, u32)) {
        for stage in &mut self.stages {
            stage.dialect = Dialect::of_spark(version);
        }
        if let Some(saved) = &mut self.forest {
            saved.forest.set_dot_product(DotProduct::of_spark(version));
        }
    }
}

/// An IndexToString that names the predicted class.
#[derive(Debug, Clone)]
pub struct PredictedLabel {
    /// The column it writes.
    pub column: String,
    /// Its labels; empty where it takes those of the label's indexer, which only the data's attributes hold.
    pub labels: Vec<String>,
}

/// A saved forest or tree.
#[derive(Debug, Clone)]
pub struct SavedForest {
    /// The name that messages carry.
    pub uid: String,
    /// The forest.
    pub forest: Forest,
    /// The columns it reads and writes.
    pub columns: ForestColumns,
}

/// Names of the columns that a saved forest reads and writes; `None` for one it does not write.
#[derive(Debug, Clone)]
pub struct ForestColumns {
    /// The feature vector.
    pub features: String,
    /// Summed votes or margins, of a classification.
    pub raw_prediction: Option<String>,
    /// Probabilities, of a classification.
    pub probability: Option<String>,
    /// Class or number.
    pub prediction: Option<String>,
    /// The leaf at which each tree's answer was found.
    pub leaf: Option<String>,
    /// What it was trained to predict.
    pub label: Option<String>,
}

impl ForestColumns {
    /// Names of those it writes.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let all = [&self.raw_prediction, &self.probability, &self.prediction, &self.leaf];
        all.into_iter().filter_map(|name| name.as_deref())
    }
}

const INDEX_TO_STRING: &str = "org.apache.spark.ml.feature.IndexToString";

/// Reads the pipeline, forest or stage saved in `directory`.
///
/// # Errors
/// [`Error::SparkFormat`] names the file that is missing or not as Spark writes it,
/// [`Error::UnsupportedStage`] the stage that cannot be scored.
pub fn read(directory: &Path) -> Result<SparkModel> {
    let metadata = Metadata::read(directory)?;
    let spark_version = metadata.spark_version.clone();
    let mut found = Found::default();
    found.read(&metadata, 0)?;
    let classes = found.classes();
    let Found { stages, forest, predicted_label, stage_classes } = found;
    let sha256 = fingerprint(directory)?;
    Ok(SparkModel { stages, forest, classes, predicted_label, spark_version, stage_classes, sha256 })
}

/// What has been found on the walk through a saved pipeline.
#[derive(Default)]
struct Found {
    stages: Vec<Stage>,
    forest: Option<SavedForest>,
    predicted_label: Option<PredictedLabel>,
    stage_classes: Vec<(String, String)>,
}

impl Found {
    /// Adds the stage of `metadata`, and those in it, `depth` pipelines deep.
    fn read(&mut self, metadata: &Metadata, depth: usize) -> Result<()> {
        /// Deeper than anybody nests; a damaged model must not exhaust the stack.
        const DEEPEST: usize = 16;
        if depth > DEEPEST {
            return Err(metadata.damaged(format!("pipelines in pipelines, more than {DEEPEST} deep")));
        }
        let child = |name: &str| Metadata::read(&metadata.directory.join(name));
        match metadata.class.as_str() {
            // The Python class is that of pipelines which Python or Spark Connect wrote: the same layout.
            "org.apache.spark.ml.PipelineModel" | "pyspark.ml.pipeline.PipelineModel" => {
                for path in stage_directories(metadata)? {
                    self.read(&Metadata::read(&path)?, depth + 1)?;
                }
                return Ok(());
            }
            "org.apache.spark.ml.tuning.CrossValidatorModel"
            | "org.apache.spark.ml.tuning.TrainValidationSplitModel"
            | "pyspark.ml.tuning.CrossValidatorModel"
            | "pyspark.ml.tuning.TrainValidationSplitModel" => return self.read(&child("bestModel")?, depth + 1),
            "org.apache.spark.ml.feature.RFormulaModel" => return self.read(&child("pipelineModel")?, depth + 1),
            _ => {}
        }
        self.stage_classes.push((metadata.uid.clone(), metadata.class.clone()));
        // Parts of a fitted RFormula that change no value.
        if ["ColumnPruner", "VectorAttributeRewriter"]
            .iter()
            .any(|class| metadata.class.strip_prefix("org.apache.spark.ml.feature.") == Some(class))
        {
            return Ok(());
        }
        if let Some(saved) = &self.forest {
            if forest::is_forest(metadata) {
                return Err(metadata.unsupported("a pipeline has one forest"));
            }
            let reads = |output: &str| metadata.input_columns().iter().any(|input| input.eq_ignore_ascii_case(output));
            if metadata.class == INDEX_TO_STRING && saved.columns.prediction.as_deref().is_some_and(reads) {
                let (column, labels) = (metadata.text("outputCol")?, metadata.texts("labels")?);
                self.predicted_label = Some(PredictedLabel { column, labels });
                return Ok(());
            }
            if let Some(output) = saved.columns.outputs().find(|output| reads(output)) {
                let hint =
                    format!("it takes the forest's `{output}`, which only an IndexToString of the prediction can");
                return Err(metadata.unsupported(&hint));
            }
        }
        if forest::is_forest(metadata) {
            self.forest = Some(forest::read(metadata)?);
        } else {
            self.stages.push(stages::read(metadata)?);
        }
        Ok(())
    }

    /// Class names in the forest's order: those of the IndexToString of its prediction, else those of the
    /// indexer of its label.
    fn classes(&self) -> Option<Vec<String>> {
        let saved = self.forest.as_ref().filter(|saved| saved.forest.n_classes() > 0)?;
        if let Some(predicted) = self.predicted_label.as_ref().filter(|predicted| !predicted.labels.is_empty()) {
            return Some(predicted.labels.clone());
        }
        let (mut labels, unknown) = stages::labels_of(&self.stages, saved.columns.label.as_deref()?)?;
        // An indexer that keeps labels it has not seen makes a class of them.
        if saved.forest.n_classes() == labels.len() + 1 {
            labels.extend(unknown);
        }
        Some(labels)
    }
}

/// The directories of a pipeline's stages, in order: `stages/<position, zero-padded>_<uid>`.
fn stage_directories(metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let stages = metadata.directory.join("stages");
    let uids = metadata.texts("stageUids")?;
    if uids.is_empty() {
        return Err(metadata.damaged("the pipeline has no stages"));
    }
    let names = visible_names(&stages)?;
    let find = |(position, uid): (usize, String)| {
        let matches = |name: &&String| {
            name.split_once('_').is_some_and(|(number, rest)| number.parse() == Ok(position) && rest == uid)
        };
        names
            .iter()
            .find(matches)
            .map(|name| stages.join(name))
            .ok_or_else(|| Error::spark(&stages, format!("it has no directory for stage {position}, `{uid}`")))
    };
    uids.into_iter().enumerate().map(find).collect()
}

/// SHA-256 over the path and bytes of every file below `directory`, directory by directory in the
/// order of names;
/// names that start with `_` or `.` (markers and checksums, which copies lose) are left out.
///
/// # Errors
/// [`Error::Io`] where a file cannot be read.
pub fn fingerprint(directory: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut pending = vec![(directory.to_path_buf(), String::new())];
    while let Some((path, relative)) = pending.pop() {
        if path.is_dir() {
            let names = visible_names(&path)?;
            // Taken from the end: pushed in reverse, they come in order.
            pending.extend(names.into_iter().rev().map(|name| (path.join(&name), format!("{relative}/{name}"))));
        } else {
            let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
            hash.update((relative.len() as u64).to_le_bytes());
            hash.update(&relative);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
    }
    Ok(crate::model::hexadecimal(&hash.finalize()))
}
