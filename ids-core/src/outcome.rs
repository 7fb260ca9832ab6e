//! What is said of each row of a file, in its order: a verdict, or why there is none.

use serde::Serialize;

use crate::dead_letter::DeadLetter;
use crate::decode::Batch;
use crate::model::Model;
use crate::score::Scorer;
use crate::verdict::{Origin, Verdict};

/// A verdict, or why there is none.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome<'a> {
    /// The row was scored.
    Verdict(Verdict<'a>),
    /// It was not.
    DeadLetter(DeadLetter<'a>),
}

/// Scores the rows of a batch of the file `source` and hands each one's outcome to `each`, in the order of the file.
///
/// # Errors
/// The first of `each`.
///
/// # Panics
/// As [`Scorer::score`].
pub fn outcomes<E>(
    model: &Model,
    scorer: &mut Scorer,
    batch: Batch<'_>,
    source: &str,
    mut each: impl FnMut(Outcome<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let origin = |row: u64| Origin { topic: source, partition: 0, offset: row as i64, timestamp_ms: None };
    let scored = scorer.score(batch.records);
    // Two sorted lists of rows, merged.
    let mut bad = batch.bad.iter().peekable();
    for (index, &row) in batch.rows.iter().enumerate() {
        while let Some(error) = bad.next_if(|error| error.record < row) {
            each(Outcome::DeadLetter(DeadLetter::undecoded(origin(error.record), error, model.version())))?;
        }
        each(match scored.get(index) {
            Ok(score) => Outcome::Verdict(Verdict::new(model, origin(row), score)),
            Err(fault) => Outcome::DeadLetter(DeadLetter::unscored(origin(row), &fault, model.version())),
        })?;
    }
    for error in bad {
        each(Outcome::DeadLetter(DeadLetter::undecoded(origin(error.record), error, model.version())))?;
    }
    Ok(())
}
