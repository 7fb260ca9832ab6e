//! Files of flows: CSV or JSON lines, told apart by their first byte.

use std::fmt;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use super::{CsvColumns, CsvReader, JsonDecoder, RecordError, csv, json};
use crate::error::{Error, Result};
use crate::record::FlowRecords;
use crate::schema::Schema;

/// What reading the next record of a file met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A flow, appended to the batch.
    Flow,
    /// A record that is no flow.
    Bad(RecordError),
    /// The end of the file.
    End,
}

/// Rows of a CSV file that are no flows and no errors: copies of the header and rows of empty fields, as files have
/// them that were put together from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Rows that repeat the header.
    pub repeated_headers: u64,
    /// Rows of several fields that are all empty.
    pub empty_rows: u64,
}

impl Skipped {
    /// Whether any row was skipped.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repeated_headers, empty_rows } = self;
        write!(f, "{repeated_headers} copies of the header and {empty_rows} empty rows are skipped")
    }
}

/// Reads the flows of a file one after the other: JSON lines if it starts with `{`, else CSV.
#[derive(Debug)]
pub struct FlowReader<R>(Format<R>);

#[derive(Debug)]
enum Format<R> {
    Csv(Box<CsvReader<R>>),
    Json(Box<JsonLines<R>>),
}

#[derive(Debug)]
struct JsonLines<R> {
    input: R,
    path: PathBuf,
    decoder: JsonDecoder,
    line: Vec<u8>,
    n_lines: u64,
}

impl<R: BufRead> FlowReader<R> {
    /// Opens `input`, of which errors speak as `path`, for records that must hold the columns
    /// `inputs` (see [`Model::inputs`](crate::Model::inputs)), unless the schema derives them or marks
    /// them optional.
    ///
    /// # Errors
    /// As [`CsvReader::new`]: a CSV file is refused as a whole where it lacks a column.
    pub fn new(mut input: R, path: impl Into<PathBuf>, schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        let path = path.into();
        let first = input.fill_buf().map_err(|error| Error::io(&path, error))?;
        let text = first.strip_prefix(BOM).unwrap_or(first);
        Ok(Self(if is_json(text) {
            let n_bom = first.len() - text.len();
            input.consume(n_bom);
            let decoder = JsonDecoder::new(schema, inputs)?;
            Format::Json(Box::new(JsonLines { input, path, decoder, line: Vec::new(), n_lines: 0 }))
        } else {
            Format::Csv(Box::new(CsvReader::new(input, path, schema, inputs)?))
        }))
    }

    /// Reads the next record into `records`. Records are counted from 1.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read on.
    pub fn read(&mut self, records: &mut FlowRecords) -> Result<Read> {
        match &mut self.0 {
            Format::Csv(reader) => reader.read(records),
            Format::Json(lines) => lines.read(records),
        }
    }

    /// Positions in the schema of the columns that any record so far has given, or that follow from them.
    pub fn given(&self) -> Vec<usize> {
        match &self.0 {
            Format::Csv(reader) => reader.given(),
            Format::Json(lines) => lines.decoder.given(),
        }
    }
}

impl<R: BufRead> FlowReader<R> {
    /// The columns of the header or layout; `None` for JSON, where each record has its own.
    pub fn columns(&self) -> Option<&CsvColumns> {
        match &self.0 {
            Format::Csv(reader) => Some(reader.columns()),
            Format::Json(_) => None,
        }
    }

    /// What was skipped so far.
    pub fn skipped(&self) -> Skipped {
        match &self.0 {
            Format::Csv(reader) => reader.skipped(),
            Format::Json(_) => Skipped::default(),
        }
    }

    /// The line, from 1, on which the last record that was read begins.
    pub fn line(&self) -> u64 {
        match &self.0 {
            Format::Csv(reader) => reader.line(),
            Format::Json(lines) => lines.n_lines,
        }
    }

    /// How many values so far were not UTF-8 and were read in the encoding that the schema names.
    pub fn n_recoded(&self) -> u64 {
        match &self.0 {
            Format::Csv(reader) => reader.n_recoded(),
            Format::Json(_) => 0,
        }
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Whether a file that begins so, its byte order mark aside, holds JSON lines.
fn is_json(start: &[u8]) -> bool {
    start.trim_ascii_start().starts_with(b"{")
}

/// What the columns of a file are called whose first line that is not empty is `line`: the fields of a CSV header, or
/// the values of a first row without one; the keys of a JSON object. `None` where the line is neither.
pub fn columns_of(line: &[u8]) -> Option<Vec<String>> {
    let text = line.strip_prefix(BOM).unwrap_or(line);
    if is_json(text) { json::keys(std::str::from_utf8(text).ok()?) } else { csv::fields(text) }
}

impl<R: BufRead> JsonLines<R> {
    fn read(&mut self, records: &mut FlowRecords) -> Result<Read> {
        self.line.clear();
        let read = self.input.read_until(b'\n', &mut self.line).map_err(|error| Error::io(&self.path, error))?;
        if read == 0 {
            return Ok(Read::End);
        }
        self.n_lines += 1;
        Ok(match self.decoder.decode(self.n_lines, &self.line, records) {
            Ok(()) => Read::Flow,
            Err(error) => Read::Bad(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_the_format() {
        let schema = Arc::new(Schema::unsw_nb15());
        for text in ["{\"dur\":1}\n\n{\"dur\":2}", "\u{feff}{\"dur\":1}\n{\n{\"dur\":2}\n", "dur\n1\n2,3\n2\n"] {
            let mut records = FlowRecords::new(Arc::clone(&schema));
            let mut reader = FlowReader::new(text.as_bytes(), "flows", Arc::clone(&schema), &[]).expect("opens");
            let mut bad = Vec::new();
            loop {
                match reader.read(&mut records).expect("reads") {
                    Read::Flow => {}
                    Read::Bad(error) => bad.push(error.record),
                    Read::End => break,
                }
            }
            assert_eq!((records.len(), bad), (2, vec![2]), "{text}");
            assert_eq!(columns_of(text.lines().next().expect("a line").as_bytes()).expect("columns"), ["dur"]);
            assert_eq!(reader.given(), [schema.position("dur").expect("a column")], "{text}");
        }
    }
}
