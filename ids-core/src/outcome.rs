//! What is said of each row of a batch, in its order: a verdict, or why there is none.

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

/// Scores the rows of a batch, each read at its `origin`, and hands their outcomes to `each`, in order.
///
/// # Errors
/// The first of `each`.
///
/// # Panics
/// As [`Scorer::score`].
pub fn outcomes<'a, E>(
    model: &Model,
    scorer: &mut Scorer,
    batch: Batch<'_>,
    origin: impl Fn(u64) -> Origin<'a>,
    mut each: impl FnMut(Outcome<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
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
