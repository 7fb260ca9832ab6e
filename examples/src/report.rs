//! What a demo run prints and writes at its end.

use std::collections::BTreeMap;
use std::fmt;

use ids_core::Quality;
use serde::Serialize;

use crate::observer::Summary;

/// The figures of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of the model.
    pub model: String,
    /// File of the flows.
    pub flows: String,
    /// Whether they are the project's own synthetic ones.
    pub flows_are_synthetic: bool,
    /// How long the replay ran.
    pub seconds: f64,
    /// Records that Kafka acknowledged.
    pub rows_produced: u64,
    /// Of these, with a verdict.
    pub rows_scored: u64,
    /// Of these, in the dead-letter topic.
    pub rows_dead_lettered: u64,
    /// Of these, made malformed on purpose.
    pub rows_malformed: u64,
    /// Of these, with neither: matched by partition and offset.
    pub rows_lost: u64,
    /// Verdicts or dead letters beyond the first of a record.
    pub rows_duplicated: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Dead letters by kind of fault.
    pub dead_letters: BTreeMap<String, u64>,
    /// Rows scored per second of the run.
    pub rows_per_second: f64,
    /// From the time a flow was due to the arrival of its verdict.
    pub latency_ms: Latency,
    /// Predictions against the labels that travelled along.
    pub quality: Quality,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Report {
    /// The report of a run of `seconds` that ended with `summary`.
    pub fn new(summary: Summary, model: &str, flows: &str, flows_are_synthetic: bool, seconds: f64) -> Self {
        Self {
            model: model.into(),
            flows: flows.into(),
            flows_are_synthetic,
            seconds,
            rows_produced: summary.produced,
            rows_scored: summary.scored,
            rows_dead_lettered: summary.dead_lettered,
            rows_malformed: summary.malformed,
            rows_lost: summary.outstanding,
            rows_duplicated: summary.duplicates,
            alerts: summary.alerts,
            dead_letters: summary.dead_letters,
            rows_per_second: summary.scored as f64 / seconds,
            latency_ms: Latency { p50: summary.latency_p50_ms, p99: summary.latency_p99_ms },
            quality: summary.quality,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rows produced      {:10}", self.rows_produced)?;
        writeln!(f, "rows scored        {:10}", self.rows_scored)?;
        write!(f, "rows dead-lettered {:10}", self.rows_dead_lettered)?;
        if self.rows_malformed > 0 {
            write!(f, "   of {} made malformed on purpose", self.rows_malformed)?;
        }
        for (kind, n) in &self.dead_letters {
            write!(f, "\n                   {n:10}   {kind}")?;
        }
        writeln!(f, "\nrows lost          {:10}   matched by partition and offset", self.rows_lost)?;
        writeln!(f, "rows duplicated    {:10}", self.rows_duplicated)?;
        writeln!(f, "alerts raised      {:10}", self.alerts)?;
        writeln!(f, "rows per second    {:10.0}", self.rows_per_second)?;
        let Latency { p50, p99 } = self.latency_ms;
        writeln!(f, "latency            {p50:10.1} ms median, {p99:.1} ms for 99 %, from due to verdict read back")?;
        writeln!(f)?;
        let flows = if self.flows_are_synthetic { "these SYNTHETIC flows (testdata/README.md)" } else { "these flows" };
        writeln!(f, "The model's verdicts against the labels of {flows}:\n")?;
        write!(f, "{}", self.quality)
    }
}
