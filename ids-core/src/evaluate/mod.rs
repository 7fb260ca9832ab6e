//! How good a model is on labelled flows, as values that print and serialise.
//!
//! A [`ConfusionMatrix`] counts predictions against labels, and its [`Quality`] is the plain figures. [`Cases`] gathers
//! what a model, or two, say of the rows of a file; with the feature `report` a [`Report`] is made of them: intervals,
//! calibration, alarms at a base rate, comparison.

#[cfg(feature = "report")]
mod alarms;
#[cfg(feature = "report")]
mod bootstrap;
#[cfg(feature = "report")]
mod calibration;
mod cases;
#[cfg(feature = "report")]
mod comparison;
mod confusion;
mod interval;
#[cfg(feature = "report")]
mod report;
#[cfg(feature = "report")]
mod text;

#[cfg(feature = "report")]
pub use alarms::{Alarms, AtBaseRate, AtThreshold};
#[cfg(feature = "report")]
pub use bootstrap::{Bootstrap, ClassIntervals, Intervals};
#[cfg(feature = "report")]
pub use calibration::{Bin, Calibration, Reliability};
pub use cases::{Case, Cases, Gathering, RowCounts, Said, SplitRows, UnknownClass};
#[cfg(feature = "report")]
pub use comparison::{Comparison, Difference, McNemar};
pub use confusion::{ClassQuality, ConfusionMatrix, Quality};
pub use interval::{Estimate, Interval, LEVEL};
#[cfg(feature = "report")]
pub use report::{Report, ReportOptions};
