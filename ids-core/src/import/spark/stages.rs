//! The saved feature stages that can be scored: their parameters and data made into ours.

use super::metadata::Metadata;
use crate::error::Result;
use crate::pipeline::{
    Binarizer, Bucketizer, Dialect, HandleInvalid, Imputer, IndexToString, MinMaxScaler, Norm, Normalizer,
    OneHotEncoder, Scaler, Stage, StringIndexer, Transform, VectorAssembler, VectorIndexer, VectorSlicer,
};
use crate::table::Table;

/// Reads the stage of `metadata`.
pub(super) fn read(metadata: &Metadata) -> Result<Stage> {
    let transform = match metadata.class.strip_prefix("org.apache.spark.ml.feature.") {
        Some("StringIndexerModel") => Transform::StringIndexer(string_indexer(metadata)?),
        Some("IndexToString") => Transform::IndexToString(index_to_string(metadata)?),
        Some("ImputerModel") => Transform::Imputer(imputer(metadata)?),
        Some("Bucketizer") => Transform::Bucketizer(bucketizer(metadata)?),
        Some("Binarizer") => Transform::Binarizer(binarizer(metadata)?),
        Some("OneHotEncoderModel") => Transform::OneHotEncoder(one_hot_encoder(metadata)?),
        Some("VectorAssembler") => Transform::VectorAssembler(VectorAssembler {
            input_columns: metadata.texts("inputCols")?,
            output_column: metadata.text("outputCol")?,
            handle_invalid: handle_invalid(metadata)?,
        }),
        Some("StandardScalerModel") => {
            let table = metadata.data()?;
            let shift = if metadata.flag("withMean")? { Some(vector(metadata, &table, "mean")?) } else { None };
            let std = if metadata.flag("withStd")? { Some(vector(metadata, &table, "std")?) } else { None };
            Transform::Scaler(scaler(metadata, shift, std.map(|std| reciprocals(&std, 0.0)))?)
        }
        Some("RobustScalerModel") => {
            let table = metadata.data()?;
            let shift = if metadata.flag("withCentering")? { Some(vector(metadata, &table, "median")?) } else { None };
            let range = if metadata.flag("withScaling")? { Some(vector(metadata, &table, "range")?) } else { None };
            Transform::Scaler(scaler(metadata, shift, range.map(|range| reciprocals(&range, 0.0)))?)
        }
        Some("MaxAbsScalerModel") => {
            let most = vector(metadata, &metadata.data()?, "maxAbs")?;
            Transform::Scaler(scaler(metadata, None, Some(reciprocals(&most, 1.0)))?)
        }
        Some("ElementwiseProduct") => {
            let scale = metadata.vector("scalingVec")?;
            Transform::Scaler(scaler(metadata, None, Some(scale))?)
        }
        Some("MinMaxScalerModel") => {
            let table = metadata.data()?;
            Transform::MinMaxScaler(MinMaxScaler {
                input_column: metadata.text("inputCol")?,
                output_column: metadata.text("outputCol")?,
                original_min: vector(metadata, &table, "originalMin")?,
                original_max: vector(metadata, &table, "originalMax")?,
                min: metadata.double("min")?,
                max: metadata.double("max")?,
            })
        }
        Some("Normalizer") => Transform::Normalizer(normalizer(metadata)?),
        Some("VectorIndexerModel") => Transform::VectorIndexer(vector_indexer(metadata)?),
        Some("VectorSlicer") => {
            if !metadata.texts("names")?.is_empty() {
                return Err(metadata
                    .unsupported("it selects by names, which only the data's attributes hold; select by indices"));
            }
            Transform::VectorSlicer(VectorSlicer {
                input_column: metadata.text("inputCol")?,
                output_column: metadata.text("outputCol")?,
                indices: metadata.positions("indices")?,
                keeps_zeros: false,
            })
        }
        Some("ChiSqSelectorModel" | "UnivariateFeatureSelectorModel" | "VarianceThresholdSelectorModel") => {
            Transform::VectorSlicer(selector(metadata)?)
        }
        _ => return Err(metadata.unsupported(hint(&metadata.class))),
    };
    Ok(Stage { uid: metadata.uid.clone(), dialect: Dialect::of_spark(metadata.version()?), transform })
}

/// What to do about a stage that cannot be scored.
fn hint(class: &str) -> &'static str {
    match class.strip_prefix("org.apache.spark.ml.feature.") {
        Some("PCAModel") => {
            "its sums go through a BLAS whose order of additions depends on the machine, so that Spark is not bit-identical with itself"
        }
        Some("SQLTransformer") => "any SQL may stand in it; compute its columns before the pipeline",
        Some("OneHotEncoder") => {
            "the encoder of Spark 2 takes its size from the data it meets; fit a OneHotEncoderEstimator, or the OneHotEncoder of Spark 3"
        }
        Some(
            "Tokenizer"
            | "RegexTokenizer"
            | "HashingTF"
            | "IDFModel"
            | "Word2VecModel"
            | "CountVectorizerModel"
            | "NGram"
            | "StopWordsRemover",
        ) => "flows have no text to tokenise",
        None if !class.starts_with("org.apache.spark.") => {
            "only Spark's own stages can be scored; compute its columns before the pipeline"
        }
        _ => "",
    }
}

/// The class names of the indexer among `stages` that makes `output_column`, and the name of the class of
/// labels it has not seen, if it keeps them.
pub(super) fn labels_of(stages: &[Stage], output_column: &str) -> Option<(Vec<String>, Option<String>)> {
    stages.iter().find_map(|stage| match &stage.transform {
        Transform::StringIndexer(indexer) => {
            let column = indexer.output_columns.iter().position(|output| output == output_column)?;
            let unknown = (indexer.handle_invalid == HandleInvalid::Keep).then(|| "__unknown".to_owned());
            Some((indexer.labels.get(column)?.clone(), unknown))
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

/// Input and output columns of a stage that takes one or many, as many of the one as of the other.
fn columns(metadata: &Metadata) -> Result<(Vec<String>, Vec<String>)> {
    let inputs = metadata.one_or_many("inputCol", "inputCols")?;
    let outputs = metadata.one_or_many("outputCol", "outputCols")?;
    if inputs.len() != outputs.len() {
        return Err(metadata.damaged(format!("{} outputs for {} inputs", outputs.len(), inputs.len())));
    }
    Ok((inputs, outputs))
}

/// Checks that there is one of `noun` for each input.
fn one_each(metadata: &Metadata, inputs: &[String], found: usize, noun: &str) -> Result<()> {
    if found == inputs.len() {
        return Ok(());
    }
    Err(metadata.damaged(format!("{found} {noun} for {} columns", inputs.len())))
}

fn string_indexer(metadata: &Metadata) -> Result<StringIndexer> {
    let (input_columns, output_columns) = columns(metadata)?;
    let table = metadata.data()?;
    // Spark 2 saved the labels of its one column.
    let labels = if table.has("labelsArray") { "labelsArray" } else { "labels" };
    let labels = table.text_lists(labels)?;
    one_each(metadata, &input_columns, labels.len(), "label lists")?;
    Ok(StringIndexer { input_columns, output_columns, labels, handle_invalid: handle_invalid(metadata)? })
}

fn index_to_string(metadata: &Metadata) -> Result<IndexToString> {
    Ok(IndexToString {
        input_column: metadata.text("inputCol")?,
        output_column: metadata.text("outputCol")?,
        labels: metadata.texts("labels")?,
    })
}

fn imputer(metadata: &Metadata) -> Result<Imputer> {
    let (input_columns, output_columns) = columns(metadata)?;
    let table = metadata.data()?;
    if table.n_rows() != 1 {
        return Err(metadata.damaged(format!("{} rows of surrogates", table.n_rows())));
    }
    let surrogate = |column: &String| Ok(table.doubles(column)?[0]);
    let surrogates = input_columns.iter().map(surrogate).collect::<Result<_>>()?;
    Ok(Imputer { input_columns, output_columns, surrogates, missing_value: metadata.double("missingValue")? })
}

fn bucketizer(metadata: &Metadata) -> Result<Bucketizer> {
    let (input_columns, output_columns) = columns(metadata)?;
    let splits = match (metadata.double_lists("splitsArray")?, metadata.doubles("splits")?) {
        (Some(splits), _) => splits,
        (None, Some(splits)) => vec![splits],
        (None, None) => return Err(metadata.damaged("it has no splits")),
    };
    one_each(metadata, &input_columns, splits.len(), "lists of splits")?;
    Ok(Bucketizer { input_columns, output_columns, splits, handle_invalid: handle_invalid(metadata)? })
}

fn binarizer(metadata: &Metadata) -> Result<Binarizer> {
    let (input_columns, output_columns) = columns(metadata)?;
    let thresholds = match metadata.doubles("thresholds")? {
        Some(thresholds) => thresholds,
        None => vec![metadata.double("threshold")?; input_columns.len()],
    };
    one_each(metadata, &input_columns, thresholds.len(), "thresholds")?;
    Ok(Binarizer { input_columns, output_columns, thresholds })
}

fn one_hot_encoder(metadata: &Metadata) -> Result<OneHotEncoder> {
    let (input_columns, output_columns) = columns(metadata)?;
    let sizes = metadata.data()?.lists_of_ints("categorySizes")?;
    let sizes: Option<Vec<_>> = sizes.iter().flatten().map(|&size| usize::try_from(size).ok()).collect();
    let category_sizes = sizes.ok_or_else(|| metadata.damaged("a negative number of categories"))?;
    one_each(metadata, &input_columns, category_sizes.len(), "numbers of categories")?;
    let drop_last = metadata.flag("dropLast")?;
    Ok(OneHotEncoder {
        input_columns,
        output_columns,
        category_sizes,
        drop_last,
        handle_invalid: handle_invalid(metadata)?,
    })
}

fn scaler(metadata: &Metadata, shift: Option<Vec<f64>>, scale: Option<Vec<f64>>) -> Result<Scaler> {
    Ok(Scaler { input_column: metadata.text("inputCol")?, output_column: metadata.text("outputCol")?, shift, scale })
}

/// What Spark multiplies by; `of_zero` for a feature that never varied.
fn reciprocals(divisors: &[f64], of_zero: f64) -> Vec<f64> {
    divisors.iter().map(|&divisor| if divisor == 0.0 { of_zero } else { 1.0 / divisor }).collect()
}

/// The fitted vector in the column `name`.
fn vector(metadata: &Metadata, table: &Table, name: &str) -> Result<Vec<f64>> {
    match table.vectors(name)?.as_slice() {
        [Some(vector)] => Ok(vector.values().to_vec()),
        _ => Err(metadata.damaged(format!("`{name}` is not one vector"))),
    }
}

fn normalizer(metadata: &Metadata) -> Result<Normalizer> {
    let p = metadata.double("p")?;
    let norm = match p {
        1.0 => Norm::L1,
        2.0 => Norm::L2,
        f64::INFINITY => Norm::Max,
        _ => {
            let hint = format!(
                "its p is {p}; the power it needs is not the same to the bit everywhere, that of 1, 2 and infinity is"
            );
            return Err(metadata.unsupported(&hint));
        }
    };
    Ok(Normalizer { input_column: metadata.text("inputCol")?, output_column: metadata.text("outputCol")?, norm })
}

fn vector_indexer(metadata: &Metadata) -> Result<VectorIndexer> {
    let table = metadata.data()?;
    let damaged = || metadata.damaged("the category maps cannot be read");
    let position = |value: &i64| usize::try_from(*value).map_err(|_| damaged());
    let n_features = match table.ints("numFeatures")?.as_slice() {
        [n] => position(n)?,
        _ => return Err(damaged()),
    };
    let features: Vec<i64> = table.lists_of_ints("categoryMaps.key")?.concat();
    let values = table.lists_of_doubles("categoryMaps.value.key")?;
    let indices = table.lists_of_ints("categoryMaps.value.value")?;
    // Of no feature there is one empty list.
    if features.len() > values.len() || values.len() != indices.len() {
        return Err(damaged());
    }
    let mut category_maps = Vec::new();
    for ((feature, values), indices) in features.iter().zip(values).zip(indices) {
        if values.len() != indices.len() {
            return Err(damaged());
        }
        let index = |index: i64| u32::try_from(index).map_err(|_| damaged());
        let indices = indices.into_iter().map(index).collect::<Result<Vec<_>>>()?;
        category_maps.push((position(feature)?, values.into_iter().zip(indices).collect()));
    }
    category_maps.sort_by_key(|(feature, _)| *feature);
    Ok(VectorIndexer {
        input_column: metadata.text("inputCol")?,
        output_column: metadata.text("outputCol")?,
        n_features,
        category_maps,
        handle_invalid: handle_invalid(metadata)?,
    })
}

fn selector(metadata: &Metadata) -> Result<VectorSlicer> {
    let selected = metadata.data()?.lists_of_ints("selectedFeatures")?.concat();
    let indices: Option<Vec<_>> = selected.iter().map(|&index| usize::try_from(index).ok()).collect();
    let mut indices = indices.ok_or_else(|| metadata.damaged("a negative feature is selected"))?;
    // They are saved in no order.
    indices.sort_unstable();
    Ok(VectorSlicer {
        input_column: metadata.text("featuresCol")?,
        output_column: metadata.text("outputCol")?,
        indices,
        keeps_zeros: true,
    })
}
