//! What a user loads: schema + pipeline + forest + class names + provenance, checked to fit together.
//!
//! A [`Model`] comes from the directory that Spark saved or from a model file of our own; both give
//! the same scores and the same version. The file's format is in [`file`](self), its documentation in
//! `docs/model-file.md`.

mod describe;
mod file;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
#[cfg(feature = "train")]
use sha2::{Digest, Sha256};

use crate::alert::{AlertPolicy, Alerting};
use crate::error::{Error, Result};
use crate::forest::{Engine, Forest};
use crate::import::spark::{self, ForestColumns, SparkModel};
use crate::pipeline::{Pipeline, Stage, feature_names};
use crate::schema::Schema;
use crate::score::{Predictor, Scorer};
use crate::split::Holdout;

/// A model ready to score.
#[derive(Debug, Clone)]
pub struct Model {
    schema: Arc<Schema>,
    predictor: Arc<Predictor>,
    classes: Arc<[String]>,
    labels: Arc<[String]>,
    benign: usize,
    columns: OutputColumns,
    provenance: Provenance,
    alerts: AlertPolicy,
}

/// Names of the columns that Spark's own `transform` gives a scored table; `None` for one that it leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputColumns {
    /// Summed votes.
    pub raw_prediction: Option<String>,
    /// Probabilities.
    pub probability: Option<String>,
    /// Position of the predicted class.
    pub prediction: Option<String>,
    /// Name of the predicted class, where the pipeline ends with an IndexToString.
    pub label: Option<String>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the Spark that saved it; `None` where it was trained without Spark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spark_version: Option<String>,
    /// Uid and class of every stage of the saved pipeline, in order.
    pub stages: Vec<(String, String)>,
    /// In hexadecimal, SHA-256 of the files that Spark saved; of a model trained without Spark, of its content.
    pub sha256: String,
    /// How it was trained, where that was done here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// How a forest was trained without Spark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Name and version of what trained it.
    pub program: String,
    /// Rows that it learnt from.
    pub rows: u64,
    /// The settings by name, the seed among them, as they are written on a command line.
    pub settings: Vec<(String, String)>,
    /// The split that held out other rows of the file, if one was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdout: Option<Holdout>,
}

impl Model {
    /// Loads a directory that Spark saved, of the built-in schema that has its columns, or a model file.
    ///
    /// # Errors
    /// Any of [`Error`]: the message names the file, stage or column at fault.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            return file::read(path);
        }
        Self::from_spark(spark::read(path)?, None)
    }

    /// Loads a directory that Spark saved, whose columns are those of `schema`.
    ///
    /// # Errors
    /// As [`Model::load`]; also where `path` is a model file, which has its own schema.
    pub fn load_spark(path: impl AsRef<Path>, schema: Schema) -> Result<Self> {
        Self::from_spark(spark::read(path.as_ref())?, Some(schema))
    }

    /// The model of what Spark saved, whose columns are those of `schema`. A directory does not say which that
    /// is: without one, the built-in schema that supplies them all is taken.
    ///
    /// # Errors
    /// Where it cannot score flows: it has no forest, classes without names, or columns that the schema lacks.
    pub fn from_spark(saved: SparkModel, schema: Option<Schema>) -> Result<Self> {
        if let Some(schema) = schema {
            return Self::bind(saved, schema);
        }
        let Some(features) = saved.forest.as_ref().map(|saved| saved.columns.features.clone()) else {
            return Self::bind(saved, Schema::unsw_nb15());
        };
        let (mut fitting, mut refusals) = (Vec::new(), Vec::new());
        for schema in Schema::built_in() {
            match Pipeline::with_features(saved.stages.clone(), &features, schema.fields()) {
                Ok(_) => fitting.push(schema),
                Err(error) => refusals.push((error, schema)),
            }
        }
        if fitting.len() > 1 {
            let names: Vec<_> = fitting.iter().map(|schema| format!("`{}`", schema.name())).collect();
            let detail = format!(
                "schemas {} all have its columns and mean other things by them: say which it was trained on",
                names.join(", ")
            );
            return Err(Error::Model { detail });
        }
        match fitting.pop() {
            Some(schema) => Self::bind(saved, schema),
            None => {
                // Where columns are not what lacks, something is wrong with its stages, whatever the schema.
                let nearest = refusals.into_iter().min_by_key(|(error, _)| n_missing(error).unwrap_or(usize::MAX));
                Err(match nearest.expect("there are built-in schemas") {
                    (Error::MissingColumns { columns, .. }, schema) => Error::MissingColumns {
                        source_name: format!(
                            "no built-in schema has its columns (a schema of other data is to be named); the nearest, schema `{}`,",
                            schema.name()
                        ),
                        columns,
                    },
                    (error, _) => error,
                })
            }
        }
    }

    fn bind(saved: SparkModel, schema: Schema) -> Result<Self> {
        let wrong = |detail: &str| Err(Error::Model { detail: detail.into() });
        let SparkModel { stages, forest, classes, predicted_label, spark_version, stage_classes, sha256 } = saved;
        let Some(forest) = forest else { return wrong("what Spark saved there has no forest") };
        if forest.forest.n_classes() == 0 {
            return wrong("it predicts a number, not a class: no verdict can be made of that");
        }
        let Some(classes) = classes else {
            let label = forest.columns.label.as_deref().unwrap_or("the label");
            return wrong(&format!(
                "its classes have no names: the pipeline has neither an IndexToString of the prediction nor a StringIndexer that makes `{label}`"
            ));
        };
        let provenance =
            Provenance { spark_version: Some(spark_version), stages: stage_classes, sha256, training: None };
        let ForestColumns { features, raw_prediction, probability, prediction, .. } = forest.columns;
        let label = predicted_label.map(|predicted| predicted.column);
        let columns = OutputColumns { raw_prediction, probability, prediction, label };
        Self::new(schema, stages, &features, &forest.forest, classes, columns, provenance)
    }

    /// The model of a forest that was trained here; its version is that of its content.
    #[cfg(feature = "train")]
    pub(crate) fn trained(
        schema: Schema,
        stages: Vec<Stage>,
        features_column: &str,
        forest: &Forest,
        classes: Vec<String>,
        training: Training,
    ) -> Result<Self> {
        let name = |stage: &Stage| (stage.uid.clone(), stage.transform.name().to_owned());
        let mut stage_names: Vec<_> = stages.iter().map(name).collect();
        stage_names.push(("forest".into(), "RandomForest".into()));
        // As Spark's pipelines call them.
        let columns = OutputColumns {
            raw_prediction: Some("rawPrediction".into()),
            probability: Some("probability".into()),
            prediction: Some("prediction".into()),
            label: None,
        };
        let provenance =
            Provenance { spark_version: None, stages: stage_names, sha256: String::new(), training: Some(training) };
        let mut model = Self::new(schema, stages, features_column, forest, classes, columns, provenance)?;
        model.provenance.sha256 = hexadecimal(&Sha256::digest(file::content(&model)?));
        Ok(model)
    }

    fn new(
        schema: Schema,
        stages: Vec<Stage>,
        features_column: &str,
        forest: &Forest,
        classes: Vec<String>,
        columns: OutputColumns,
        provenance: Provenance,
    ) -> Result<Self> {
        let predictor = Predictor::bind(stages, features_column, Engine::new(forest), schema.fields())?;
        let wrong = |detail: String| Err(Error::Model { detail });
        if classes.len() != forest.n_classes() {
            return wrong(format!("{} class names for {} classes", classes.len(), forest.n_classes()));
        }
        if let Some(twice) =
            classes.iter().enumerate().find_map(|(i, class)| classes[..i].contains(class).then_some(class))
        {
            return wrong(format!("the class `{twice}` is there twice"));
        }
        let Some(labels) = schema.labels() else {
            return wrong(format!("schema `{}` does not say which class is benign", schema.name()));
        };
        let names: Vec<String> = classes.iter().map(|class| labels.class(class).unwrap_or(class).to_owned()).collect();
        // A label of a flow would be of both, and what is right could not be told.
        if let Some((first, second)) =
            (1..names.len()).find_map(|i| Some((names[..i].iter().position(|name| *name == names[i])?, i)))
        {
            return wrong(format!(
                "its classes `{}` and `{}` are one in schema `{}`, `{}`: train it on labels that are spelt one way, or take a copy of the schema without that alias",
                classes[first],
                classes[second],
                schema.name(),
                names[first]
            ));
        }
        // As the schema spells it, or as the flows did that the model was trained on.
        let exact = classes.iter().position(|class| *class == labels.benign);
        let alias = || classes.iter().position(|class| labels.class(class) == Some(&labels.benign));
        let Some(benign) = exact.or_else(alias) else {
            return wrong(format!(
                "none of its classes ({}) is the benign one of schema `{}`, `{}`",
                classes.join(", "),
                schema.name(),
                labels.benign
            ));
        };
        Ok(Self {
            predictor: Arc::new(predictor),
            labels: names.into(),
            classes: classes.into(),
            benign,
            columns,
            provenance,
            alerts: AlertPolicy::default(),
            schema: Arc::new(schema),
        })
    }

    /// Writes the model file: versioned, checksummed, one file (see `docs/model-file.md`).
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written. A file that was there stays until the new one is complete.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(self, path.as_ref())
    }

    /// The bytes of the model file, to be kept or sent elsewhere than in a file.
    ///
    /// # Errors
    /// [`Error::Model`] where it cannot be written down.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        file::to_bytes(self)
    }

    /// The model of the bytes of a model file.
    ///
    /// # Errors
    /// [`Error::ModelFile`] where they are damaged, truncated or no model.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        file::from_bytes(bytes, Path::new("the model's bytes"))
    }

    /// The data set whose records the model takes.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Its stages and forest.
    pub fn predictor(&self) -> &Arc<Predictor> {
        &self.predictor
    }

    /// A scorer of its own, for one thread.
    pub fn scorer(&self) -> Scorer {
        Scorer::new(Arc::clone(&self.predictor))
    }

    /// Names of the schema's columns that a record must have.
    pub fn inputs(&self) -> &[String] {
        self.predictor.inputs()
    }

    /// Names of the entries of the vector that the forest takes, `[n_features]`: of a number its column, of an entry
    /// of a vector its column and position.
    pub fn features(&self) -> Vec<String> {
        let predictor = &self.predictor;
        feature_names(predictor.pipeline().stages(), predictor.features_column(), self.forest().n_features())
    }

    /// The forest.
    pub fn forest(&self) -> &Forest {
        self.predictor.engine().forest()
    }

    /// Class names in the forest's order.
    pub fn classes(&self) -> &Arc<[String]> {
        &self.classes
    }

    /// The same classes as the schema spells them: what [labels](crate::FlowRecord::label) of flows are compared with.
    pub fn labels(&self) -> &Arc<[String]> {
        &self.labels
    }

    /// Position of the class that is no attack.
    pub fn benign(&self) -> usize {
        self.benign
    }

    /// The same model with thresholds of its own for alerts. Predictions, scores and version stay what they are.
    ///
    /// # Errors
    /// As [`AlertPolicy::bind`].
    pub fn with_alerts(self, alerts: AlertPolicy) -> Result<Self> {
        alerts.bind(&self)?;
        Ok(Self { alerts, ..self })
    }

    /// The model's own thresholds for alerts.
    pub fn alerts(&self) -> &AlertPolicy {
        &self.alerts
    }

    /// What raises alerts: `policy`, or without one the model's own thresholds.
    ///
    /// # Errors
    /// As [`AlertPolicy::bind`].
    pub fn alerting(&self, policy: Option<&AlertPolicy>) -> Result<Alerting> {
        policy.unwrap_or(&self.alerts).bind(self)
    }

    /// Names of the columns that Spark's own `transform` would write.
    pub fn output_columns(&self) -> &OutputColumns {
        &self.columns
    }

    /// Where the model comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The version that verdicts carry: the first 12 digits of the SHA-256 of what Spark saved, or was trained.
    pub fn version(&self) -> &str {
        self.provenance.sha256.get(..12).unwrap_or(&self.provenance.sha256)
    }
}

/// How many columns the error says are missing, if it says that.
fn n_missing(error: &Error) -> Option<usize> {
    match error {
        Error::MissingColumns { columns, .. } => Some(columns.len()),
        _ => None,
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
