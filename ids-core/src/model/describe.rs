//! Models in words: what `ids inspect` prints.

use std::fmt;

use super::Model;
use crate::forest::{Forest, Task};
use crate::import::spark::SparkModel;

impl fmt::Display for Model {
    /// Version, origin, forest, stages, schema, classes and inputs, a line or more each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let super::Provenance { spark_version, stages, sha256, training } = &self.provenance;
        let origin = match (spark_version, training) {
            (Some(version), _) => Origin::Spark(version),
            (None, training) => Origin::Training(training.as_ref()),
        };
        saved(f, origin, sha256, Some(self.forest()), stages)?;
        writeln!(f, "schema      {}", self.schema.name())?;
        writeln!(f, "classes")?;
        for (position, class) in self.classes.iter().enumerate() {
            let benign = if position == self.benign { "  (benign)" } else { "" };
            let threshold = self.forest().thresholds().map(|t| format!("  threshold {}", t[position]));
            let alert = match self.alerts.by_class.get(class).copied().unwrap_or(self.alerts.threshold) {
                least if least > 0.0 && position != self.benign => format!("  alert from {least}"),
                _ => String::new(),
            };
            writeln!(f, "  {position:2}  {class}{}{benign}{alert}", threshold.unwrap_or_default())?;
        }
        write!(f, "inputs      {}", self.inputs().join(", "))
    }
}

impl fmt::Display for SparkModel {
    /// Version, origin, forest if there is one, and stages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forest = self.forest.as_ref().map(|saved| &saved.forest);
        saved(f, Origin::Spark(&self.spark_version), &self.sha256, forest, &self.stage_classes)
    }
}

/// Who made a model.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// Spark, of this version.
    Spark(&'a str),
    /// Us; how, where the file says so.
    Training(Option<&'a super::Training>),
}

/// What is known of everything that was saved; each line is ended.
fn saved(
    f: &mut fmt::Formatter<'_>,
    origin: Origin<'_>,
    sha256: &str,
    forest: Option<&Forest>,
    stages: &[(String, String)],
) -> fmt::Result {
    writeln!(f, "version     {}", sha256.get(..12).unwrap_or(sha256))?;
    match origin {
        Origin::Spark(version) => writeln!(f, "saved by    Spark {version}")?,
        Origin::Training(None) => writeln!(f, "trained     without Spark")?,
        Origin::Training(Some(training)) => {
            writeln!(f, "trained     by {}, without Spark, on {} rows", training.program, training.rows)?;
            for (name, value) in &training.settings {
                writeln!(f, "            {name} {value}")?;
            }
            if let Some(holdout) = &training.holdout {
                writeln!(f, "            held out rows by {holdout}")?;
            }
        }
    }
    let bits = if matches!(origin, Origin::Spark(_)) { ", Spark's bits" } else { "" };
    writeln!(f, "SHA-256     {sha256}")?;
    if let Some(forest) = forest {
        let (trees, nodes, depth) = (forest.n_trees(), forest.n_nodes(), forest.depth());
        writeln!(f, "forest      {trees} trees, {nodes} nodes, depth {depth}, {} features", forest.n_features())?;
        write!(f, "predicts    ")?;
        match forest.task() {
            Task::Classification { n_classes, .. } => writeln!(f, "one of {n_classes} classes{bits}")?,
            Task::Regression => writeln!(f, "a number{bits}")?,
            Task::BoostedClassification(boosting) | Task::BoostedRegression(boosting) => {
                writeln!(f, "boosted, summed as `{:?}`: docs/compatibility.md", boosting.sum)?;
            }
        }
    }
    writeln!(f, "stages")?;
    for (uid, class) in stages {
        writeln!(f, "  {}  {uid}", class.rsplit('.').next().unwrap_or(class))?;
    }
    Ok(())
}
