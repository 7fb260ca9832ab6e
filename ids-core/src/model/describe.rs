//! Models in words: what `ids inspect` prints.

use std::fmt;

use super::Model;
use crate::forest::{Forest, Task};
use crate::import::spark::SparkModel;

impl fmt::Display for Model {
    /// Version, origin, forest, stages, schema, classes and inputs, a line or more each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let super::Provenance { spark_version, stages, sha256 } = &self.provenance;
        saved(f, spark_version, sha256, Some(self.forest()), stages)?;
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
        saved(f, &self.spark_version, &self.sha256, forest, &self.stage_classes)
    }
}

/// What is known of everything that Spark saved; each line is ended.
fn saved(
    f: &mut fmt::Formatter<'_>,
    spark_version: &str,
    sha256: &str,
    forest: Option<&Forest>,
    stages: &[(String, String)],
) -> fmt::Result {
    writeln!(f, "version     {}", sha256.get(..12).unwrap_or(sha256))?;
    writeln!(f, "saved by    Spark {spark_version}")?;
    writeln!(f, "SHA-256     {sha256}")?;
    if let Some(forest) = forest {
        let (trees, nodes, depth) = (forest.n_trees(), forest.n_nodes(), forest.depth());
        writeln!(f, "forest      {trees} trees, {nodes} nodes, depth {depth}, {} features", forest.n_features())?;
        write!(f, "predicts    ")?;
        match forest.task() {
            Task::Classification { n_classes, .. } => writeln!(f, "one of {n_classes} classes, Spark's bits")?,
            Task::Regression => writeln!(f, "a number, Spark's bits")?,
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
