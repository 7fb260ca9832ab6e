//! How programs are told which rows to train on and which to test.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use ids_core::{Holdout, Split};

/// A split of the rows of a file.
#[derive(Args)]
pub struct SplitArgs {
    /// Split the rows, so that no row on the test side equals one on the training side.
    #[arg(long, value_enum)]
    split: Option<SplitKind>,
    /// Share of the rows on the test side.
    #[arg(long, default_value_t = 0.3, requires = "split")]
    test_share: f64,
    /// Seed of the split by hash or group, and of all else that is drawn: the same seed gives the same figures.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The column with the time to split by; or a column to group by, which can be given more than once [default for
    /// groups: the addresses].
    #[arg(long, value_name = "COLUMN", requires = "split")]
    by: Vec<String>,
}

/// How rows are parted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SplitKind {
    /// By a hash of all features: equal rows fall on one side. It flatters a detector.
    Hash,
    /// The last rows are tested, as it is when a detector serves; `--by` names the column.
    Time,
    /// By a hash of addresses, or of the columns that `--by` names.
    Group,
}

impl SplitArgs {
    /// The split that was asked for; `None` where none was.
    pub fn holdout(&self) -> Result<Option<Holdout>> {
        let Some(kind) = self.split else { return Ok(None) };
        let split = match (kind, &self.by[..]) {
            (SplitKind::Hash, []) => Split::Hash,
            (SplitKind::Hash, _) => bail!("--split hash takes all features: --by goes with time and group"),
            (SplitKind::Time, [column]) => Split::Time { column: column.clone() },
            (SplitKind::Time, _) => bail!("--split time takes one column with the time: say --by COLUMN"),
            (SplitKind::Group, columns) => Split::Group { columns: columns.to_vec() },
        };
        Ok(Some(Holdout { split, test_share: self.test_share, seed: self.seed }))
    }
}
