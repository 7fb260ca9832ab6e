//! From a row of a source to a feature vector, by the very stages that were fitted with the model.
//!
//! A [`Stage`] is what was fitted: names of columns and numbers. A [`Pipeline`] is its stages bound to
//! the fields of a source: every name looked up once. Each family of stages has a file of its own,
//! which cites the Spark source it follows (`mllib/src/main/scala/org/apache/spark/ml/feature`).

mod binarizer;
mod bind;
mod bucketizer;
mod imputer;
mod index_to_string;
mod names;
mod normalizer;
mod one_hot_encoder;
mod row;
mod scalers;
mod string_indexer;
mod vector_assembler;
mod vector_indexer;
mod vector_slicer;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use binarizer::Binarizer;
pub use bucketizer::Bucketizer;
pub use imputer::Imputer;
pub use index_to_string::IndexToString;
pub(crate) use names::feature_names;
pub use normalizer::{Norm, Normalizer};
pub use one_hot_encoder::OneHotEncoder;
pub use row::Scratch;
pub use scalers::{MinMaxScaler, Scaler};
pub use string_indexer::StringIndexer;
pub use vector_assembler::VectorAssembler;
pub use vector_indexer::VectorIndexer;
pub use vector_slicer::VectorSlicer;

use bind::{Binder, Symbol};
use row::{Form, Row, VectorPlace};

use crate::error::{Error, Result};
use crate::rows::{self, DataType, Fields};

/// A fitted stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The name that the stage's messages carry: Spark's uid.
    pub uid: String,
    /// The Spark whose behaviour it has.
    pub dialect: Dialect,
    /// What it does.
    pub transform: Transform,
}

/// Versions of Spark between which stages behave differently. What a stage does depends on the Spark that
/// runs it and not on the one that fitted it; if nothing else is said, the one that saved it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dialect {
    /// Spark 3.x. What Spark 2.x saved is run as Spark 3.x runs it.
    UpTo3,
    /// Spark 4.0: a binarizer makes 0 of a missing number.
    V4_0,
    /// Spark from 4.1 on: vectors turn sparse at another length, and IndexToString refuses what is missing
    /// or NaN.
    From4_1,
}

impl Dialect {
    /// That of the Spark of a version: 3.5 is `(3, 5)`.
    pub fn of_spark(version: (u32, u32)) -> Self {
        match version {
            version if version < (4, 0) => Self::UpTo3,
            (4, 0) => Self::V4_0,
            _ => Self::From4_1,
        }
    }
}

/// What a stage does to a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Transform {
    /// Categories to their indices.
    StringIndexer(StringIndexer),
    /// Indices back to their labels.
    IndexToString(IndexToString),
    /// Missing numbers to a fitted value.
    Imputer(Imputer),
    /// Numbers to the bucket they fall in.
    Bucketizer(Bucketizer),
    /// Numbers to 0 and 1.
    Binarizer(Binarizer),
    /// Indices to vectors with a single 1.
    OneHotEncoder(OneHotEncoder),
    /// Numbers and vectors to one vector.
    VectorAssembler(VectorAssembler),
    /// A vector shifted and scaled.
    Scaler(Scaler),
    /// A vector mapped from its range to another.
    MinMaxScaler(MinMaxScaler),
    /// A vector divided by its norm.
    Normalizer(Normalizer),
    /// Categories among the entries of a vector to their indices.
    VectorIndexer(VectorIndexer),
    /// Some entries of a vector.
    VectorSlicer(VectorSlicer),
}

impl Transform {
    /// The family's name, which is Spark's.
    #[cfg(feature = "train")]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::StringIndexer(_) => "StringIndexer",
            Self::IndexToString(_) => "IndexToString",
            Self::Imputer(_) => "Imputer",
            Self::Bucketizer(_) => "Bucketizer",
            Self::Binarizer(_) => "Binarizer",
            Self::OneHotEncoder(_) => "OneHotEncoder",
            Self::VectorAssembler(_) => "VectorAssembler",
            Self::Scaler(_) => "Scaler",
            Self::MinMaxScaler(_) => "MinMaxScaler",
            Self::Normalizer(_) => "Normalizer",
            Self::VectorIndexer(_) => "VectorIndexer",
            Self::VectorSlicer(_) => "VectorSlicer",
        }
    }

    fn family(&self) -> &dyn Bind {
        match self {
            Self::StringIndexer(stage) => stage,
            Self::IndexToString(stage) => stage,
            Self::Imputer(stage) => stage,
            Self::Bucketizer(stage) => stage,
            Self::Binarizer(stage) => stage,
            Self::OneHotEncoder(stage) => stage,
            Self::VectorAssembler(stage) => stage,
            Self::Scaler(stage) => stage,
            Self::MinMaxScaler(stage) => stage,
            Self::Normalizer(stage) => stage,
            Self::VectorIndexer(stage) => stage,
            Self::VectorSlicer(stage) => stage,
        }
    }
}

/// A fitted stage before its columns are looked up.
trait Bind {
    /// Looks its columns up and gives what it makes a place; or says what does not fit.
    fn bind(&self, binder: &mut Binder<'_>) -> std::result::Result<Arc<dyn Apply>, String>;

    /// Whether Spark runs the stage on a row even where nothing needs what it makes.
    fn is_eager(&self) -> bool {
        false
    }

    /// Whether the stage drops rows.
    fn is_filter(&self) -> bool {
        false
    }
}

/// A stage whose columns are looked up.
trait Apply: fmt::Debug + Send + Sync {
    /// Makes its columns of a row; or says which value is invalid.
    fn apply(&self, row: &mut Row<'_>) -> std::result::Result<(), Invalid>;
}

/// What a stage does with a value it has no answer for (Spark's `handleInvalid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandleInvalid {
    /// The row fails.
    Error,
    /// The row is dropped.
    Skip,
    /// The value gets an answer that is set apart.
    Keep,
}

/// Why a row has no score.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// A stage whose `handleInvalid` is `skip` dropped it.
    #[error("stage `{stage}` drops the row: column `{column}` {reason}")]
    Dropped {
        /// The stage's uid.
        stage: String,
        /// The column at fault.
        column: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// A stage whose `handleInvalid` is `error` refused it; Spark fails the job on such a row.
    #[error("stage `{stage}` refuses the row: column `{column}` {reason}")]
    Refused {
        /// The stage's uid.
        stage: String,
        /// The column at fault.
        column: String,
        /// What is wrong with its value.
        reason: String,
    },
}

impl RowFault {
    /// A short, stable name for metrics and dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Dropped { .. } => "dropped",
            Self::Refused { .. } => "refused",
        }
    }
}

/// What is wrong with a value, before it is known in which stage.
#[derive(Debug)]
struct Invalid {
    column: String,
    reason: String,
    handling: HandleInvalid,
}

impl Invalid {
    /// A missing value where a stage cannot do without.
    #[cold]
    fn missing(column: &str) -> Self {
        Self { column: column.into(), reason: "is missing".into(), handling: HandleInvalid::Error }
    }
}

/// Fitted stages bound to the fields of a source.
#[derive(Debug, Clone)]
pub struct Pipeline {
    stages: Vec<Stage>,
    /// One per stage.
    steps: Vec<Step>,
    /// Names of the fields that the stages read.
    inputs: Vec<String>,
    /// Vectors among them: name, slot, place.
    input_vectors: Vec<(String, usize, VectorPlace)>,
    outputs: Vec<Output>,
    /// Of a thread that has not seen a row.
    scratch: Scratch,
}

/// A stage bound to places in a row, with what [`Pipeline::after_fault`] asks of it.
#[derive(Debug, Clone)]
struct Step {
    apply: Arc<dyn Apply>,
    is_eager: bool,
    is_filter: bool,
    /// Names, in lower case, of the columns that it reads and makes.
    reads: Vec<String>,
    makes: Vec<String>,
}

/// A column that a pipeline makes.
#[derive(Debug, Clone)]
pub struct Output {
    name: String,
    symbol: Symbol,
}

impl Output {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it holds.
    pub fn data_type(&self) -> DataType {
        match &self.symbol {
            Symbol::Number(_, data_type) => *data_type,
            Symbol::Vector(place) => DataType::Vector(place.length),
            Symbol::Text(_) | Symbol::Absent { .. } => DataType::Text,
        }
    }
}

/// The value of a column in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Spark's null.
    Missing,
    /// A number of any type.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// A vector.
    Vector {
        /// All entries; those that a sparse vector does not store are 0.
        entries: &'a [f64],
        /// Which entries a sparse vector stores; `None` for a dense one.
        stored: Option<&'a [bool]>,
    },
}

/// What the stages made of a row.
pub struct Transformed<'a> {
    row: Row<'a>,
}

impl Transformed<'_> {
    /// The value of a column that the pipeline makes.
    pub fn get(&self, output: &Output) -> Cell<'_> {
        match &output.symbol {
            Symbol::Number(source, _) => source.read(&self.row).map_or(Cell::Missing, Cell::Number),
            Symbol::Text(source) => source.read(&self.row).map_or(Cell::Missing, Cell::Text),
            Symbol::Vector(place) => match self.row.vector(*place) {
                Some(vector) => Cell::Vector { entries: vector.entries, stored: vector.stored },
                None => Cell::Missing,
            },
            Symbol::Absent { .. } => Cell::Missing,
        }
    }

    /// The vector that the forest takes, `[n_features]`.
    pub(crate) fn features(&self, features: &Features) -> std::result::Result<&[f64], RowFault> {
        match self.row.vector(features.place) {
            Some(vector) => Ok(vector.entries),
            None => Err(fault("forest", Invalid::missing(&features.name))),
        }
    }
}

/// The vector that a forest takes.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    name: String,
    place: VectorPlace,
}

impl Features {
    /// Name of the column.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Length of the vector.
    pub(crate) fn len(&self) -> usize {
        self.place.length
    }
}

impl Pipeline {
    /// Binds `stages` to `fields`.
    ///
    /// # Errors
    /// [`Error::MissingColumns`] lists the columns that the source cannot supply; [`Error::Pipeline`]
    /// names the stage whose columns are of a kind it cannot use.
    pub fn new(stages: Vec<Stage>, fields: &Fields) -> Result<Self> {
        Self::bind(stages, None, fields).map(|(pipeline, _)| pipeline)
    }

    /// As [`Pipeline::new`], for a forest that takes the vector `features`, which a stage makes or the
    /// source has.
    pub(crate) fn with_features(stages: Vec<Stage>, features: &str, fields: &Fields) -> Result<(Self, Features)> {
        let (pipeline, features) = Self::bind(stages, Some(features), fields)?;
        let features = features.ok_or_else(|| Error::Model { detail: "it has no feature vector".into() })?;
        Ok((pipeline, features))
    }

    fn bind(stages: Vec<Stage>, features: Option<&str>, fields: &Fields) -> Result<(Self, Option<Features>)> {
        let mut binder = Binder::new(fields);
        let mut steps = Vec::new();
        for stage in &stages {
            binder.dialect = stage.dialect;
            let family = stage.transform.family();
            match family.bind(&mut binder) {
                Ok(apply) => steps.push(Step {
                    apply,
                    is_eager: family.is_eager(),
                    is_filter: family.is_filter(),
                    reads: std::mem::take(&mut binder.reads),
                    makes: std::mem::take(&mut binder.makes),
                }),
                // What does not fit may follow from a column that is missing: that is said first.
                Err(_) if !binder.missing.is_empty() => break,
                Err(detail) => return Err(Error::Pipeline { stage: stage.uid.clone(), detail }),
            }
        }
        let features = match features {
            Some(name) if binder.missing.is_empty() => match binder.require(name) {
                Ok(Some(Symbol::Vector(place))) => Some(Features { name: name.into(), place }),
                Ok(None) => None,
                _ => {
                    let detail = format!("no stage makes the vector `{name}` that the forest takes");
                    return Err(Error::Model { detail });
                }
            },
            _ => None,
        };
        if !binder.missing.is_empty() {
            return Err(Error::MissingColumns { source_name: fields.source().into(), columns: binder.missing });
        }
        /// Doubles of all vectors of a row, at most: assemblers that take each other's output could
        /// otherwise double it without end.
        const MOST_VECTOR_SPACE: usize = 1 << 22;
        if binder.vector_space > MOST_VECTOR_SPACE {
            return Err(Error::Model { detail: format!("its stages make vectors of {} numbers", binder.vector_space) });
        }
        let Binder { computed, inputs, input_vectors, n_scalars, n_texts, n_vectors, vector_space, .. } = binder;
        let made = computed.into_values().filter(|computed| !matches!(computed.symbol, Symbol::Absent { .. }));
        let mut outputs: Vec<_> =
            made.map(|computed| Output { name: computed.name, symbol: computed.symbol }).collect();
        outputs.sort_by(|a, b| a.name.cmp(&b.name));
        let scratch = Scratch {
            scalars: vec![None; n_scalars],
            texts: vec![None; n_texts],
            entries: vec![0.0; vector_space],
            stored: vec![false; vector_space],
            forms: vec![Form::Missing; n_vectors],
        };
        Ok((Self { stages, steps, inputs, input_vectors, outputs, scratch }, features))
    }

    /// The fitted stages.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Names of the fields that the stages read.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// The columns that the stages make, by name. Of those that share a name, the last made.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Working memory for [`Pipeline::transform`].
    pub fn scratch(&self) -> Scratch {
        self.scratch.clone()
    }

    /// Sends `row`, of the fields that the pipeline is bound to, through all stages.
    ///
    /// # Errors
    /// [`RowFault`] names the stage that drops or refuses the row.
    pub fn transform<'a>(
        &self,
        row: rows::Row<'a>,
        scratch: &'a mut Scratch,
    ) -> std::result::Result<Transformed<'a>, RowFault> {
        let mut row = Row { input: row, made: scratch };
        for (name, slot, place) in &self.input_vectors {
            self.take(&mut row, name, *slot, *place)?;
        }
        for (position, step) in self.steps.iter().enumerate() {
            if let Err(invalid) = step.apply.apply(&mut row) {
                return Err(self.after_fault(position, invalid, &mut row));
            }
        }
        Ok(Transformed { row })
    }

    /// What becomes of a row that the stage at `position` found invalid: a later stage may drop it.
    ///
    /// Spark puts off a stage until something needs what it makes, all but indexers and assemblers of columns
    /// (their functions count as not deterministic). A row that would fail there is therefore dropped, if a
    /// later stage drops it without having read what failed.
    #[cold]
    fn after_fault(&self, position: usize, invalid: Invalid, row: &mut Row<'_>) -> RowFault {
        let is_final = |step: &Step, invalid: &Invalid| step.is_eager || invalid.handling == HandleInvalid::Skip;
        let name = |position: usize| &self.stages[position].uid;
        let step = &self.steps[position];
        let is_decided = is_final(step, &invalid);
        let first = fault(name(position), invalid);
        if is_decided {
            return first;
        }
        let mut failed: Vec<&String> = step.makes.iter().collect();
        for (position, step) in self.steps.iter().enumerate().skip(position + 1) {
            if step.reads.iter().any(|read| failed.contains(&read)) {
                if step.is_eager || step.is_filter {
                    return first;
                }
                failed.extend(&step.makes);
            } else if let Err(invalid) = step.apply.apply(row) {
                if is_final(step, &invalid) {
                    return fault(name(position), invalid);
                }
                failed.extend(&step.makes);
            }
        }
        first
    }

    /// Takes a vector from the source.
    fn take(
        &self,
        row: &mut Row<'_>,
        name: &str,
        slot: usize,
        place: VectorPlace,
    ) -> std::result::Result<(), RowFault> {
        let Some(vector) = row.input.vector(slot) else {
            row.vector_out(place).set_missing();
            return Ok(());
        };
        let found = vector.values().len();
        if found != place.length {
            let reason = format!("has {found} entries, not {}", place.length);
            let invalid = Invalid { column: name.into(), reason, handling: HandleInvalid::Error };
            return Err(fault("input", invalid));
        }
        let mut out = row.vector_out(place);
        out.entries.copy_from_slice(vector.values());
        match vector.stored() {
            None => out.set_dense(),
            Some(stored) => out.set_sparse(|position| stored[position]),
        }
        Ok(())
    }
}

#[cold]
fn fault(stage: &str, invalid: Invalid) -> RowFault {
    let stage = stage.to_owned();
    let Invalid { column, reason, handling } = invalid;
    match handling {
        HandleInvalid::Skip => RowFault::Dropped { stage, column, reason },
        _ => RowFault::Refused { stage, column, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::JsonDecoder;
    use crate::record::FlowRecords;
    use crate::schema::Schema;

    fn stage(uid: &str, transform: Transform) -> Stage {
        Stage { uid: uid.into(), dialect: Dialect::UpTo3, transform }
    }

    fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
        names.map(str::to_owned).to_vec()
    }

    fn indexer(handling: HandleInvalid) -> Stage {
        stage(
            "indexer",
            Transform::StringIndexer(StringIndexer {
                input_columns: strings(["proto"]),
                output_columns: strings(["proto_index"]),
                labels: vec![strings(["tcp", "udp"])],
                handle_invalid: handling,
            }),
        )
    }

    fn imputer() -> Stage {
        stage(
            "imputer",
            Transform::Imputer(Imputer {
                input_columns: strings(["dur"]),
                output_columns: strings(["dur_imputed"]),
                surrogates: vec![7.0],
                missing_value: f64::NAN,
            }),
        )
    }

    fn assembler(inputs: Vec<String>, handling: HandleInvalid) -> Stage {
        stage(
            "assembler",
            Transform::VectorAssembler(VectorAssembler {
                input_columns: inputs,
                output_column: "features".into(),
                handle_invalid: handling,
            }),
        )
    }

    fn features(stages: Vec<Stage>, message: &str) -> std::result::Result<Vec<f64>, RowFault> {
        let schema = Arc::new(Schema::unsw_nb15());
        let (pipeline, features) = Pipeline::with_features(stages, "features", schema.fields()).expect("binds");
        let mut records = FlowRecords::new(Arc::clone(&schema));
        JsonDecoder::new(schema, &[]).expect("decoder").decode(0, message.as_bytes(), &mut records).expect("decodes");
        let mut scratch = pipeline.scratch();
        let made = pipeline.transform(records.get(0).row(), &mut scratch)?;
        Ok(made.features(&features)?.to_vec())
    }

    #[test]
    fn indexes_imputes_and_assembles() {
        use HandleInvalid::Keep;
        let stages =
            || vec![indexer(Keep), imputer(), assembler(strings(["proto_index", "dur_imputed", "sload"]), Keep)];
        let cases = [
            (r#"{"proto":"udp","dur":2,"sload":-0.0}"#, [1.0, 2.0, 0.0]),
            (r#"{"proto":"icmp","dur":NaN,"sload":1}"#, [2.0, 7.0, 1.0]),
            (r#"{"proto":null,"sload":1}"#, [2.0, 7.0, 1.0]),
        ];
        for (message, expected) in cases {
            let found = features(stages(), message).expect("scores");
            assert_eq!(found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected.map(f64::to_bits), "{message}");
        }
        let kept = features(stages(), r#"{"proto":"tcp","dur":1}"#).expect("scores");
        assert!(kept[2].is_nan(), "a missing number is kept as NaN");
    }

    #[test]
    fn invalid_values_are_refused_or_dropped_by_the_stage_that_says_so() {
        use HandleInvalid::{Error, Keep, Skip};
        let cases = [
            (indexer(Error), Keep, r#"{"proto":"icmp","sload":1}"#, "refuses", "proto"),
            (indexer(Skip), Keep, r#"{"sload":1}"#, "drops", "proto"),
            (indexer(Keep), Error, r#"{"proto":"tcp","sload":NaN}"#, "refuses", "sload"),
            (indexer(Keep), Skip, r#"{"proto":"tcp"}"#, "drops", "sload"),
        ];
        for (indexer, handling, message, verb, column) in cases {
            let stages = vec![indexer, assembler(strings(["proto_index", "sload"]), handling)];
            let text = features(stages, message).expect_err(message).to_string();
            assert!(text.contains(verb) && text.contains(&format!("`{column}`")), "{text}");
        }
    }

    #[test]
    fn a_scaler_shifts_then_multiplies() {
        let scaler = Transform::Scaler(Scaler {
            input_column: "assembled".into(),
            output_column: "features".into(),
            shift: Some(vec![1.0, 1.0]),
            scale: Some(vec![1.0 / 3.0, 0.0]),
        });
        let scaler = stage("scaler", scaler);
        let mut assembler = assembler(strings(["dur", "sload"]), HandleInvalid::Keep);
        if let Transform::VectorAssembler(assembler) = &mut assembler.transform {
            assembler.output_column = "assembled".into();
        }
        let found = features(vec![assembler, scaler], r#"{"dur":6,"sload":5}"#).expect("scores");
        assert_eq!(found, [5.0 * (1.0 / 3.0), 0.0]);
    }

    #[test]
    fn what_a_schema_cannot_supply_is_listed() {
        let bind = |stages| Pipeline::with_features(stages, "features", Schema::unsw_nb15().fields());
        let columns = strings(["dur", "Flow Duration", "nonsense"]);
        let message = bind(vec![assembler(columns, HandleInvalid::Keep)]).expect_err("refused").to_string();
        assert!(message.contains("2 columns that the model needs: Flow Duration, nonsense"), "{message}");
        let message = bind(vec![assembler(strings(["label"]), HandleInvalid::Keep)]).expect_err("leaks").to_string();
        assert!(message.contains("label or identifier `label`"), "{message}");
        let message = bind(vec![assembler(strings(["proto"]), HandleInvalid::Keep)]).expect_err("text").to_string();
        assert!(message.contains("`proto` is text"), "{message}");
        assert!(bind(vec![indexer(HandleInvalid::Keep)]).is_err(), "no vector");
    }

    /// Spark puts a bucketizer off until something needs its bucket; an indexer it does not.
    #[test]
    fn a_row_that_would_fail_can_still_be_dropped() {
        use HandleInvalid::{Error, Keep, Skip};
        let bucketizer = || {
            let bucketizer = Bucketizer {
                input_columns: strings(["dur"]),
                output_columns: strings(["bucket"]),
                splits: vec![vec![0.0, 1.0, 2.0]],
                handle_invalid: Error,
            };
            stage("bucketizer", Transform::Bucketizer(bucketizer))
        };
        // Outside of all buckets, and a protocol that was not seen.
        let message = r#"{"dur":9,"proto":"icmp","sload":1}"#;
        let cases = [
            (vec![bucketizer(), indexer(Skip), assembler(strings(["proto_index"]), Keep)], "`indexer` drops"),
            (vec![bucketizer(), indexer(Keep), assembler(strings(["proto_index"]), Keep)], "`bucketizer` refuses"),
            (vec![bucketizer(), indexer(Keep), assembler(strings(["bucket"]), Skip)], "`bucketizer` refuses"),
            (vec![indexer(Error), bucketizer(), assembler(strings(["sload"]), Skip)], "`indexer` refuses"),
        ];
        for (stages, expected) in cases {
            let text = features(stages, message).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn what_changed_between_versions_of_spark() {
        let of = |dialect, transform: &Transform, message: &str| {
            let schema = Arc::new(Schema::unsw_nb15());
            let stages = vec![Stage { uid: "stage".into(), dialect, transform: transform.clone() }];
            let pipeline = Pipeline::new(stages, schema.fields()).expect("binds");
            let mut records = FlowRecords::new(Arc::clone(&schema));
            JsonDecoder::new(schema, &[])
                .expect("decoder")
                .decode(0, message.as_bytes(), &mut records)
                .expect("decodes");
            let mut scratch = pipeline.scratch();
            let made = pipeline.transform(records.get(0).row(), &mut scratch).map_err(|fault| fault.to_string())?;
            Ok(match made.get(&pipeline.outputs()[0]) {
                Cell::Vector { stored, .. } => if stored.is_some() { "sparse" } else { "dense" }.to_owned(),
                cell => format!("{cell:?}"),
            })
        };
        let dialects = [Dialect::UpTo3, Dialect::V4_0, Dialect::From4_1];
        let compare = |transform: &Transform, message, expected: [std::result::Result<&str, ()>; 3]| {
            for (dialect, expected) in dialects.into_iter().zip(expected) {
                let found: std::result::Result<String, String> = of(dialect, transform, message);
                assert_eq!(found.as_deref().map_err(|_| ()), expected, "{transform:?} {dialect:?}");
            }
        };
        let binarizer = Transform::Binarizer(Binarizer {
            input_columns: strings(["dur"]),
            output_columns: strings(["out"]),
            thresholds: vec![-1.0],
        });
        compare(&binarizer, r#"{"dur":null}"#, [Ok("Missing"), Ok("Number(0.0)"), Ok("Number(0.0)")]);
        let label = Transform::IndexToString(IndexToString {
            input_column: "dur".into(),
            output_column: "out".into(),
            labels: strings(["a", "b"]),
        });
        compare(&label, r#"{"dur":null}"#, [Ok("Missing"), Ok("Missing"), Err(())]);
        compare(&label, r#"{"dur":NaN}"#, [Ok("Text(\"a\")"), Ok("Text(\"a\")"), Err(())]);
        compare(&label, r#"{"dur":1.9}"#, [Ok("Text(\"b\")"); 3]);
        // Two entries, none of them stored.
        let assembler = assembler(strings(["dur", "sload"]), HandleInvalid::Keep).transform;
        compare(&assembler, r#"{"dur":0,"sload":-0.0}"#, [Ok("sparse"), Ok("sparse"), Ok("dense")]);
    }
}
