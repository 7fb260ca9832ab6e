//! Golden rows: flows whose verdicts are known, against which a model is proved before it serves.
//!
//! The flows are a file, CSV or JSON lines; what is expected of them is a file of JSON lines, a line per flow in the
//! same order, as `ids score` writes it. Of a line only what says something of the flow is compared: `class`,
//! `prediction`, `attack`, `probability`, `probabilities` and, of a flow without verdict, `kind`, numbers by their
//! bits; so a line with nothing but a class holds for every model that knows it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ids_core::decode::{FlowReader, Read};
use ids_core::{DeadLetter, FlowRecords, Model, Origin, Verdict};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What of an expected line is compared.
const COMPARED: [&str; 6] = ["class", "prediction", "attack", "probability", "probabilities", "kind"];

/// Flows and what is expected of them; read anew at each check, for they may be replaced along with the model.
#[derive(Debug, Clone)]
pub struct GoldenRows {
    flows: PathBuf,
    verdicts: PathBuf,
}

impl GoldenRows {
    /// The flows in one file, their verdicts in the other.
    pub fn new(flows: impl Into<PathBuf>, verdicts: impl Into<PathBuf>) -> Self {
        Self { flows: flows.into(), verdicts: verdicts.into() }
    }

    /// Scores the flows with `model` and compares; how many there are.
    ///
    /// # Errors
    /// [`Error::Golden`] names the first row that comes out otherwise, or what is wrong with a file;
    /// [`Error::Core`] where the flows cannot be read.
    pub fn check(&self, model: &Model) -> Result<usize> {
        let schema = Arc::clone(model.schema());
        let mut flows = FlowReader::new(open(&self.flows)?, &self.flows, Arc::clone(&schema), model.inputs())?;
        let mut verdicts = open(&self.verdicts)?.lines();
        let (mut records, mut scorer) = (FlowRecords::new(schema), model.scorer());
        let mut row = 0;
        let source = self.flows.to_string_lossy();
        loop {
            records.clear();
            let read = flows.read(&mut records)?;
            let line = verdicts.next().transpose().map_err(|error| refused(&self.verdicts, row + 1, &error))?;
            let Some(line) = line else {
                return match read {
                    Read::End if row == 0 => Err(refused(&self.flows, 0, &"there are no golden rows in it")),
                    Read::End => Ok(row),
                    _ => Err(refused(&self.verdicts, row + 1, &"it is missing: there are more flows than verdicts")),
                };
            };
            row += 1;
            let origin = Origin { topic: &source, partition: 0, offset: row as i64, timestamp_ms: None };
            let said = match read {
                Read::End => return Err(refused(&self.verdicts, row, &"there is no flow for it")),
                Read::Bad(error) => serde_json::to_value(DeadLetter::undecoded(origin, &error, model.version())),
                Read::Flow => match scorer.score(&records).get(0) {
                    Ok(score) => serde_json::to_value(Verdict::new(model, origin, score)),
                    Err(fault) => serde_json::to_value(DeadLetter::unscored(origin, &fault, model.version())),
                },
            };
            let said = said.map_err(|error| refused(&self.flows, row, &error))?;
            let expected: Map<String, Value> =
                serde_json::from_str(&line).map_err(|error| refused(&self.verdicts, row, &error))?;
            compare(&expected, &said).map_err(|detail| {
                refused(&self.verdicts, row, &format!("model {} gives another verdict: {detail}", model.version()))
            })?;
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).map_err(|error| refused(path, 0, &error))
}

fn refused(path: &Path, row: usize, detail: &impl ToString) -> Error {
    Error::Golden { path: path.into(), row, detail: detail.to_string() }
}

/// # Errors
/// What is expected and what came instead.
fn compare(expected: &Map<String, Value>, said: &Value) -> std::result::Result<(), String> {
    let mut compared = COMPARED.into_iter().filter_map(|field| Some((field, expected.get(field)?))).peekable();
    if compared.peek().is_none() {
        return Err(format!("nothing is expected of it: the line has none of {}", COMPARED.join(", ")));
    }
    for (field, expected) in compared {
        // serde_json writes a double by the shortest digits that give it back, and reads those exactly.
        if said.get(field) != Some(expected) {
            let said = said.get(field).map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(format!("`{field}` should be {expected} and is {said}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_expected_is_compared() {
        let said = serde_json::json!({"class": "DoS", "probability": 0.1, "model": "b"});
        let check = |line: &str| compare(&serde_json::from_str(line).expect("JSON"), &said);
        assert_eq!(check(r#"{"class":"DoS","model":"a"}"#), Ok(()));
        assert_eq!(check(r#"{"probability":0.1}"#), Ok(()));
        let error = check(r#"{"class":"DoS","probability":0.10000000000000002}"#).expect_err("another bit");
        assert_eq!(error, "`probability` should be 0.10000000000000002 and is 0.1");
        assert!(check(r#"{"kind":"empty"}"#).expect_err("it has a verdict").contains("is nothing"));
        assert!(check(r#"{"model":"b"}"#).expect_err("nothing to compare").contains("nothing is expected"));
    }
}
