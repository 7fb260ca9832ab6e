//! From a [`FlowRecord`] to a feature vector, by the very stages that were fitted with the model.
//!
//! A [`Stage`] is what was fitted: names of columns and numbers. A [`Pipeline`] is its stages bound
//! to a schema: every name looked up once, so that a row costs no look-ups. Each stage family has a
//! file of its own, which cites the Spark source it follows (`mllib/src/main/scala/org/apache/spark/ml/feature`).

mod imputer;
mod standard_scaler;
mod string_indexer;
mod vector_assembler;

use std::ops::Range;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

pub use imputer::Imputer;
pub use standard_scaler::StandardScaler;
pub use string_indexer::StringIndexer;
pub use vector_assembler::VectorAssembler;

use crate::error::{Error, Result};
use crate::record::FlowRecord;
use crate::schema::{ColumnKind, Schema, Slot};

/// A fitted stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The name that the stage's messages carry: Spark's uid.
    pub uid: String,
    /// What it does.
    pub transform: Transform,
}

/// What a stage does to a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Transform {
    /// Categories to their indices.
    StringIndexer(StringIndexer),
    /// Missing numbers to a fitted value.
    Imputer(Imputer),
    /// Numbers and vectors to one vector.
    VectorAssembler(VectorAssembler),
    /// A vector centred and scaled.
    StandardScaler(StandardScaler),
}

impl Transform {
    /// The stage's family, as Spark names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StringIndexer(_) => "StringIndexer",
            Self::Imputer(_) => "Imputer",
            Self::VectorAssembler(_) => "VectorAssembler",
            Self::StandardScaler(_) => "StandardScaler",
        }
    }
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

/// Fitted stages bound to a schema: makes feature vectors.
#[derive(Debug, Clone)]
pub struct Pipeline {
    stages: Vec<Stage>,
    /// Name of the column with the feature vector.
    features_column: String,
    steps: Vec<Step>,
    /// Names of the schema's columns that the stages read.
    inputs: Vec<String>,
    n_scalars: usize,
    vector_space: usize,
    features: Range<usize>,
}

/// A stage bound to places in a row.
#[derive(Debug, Clone)]
struct Step {
    /// Position in `stages`.
    stage: usize,
    transform: Bound,
}

#[derive(Debug, Clone)]
enum Bound {
    StringIndexer(string_indexer::Bound),
    Imputer(imputer::Bound),
    VectorAssembler(vector_assembler::Bound),
    StandardScaler(standard_scaler::Bound),
}

/// A row on its way through the stages.
struct Row<'a> {
    record: FlowRecord<'a>,
    /// Numbers that stages computed; `None` is Spark's null.
    scalars: &'a mut [Option<f64>],
    /// Vectors that stages computed, one after the other.
    vectors: &'a mut [f64],
}

/// Where a stage finds a number.
#[derive(Debug, Clone, Copy)]
enum NumberSource {
    Record(usize),
    Scalar(usize),
}

impl NumberSource {
    fn read(self, row: &Row<'_>) -> Option<f64> {
        match self {
            Self::Record(slot) => row.record.number_at(slot),
            Self::Scalar(position) => row.scalars[position],
        }
    }
}

/// What a column's name stands for while stages are bound.
#[derive(Debug, Clone)]
enum Symbol {
    Text {
        slot: usize,
    },
    Number(NumberSource),
    Vector(Range<usize>),
    /// A column that follows from one that is not there, or that no model may take: a label or an identifier.
    Absent {
        source: String,
        is_forbidden: bool,
    },
}

/// Looks names up while stages are bound, and gives out places.
struct Binder<'a> {
    schema: &'a Schema,
    computed: FxHashMap<String, Symbol>,
    inputs: Vec<String>,
    /// Columns that a stage needs and nobody supplies.
    missing: Vec<String>,
    n_scalars: usize,
    vector_space: usize,
}

impl Binder<'_> {
    /// What `name` stands for: a computed column, else one of the schema. Like Spark, without regard
    /// to case.
    fn look_up(&mut self, name: &str) -> Symbol {
        if let Some(symbol) = self.computed.get(&name.to_ascii_lowercase()) {
            return symbol.clone();
        }
        let Some(position) = self.schema.position(name) else {
            return Symbol::Absent { source: name.into(), is_forbidden: false };
        };
        let column = &self.schema.columns()[position];
        if matches!(column.kind, ColumnKind::Label | ColumnKind::Identifier) {
            return Symbol::Absent { source: name.into(), is_forbidden: true };
        }
        if !self.inputs.contains(&column.name) {
            self.inputs.push(column.name.clone());
        }
        match self.schema.slot(position) {
            Slot::Number(slot) => Symbol::Number(NumberSource::Record(slot)),
            Slot::Text(slot) => Symbol::Text { slot },
        }
    }

    /// As [`look_up`](Self::look_up) for a column that the stage cannot do without: `None`, and noted as
    /// missing, where nobody supplies it.
    fn require(&mut self, name: &str) -> std::result::Result<Option<Symbol>, String> {
        match self.look_up(name) {
            Symbol::Absent { source, is_forbidden: true } => {
                Err(format!("it takes `{name}`, made from the label or identifier `{source}`, as a feature"))
            }
            Symbol::Absent { source, .. } => {
                if !self.missing.contains(&source) {
                    self.missing.push(source);
                }
                Ok(None)
            }
            symbol => Ok(Some(symbol)),
        }
    }

    fn define(&mut self, name: &str, symbol: Symbol) {
        self.computed.insert(name.to_ascii_lowercase(), symbol);
    }

    fn define_scalar(&mut self, name: &str) -> usize {
        let position = self.n_scalars;
        self.n_scalars += 1;
        self.define(name, Symbol::Number(NumberSource::Scalar(position)));
        position
    }

    fn define_vector(&mut self, name: &str, length: usize) -> Range<usize> {
        let range = self.vector_space..self.vector_space.saturating_add(length);
        self.vector_space = range.end;
        self.define(name, Symbol::Vector(range.clone()));
        range
    }
}

impl Pipeline {
    /// Binds `stages`, of which the last makes the vector column `features_column`, to `schema`.
    ///
    /// # Errors
    /// [`Error::MissingColumns`] lists the columns that the schema cannot supply; [`Error::Pipeline`]
    /// names the stage whose columns are of a kind it cannot use.
    pub fn new(stages: Vec<Stage>, features_column: String, schema: &Schema) -> Result<Self> {
        let mut binder = Binder {
            schema,
            computed: FxHashMap::default(),
            inputs: Vec::new(),
            missing: Vec::new(),
            n_scalars: 0,
            vector_space: 0,
        };
        let mut steps = Vec::new();
        for (position, stage) in stages.iter().enumerate() {
            let bound = match &stage.transform {
                Transform::StringIndexer(indexer) => indexer.bind(&mut binder).map(Bound::StringIndexer),
                Transform::Imputer(imputer) => imputer.bind(&mut binder).map(Bound::Imputer),
                Transform::VectorAssembler(assembler) => assembler.bind(&mut binder).map(Bound::VectorAssembler),
                Transform::StandardScaler(scaler) => scaler.bind(&mut binder).map(Bound::StandardScaler),
            };
            match bound {
                Ok(transform) => steps.push(Step { stage: position, transform }),
                // What does not fit may follow from a column that is missing: that is said first.
                Err(_) if !binder.missing.is_empty() => break,
                Err(detail) => return Err(Error::Pipeline { stage: stage.uid.clone(), detail }),
            }
        }
        if !binder.missing.is_empty() {
            let source_name = format!("schema `{}`", schema.name());
            return Err(Error::MissingColumns { source_name, columns: binder.missing });
        }
        /// Doubles of all vectors of a row, at most: assemblers that take each other's output could
        /// otherwise double it without end.
        const MOST_VECTOR_SPACE: usize = 1 << 22;
        if binder.vector_space > MOST_VECTOR_SPACE {
            return Err(Error::Model { detail: format!("its stages make vectors of {} numbers", binder.vector_space) });
        }
        let Symbol::Vector(features) = binder.look_up(&features_column) else {
            let detail = format!("no stage makes the vector `{features_column}` that the forest takes");
            return Err(Error::Model { detail });
        };
        let Binder { inputs, n_scalars, vector_space, .. } = binder;
        Ok(Self { stages, features_column, steps, inputs, n_scalars, vector_space, features })
    }

    /// The fitted stages.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Name of the column with the feature vector.
    pub fn features_column(&self) -> &str {
        &self.features_column
    }

    /// Names of the schema's columns that the stages read.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Length of a feature vector.
    pub fn n_features(&self) -> usize {
        self.features.len()
    }

    /// Working memory for [`Pipeline::features`].
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch { scalars: vec![None; self.n_scalars], vectors: vec![0.0; self.vector_space] }
    }

    /// Appends the feature vector of `record`, `[n_features]`, to `features`; or says why it has none.
    pub(crate) fn features(
        &self,
        record: FlowRecord<'_>,
        scratch: &mut Scratch,
        features: &mut Vec<f64>,
    ) -> std::result::Result<(), RowFault> {
        let mut row = Row { record, scalars: &mut scratch.scalars, vectors: &mut scratch.vectors };
        for step in &self.steps {
            let outcome = match &step.transform {
                Bound::StringIndexer(indexer) => indexer.apply(&mut row),
                Bound::Imputer(imputer) => {
                    imputer.apply(&mut row);
                    Ok(())
                }
                Bound::VectorAssembler(assembler) => assembler.apply(&mut row),
                Bound::StandardScaler(scaler) => {
                    scaler.apply(&mut row);
                    Ok(())
                }
            };
            outcome.map_err(|invalid| self.fault(step, invalid))?;
        }
        features.extend_from_slice(&row.vectors[self.features.clone()]);
        Ok(())
    }

    #[cold]
    fn fault(&self, step: &Step, invalid: Invalid) -> RowFault {
        let stage = self.stages[step.stage].uid.clone();
        let Invalid { column, reason, handling } = invalid;
        match handling {
            HandleInvalid::Skip => RowFault::Dropped { stage, column, reason },
            _ => RowFault::Refused { stage, column, reason },
        }
    }
}

/// Working memory of one scoring thread.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    scalars: Vec<Option<f64>>,
    vectors: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::JsonDecoder;
    use crate::record::FlowRecords;

    fn stage(transform: Transform) -> Stage {
        Stage { uid: format!("{}_1", transform.name()), transform }
    }

    fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
        names.map(str::to_owned).to_vec()
    }

    fn indexer(handling: HandleInvalid) -> Stage {
        stage(Transform::StringIndexer(StringIndexer {
            input_columns: strings(["proto"]),
            output_columns: strings(["proto_index"]),
            labels: vec![strings(["tcp", "udp"])],
            handle_invalid: handling,
        }))
    }

    fn imputer() -> Stage {
        stage(Transform::Imputer(Imputer {
            input_columns: strings(["dur"]),
            output_columns: strings(["dur_imputed"]),
            surrogates: vec![7.0],
            missing_value: f64::NAN,
        }))
    }

    fn assembler(inputs: Vec<String>, handling: HandleInvalid) -> Stage {
        stage(Transform::VectorAssembler(VectorAssembler {
            input_columns: inputs,
            output_column: "features".into(),
            handle_invalid: handling,
        }))
    }

    fn features(stages: Vec<Stage>, message: &str) -> std::result::Result<Vec<f64>, RowFault> {
        let schema = Arc::new(Schema::unsw_nb15());
        let pipeline = Pipeline::new(stages, "features".into(), &schema).expect("binds");
        let mut records = FlowRecords::new(Arc::clone(&schema));
        JsonDecoder::new(schema, &[]).expect("decoder").decode(0, message.as_bytes(), &mut records).expect("decodes");
        let mut features = Vec::new();
        pipeline.features(records.get(0), &mut pipeline.scratch(), &mut features)?;
        Ok(features)
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
    fn a_scaler_multiplies_by_the_reciprocal() {
        let scaler = stage(Transform::StandardScaler(StandardScaler {
            input_column: "assembled".into(),
            output_column: "features".into(),
            std: Some(vec![3.0, 0.0]),
            mean: Some(vec![1.0, 1.0]),
        }));
        let mut assembler = assembler(strings(["dur", "sload"]), HandleInvalid::Keep);
        if let Transform::VectorAssembler(assembler) = &mut assembler.transform {
            assembler.output_column = "assembled".into();
        }
        let found = features(vec![assembler, scaler], r#"{"dur":6,"sload":5}"#).expect("scores");
        assert_eq!(found, [5.0 * (1.0 / 3.0), 0.0]);
    }

    #[test]
    fn what_a_schema_cannot_supply_is_listed() {
        let bind = |stages| Pipeline::new(stages, "features".into(), &Schema::unsw_nb15());
        let columns = strings(["dur", "Flow Duration", "nonsense"]);
        let message = bind(vec![assembler(columns, HandleInvalid::Keep)]).expect_err("refused").to_string();
        assert!(message.contains("2 columns that the model needs: Flow Duration, nonsense"), "{message}");
        let message = bind(vec![assembler(strings(["label"]), HandleInvalid::Keep)]).expect_err("leaks").to_string();
        assert!(message.contains("label or identifier `label`"), "{message}");
        let message = bind(vec![assembler(strings(["proto"]), HandleInvalid::Keep)]).expect_err("text").to_string();
        assert!(message.contains("`proto` is text"), "{message}");
        assert!(bind(vec![indexer(HandleInvalid::Keep)]).is_err(), "no vector");
    }
}
