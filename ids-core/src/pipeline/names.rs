//! What the entries of a vector are called, for people: followed through the stages that made it.

use rustc_hash::FxHashMap;

use super::{Stage, Transform};

/// Names of the entries of the vector `features` of `n` entries that `stages` make: of a number its column, of an
/// entry of a vector `column[position]`. Stages that change entries in place keep their names.
pub(crate) fn feature_names(stages: &[Stage], features: &str, n: usize) -> Vec<String> {
    let key = |name: &String| name.to_ascii_lowercase();
    let entries = |column: &str, n: usize| (0..n).map(|entry| format!("{column}[{entry}]")).collect::<Vec<_>>();
    let mut known: FxHashMap<String, Vec<String>> = FxHashMap::default();
    for stage in stages {
        let (output, names) = match &stage.transform {
            Transform::OneHotEncoder(encoder) => {
                for (output, length) in encoder.output_columns.iter().zip(encoder.lengths()) {
                    known.insert(key(output), entries(output, length));
                }
                continue;
            }
            Transform::VectorAssembler(assembler) => {
                let of = |input: &String| known.get(&key(input)).cloned().unwrap_or_else(|| vec![input.clone()]);
                (&assembler.output_column, Some(assembler.input_columns.iter().flat_map(of).collect()))
            }
            Transform::Scaler(stage) => (&stage.output_column, known.get(&key(&stage.input_column)).cloned()),
            Transform::MinMaxScaler(stage) => (&stage.output_column, known.get(&key(&stage.input_column)).cloned()),
            Transform::Normalizer(stage) => (&stage.output_column, known.get(&key(&stage.input_column)).cloned()),
            Transform::VectorIndexer(stage) => (&stage.output_column, known.get(&key(&stage.input_column)).cloned()),
            Transform::VectorSlicer(stage) => {
                let names = known.get(&key(&stage.input_column));
                let chosen = names.and_then(|names| stage.indices.iter().map(|&i| names.get(i).cloned()).collect());
                (&stage.output_column, chosen)
            }
            _ => continue,
        };
        if let Some(names) = names {
            known.insert(key(output), names);
        }
    }
    match known.remove(&features.to_ascii_lowercase()) {
        // A forest may look at the first entries only.
        Some(mut names) if names.len() >= n => {
            names.truncate(n);
            names
        }
        _ => entries(features, n),
    }
}
