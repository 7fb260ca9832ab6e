//! A saved spark.ml `PipelineModel`, read from its directory without a JVM.
//!
//! The layout is that of Spark 3.x: `metadata/`, `stages/<position>_<uid>/`, and in each stage
//! `metadata/`, `data/` (Parquet), for ensembles `treesMetadata/`. What each stage's files hold is in
//! `stages.rs`, the forest in `forest.rs`, reading of JSON and Parquet in `files.rs`.

mod files;
mod forest;
mod stages;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::pipeline::Stage;

use files::Metadata;

/// What a saved pipeline holds that scoring needs.
#[derive(Debug, Clone)]
pub struct SparkPipeline {
    /// The stages before the forest.
    pub stages: Vec<Stage>,
    /// Name of the forest's feature vector.
    pub features_column: String,
    /// The forest.
    pub forest: Forest,
    /// Class names in the forest's order.
    pub classes: Vec<String>,
    /// Version of the Spark that saved it.
    pub spark_version: String,
    /// Uid and class of every stage, in order.
    pub stage_classes: Vec<(String, String)>,
    /// SHA-256 of the files, in hexadecimal: see [`fingerprint`].
    pub sha256: String,
}

const PIPELINE: &str = "org.apache.spark.ml.PipelineModel";
/// The class of pipelines that Python or Spark Connect wrote: the same layout.
const PYTHON_PIPELINE: &str = "pyspark.ml.pipeline.PipelineModel";
const FOREST: &str = "org.apache.spark.ml.classification.RandomForestClassificationModel";
const INDEX_TO_STRING: &str = "org.apache.spark.ml.feature.IndexToString";

/// Reads the `PipelineModel` saved in `directory`.
///
/// # Errors
/// [`Error::SparkFormat`] names the file that is missing or not as Spark writes it,
/// [`Error::UnsupportedStage`] the stage that cannot be scored.
pub fn read(directory: &Path) -> Result<SparkPipeline> {
    let metadata = Metadata::read(directory)?;
    if ![PIPELINE, PYTHON_PIPELINE].contains(&metadata.class.as_str()) {
        let detail = format!("it holds a {}; expected a saved PipelineModel", metadata.class);
        return Err(Error::spark(directory, detail));
    }
    let mut stages = Vec::new();
    let mut forest: Option<(Forest, Metadata)> = None;
    let mut index_to_string: Option<Vec<String>> = None;
    let mut stage_classes = Vec::new();
    for path in stage_directories(directory, &metadata)? {
        let stage = Metadata::read(&path)?;
        stage_classes.push((stage.uid.clone(), stage.class.clone()));
        match (stage.class.as_str(), &forest) {
            (FOREST, None) => forest = Some((forest::read(&path, &stage)?, stage)),
            (FOREST, Some(_)) => return Err(stage.unsupported("a pipeline has one forest")),
            (INDEX_TO_STRING, Some((_, model))) => {
                if stage.text("inputCol")? != model.text("predictionCol")? {
                    return Err(stage.unsupported("after the forest only IndexToString of its prediction can stand"));
                }
                // Without labels of its own it takes them from the column it reads: the forest's classes.
                index_to_string = Some(stage.texts("labels")?).filter(|labels| !labels.is_empty());
            }
            (_, Some(_)) => {
                return Err(stage.unsupported("after the forest only IndexToString of its prediction can stand"));
            }
            (_, None) => stages.push(stages::read(&path, &stage)?),
        }
    }
    let Some((forest, model)) = forest else {
        return Err(Error::spark(directory, "the pipeline has no RandomForestClassificationModel"));
    };
    let label_column = model.text("labelCol")?;
    let Some(classes) = index_to_string.or_else(|| stages::labels_of(&stages, &label_column)) else {
        let detail = format!(
            "the classes have no names: the pipeline has neither an IndexToString nor a StringIndexer that makes `{label_column}`"
        );
        return Err(Error::spark(directory, detail));
    };
    if classes.len() != forest.n_classes() {
        let detail = format!("{} class names for the forest's {} classes", classes.len(), forest.n_classes());
        return Err(Error::spark(directory, detail));
    }
    Ok(SparkPipeline {
        stages,
        features_column: model.text("featuresCol")?,
        forest,
        classes,
        spark_version: metadata.spark_version,
        stage_classes,
        sha256: fingerprint(directory)?,
    })
}

/// The directories of a pipeline's stages, in order: `stages/<position, zero-padded>_<uid>`.
fn stage_directories(directory: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let stages = directory.join("stages");
    let names = files::visible_names(&stages)?;
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
    metadata.texts("stageUids")?.into_iter().enumerate().map(find).collect()
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
            let names = files::visible_names(&path)?;
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
