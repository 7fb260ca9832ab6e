//! All that is said of a model on labelled rows, in one value.

use serde::Serialize;

use super::alarms::Alarms;
use super::bootstrap::{Bootstrap, Intervals};
use super::calibration::Calibration;
use super::cases::{Cases, RowCounts, UnknownClass};
use super::comparison::Comparison;
use super::confusion::Quality;
use crate::alert::AlertPolicy;

/// What a report is to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReportOptions {
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// Bins of the reliability curves.
    pub bins: usize,
    /// Share of flows that are attacks, where the detector is to serve.
    pub base_rate: Option<f64>,
    /// Flows a day, where the detector is to serve.
    pub flows_per_day: Option<f64>,
}

impl Default for ReportOptions {
    /// 2,000 replicates of seed 0, 15 bins.
    fn default() -> Self {
        let bootstrap = Bootstrap { replicates: 2_000, seed: 0 };
        Self { bootstrap, bins: 15, base_rate: None, flows_per_day: None }
    }
}

/// How good a model is on labelled rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of the model.
    pub model: String,
    /// Its own thresholds for alerts.
    pub alerts: AlertPolicy,
    /// The file, as its caller names it.
    pub source: String,
    /// What became of its rows.
    pub input: RowCounts,
    /// Why a model may have learnt some of the rows, in words.
    pub cautions: Vec<String>,
    /// Classes that occur and are not the model's.
    pub unknown_classes: Vec<UnknownClass>,
    /// The figures: `rows`, `accuracy`, `classes` and the others stand beside the rest.
    #[serde(flatten)]
    pub quality: Quality,
    /// How intervals are made: the percentile bootstrap of rows.
    pub bootstrap: Bootstrap,
    /// 95 % intervals of the figures.
    pub intervals: Intervals,
    /// Whether probabilities can be believed.
    pub calibration: Calibration,
    /// Alarms, and what is to be expected of them.
    pub alarms: Alarms,
    /// The other model, if there is one.
    pub comparison: Option<Comparison>,
}

impl Report {
    /// The report on `cases`, which are of `source`.
    pub fn new(cases: &Cases, source: &str, options: &ReportOptions) -> Self {
        let matrix = cases.confusion();
        let bootstrap = options.bootstrap;
        Self {
            model: cases.model.version().to_owned(),
            alerts: cases.model.alerts().clone(),
            source: source.to_owned(),
            input: cases.rows.clone(),
            cautions: cases.cautions.clone(),
            unknown_classes: cases.unknown.clone(),
            quality: matrix.quality(),
            bootstrap,
            intervals: bootstrap.intervals(&matrix),
            calibration: Calibration::of(cases, options.bins.max(1)),
            alarms: Alarms::of(cases, bootstrap, options.base_rate, options.flows_per_day),
            comparison: Comparison::of(cases, bootstrap),
        }
    }
}
