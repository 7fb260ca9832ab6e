#![doc = include_str!("../README.md")]

pub mod alert;
pub mod budget;
pub mod data_card;
pub mod dead_letter;
pub mod decode;
pub mod error;
pub mod evaluate;
pub mod forest;
pub mod import;
pub mod lint;
pub mod model;
pub mod outcome;
pub mod pipeline;
pub mod record;
pub mod rows;
pub mod schema;
pub mod score;
pub mod split;
mod table;
#[cfg(feature = "train")]
pub mod train;
pub mod verdict;
pub mod verify;
pub mod whole_file;

pub use alert::{Alert, AlertPolicy, Alerting};
pub use data_card::{DataCard, describe};
pub use dead_letter::DeadLetter;
pub use decode::{CsvColumns, CsvDecoder, CsvReader, FlowReader, JsonDecoder, RecordError, RecordErrorKind};
pub use error::{Error, Result};
pub use evaluate::{ConfusionMatrix, Quality};
#[cfg(feature = "report")]
pub use evaluate::{Report, ReportOptions};
pub use forest::{Engine, Forest, ForestBuilder, NodeSpec, Scores, SplitRule, Task};
pub use import::spark::SparkModel;
pub use lint::{Lint, Linter};
pub use model::{Model, OutputColumns, Provenance, Training};
pub use outcome::Outcome;
pub use pipeline::{Pipeline, RowFault};
pub use record::{FlowRecord, FlowRecords};
pub use rows::{Fields, Rows};
pub use schema::Schema;
pub use score::{Predictor, Score, Scored, Scorer};
pub use split::{Holdout, Side, Split};
pub use verdict::{Origin, Verdict};
