//! The saved feature stages that can be scored.

use std::path::Path;

use super::files::{Metadata, Table};
use crate::error::{Error, Result};
use crate::pipeline::{HandleInvalid, Imputer, Stage, StandardScaler, StringIndexer, Transform, VectorAssembler};

/// Reads the stage saved in `directory`.
pub(super) fn read(directory: &Path, metadata: &Metadata) -> Result<Stage> {
    let transform = match metadata.class.as_str() {
        "org.apache.spark.ml.feature.StringIndexerModel" => {
            Transform::StringIndexer(string_indexer(directory, metadata)?)
        }
        "org.apache.spark.ml.feature.ImputerModel" => Transform::Imputer(imputer(directory, metadata)?),
        "org.apache.spark.ml.feature.VectorAssembler" => Transform::VectorAssembler(VectorAssembler {
            input_columns: metadata.texts("inputCols")?,
            output_column: metadata.text("outputCol")?,
            handle_invalid: handle_invalid(metadata)?,
        }),
        "org.apache.spark.ml.feature.StandardScalerModel" => {
            Transform::StandardScaler(standard_scaler(directory, metadata)?)
        }
        _ => return Err(metadata.unsupported("")),
    };
    Ok(Stage { uid: metadata.uid.clone(), transform })
}

/// The labels of the indexer among `stages` that makes `output_column`.
pub(super) fn labels_of(stages: &[Stage], output_column: &str) -> Option<Vec<String>> {
    stages.iter().find_map(|stage| match &stage.transform {
        Transform::StringIndexer(indexer) => {
            let column = indexer.output_columns.iter().position(|output| output == output_column)?;
            indexer.labels.get(column).cloned()
        }
        _ => None,
    })
}

fn handle_invalid(metadata: &Metadata) -> Result<HandleInvalid> {
    match metadata.text("handleInvalid")?.as_str() {
        "error" => Ok(HandleInvalid::Error),
        "skip" => Ok(HandleInvalid::Skip),
        "keep" => Ok(HandleInvalid::Keep),
        other => Err(metadata.unsupported(&format!("its handleInvalid is `{other}`"))),
    }
}

fn string_indexer(directory: &Path, metadata: &Metadata) -> Result<StringIndexer> {
    let indexer = StringIndexer {
        input_columns: metadata.one_or_many("inputCol", "inputCols")?,
        output_columns: metadata.one_or_many("outputCol", "outputCols")?,
        labels: Table::read(directory)?.text_lists("labelsArray")?,
        handle_invalid: handle_invalid(metadata)?,
    };
    let n = indexer.input_columns.len();
    if indexer.labels.len() != n || indexer.output_columns.len() != n {
        let detail = format!(
            "{} label lists and {} outputs for {n} columns",
            indexer.labels.len(),
            indexer.output_columns.len()
        );
        return Err(Error::spark(directory, detail));
    }
    Ok(indexer)
}

fn imputer(directory: &Path, metadata: &Metadata) -> Result<Imputer> {
    let table = Table::read(directory)?;
    let input_columns = metadata.one_or_many("inputCol", "inputCols")?;
    let output_columns = metadata.one_or_many("outputCol", "outputCols")?;
    if table.n_rows() != 1 || output_columns.len() != input_columns.len() {
        let detail = format!(
            "{} rows of surrogates, {} outputs for {} columns",
            table.n_rows(),
            output_columns.len(),
            input_columns.len()
        );
        return Err(Error::spark(directory, detail));
    }
    let surrogate = |column: &String| Ok(table.doubles(column)?[0]);
    let surrogates = input_columns.iter().map(surrogate).collect::<Result<_>>()?;
    Ok(Imputer { input_columns, output_columns, surrogates, missing_value: metadata.double("missingValue")? })
}

fn standard_scaler(directory: &Path, metadata: &Metadata) -> Result<StandardScaler> {
    let table = Table::read(directory)?;
    let vector = |name, used: bool| if used { table.vector(name).map(Some) } else { Ok(None) };
    Ok(StandardScaler {
        input_column: metadata.text("inputCol")?,
        output_column: metadata.text("outputCol")?,
        std: vector("std", metadata.flag("withStd")?)?,
        mean: vector("mean", metadata.flag("withMean")?)?,
    })
}
