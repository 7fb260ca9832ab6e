//! CSV (RFC 4180): files with a header, files without one whose layout the schema knows, and single
//! rows in messages.
//!
//! A row that is there whole and has no quotes, as nearly all are, is cut at its commas; splitting all others is csv-core's
//! work. Which column a field belongs to is told by [`CsvColumns`]; what it means is decided here. An empty field is a
//! missing value. `NaN`, `Infinity` and `-Infinity` are those doubles (also `nan`, `inf`: spellings of CICFlowMeter and
//! pandas). Rows that repeat the header and rows of empty fields alone are no flows and no errors: files that were put
//! together from others have them. They are skipped and counted.

use std::borrow::Cow;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use super::plain_number::plain_number;
use super::{CsvColumns, Fault, Place, Read, RecordError, RecordErrorKind, RowRules, Skipped, excerpt};
use crate::error::{Error, Result};
use crate::record::FlowRecords;
use crate::rows::{NewRow, Slot};
use crate::schema::Schema;

/// Decodes CSV rows, one per message, into a batch.
#[derive(Debug, Clone)]
pub struct CsvDecoder {
    splitter: Splitter,
    rows: RowDecoder,
}

impl CsvDecoder {
    /// A decoder of rows with `columns` that must hold the columns `inputs` (see
    /// [`Model::inputs`](crate::Model::inputs)), unless the schema derives them or marks them optional.
    ///
    /// # Errors
    /// [`Error::MissingColumns`] lists inputs that `columns` or the schema lack.
    pub fn new(schema: Arc<Schema>, inputs: &[String], columns: CsvColumns) -> Result<Self> {
        Ok(Self { splitter: Splitter::default(), rows: RowDecoder::new(schema, inputs, columns)? })
    }

    /// Appends the flow in `message` to `records`, or says what is wrong with it and leaves
    /// `records` as it was. `record` is the number by which an error names the message.
    pub fn decode(
        &mut self,
        record: u64,
        message: &[u8],
        records: &mut FlowRecords,
    ) -> std::result::Result<(), RecordError> {
        let mut rest = message;
        let Ok(found) = self.splitter.next_record(&mut rest, true) else {
            let kind = RecordErrorKind::Unexpected { expected: "the end of the row", found: excerpt(message) };
            return Err(self.rows.rules.error(record, Fault::at(LONGEST_ROW, kind)));
        };
        if !found {
            return Err(self.rows.rules.error(record, Fault::whole(RecordErrorKind::Empty)));
        }
        if let Some(second) = rest.iter().position(|byte| !byte.is_ascii_whitespace()) {
            let kind =
                RecordErrorKind::Unexpected { expected: "the end of the record", found: excerpt(&rest[second..]) };
            return Err(self.rows.rules.error(record, Fault::at(message.len() - rest.len() + second, kind)));
        }
        // csv-core takes the end of the input for the end of a quoted field.
        if message.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
            let kind = RecordErrorKind::Truncated { expected: "a closing quote" };
            return Err(self.rows.rules.error(record, Fault::at(message.len(), kind)));
        }
        self.rows.decode(record, &self.splitter.fields, records)
    }
}

/// Reads the flows of a CSV file one after the other.
#[derive(Debug)]
pub struct CsvReader<R> {
    input: R,
    path: PathBuf,
    splitter: Splitter,
    rows: RowDecoder,
    /// The header as it is repeated within some files, if there is one.
    header: Option<Fields>,
    skipped: Skipped,
    /// Rows read so far; the header, and what was skipped, not counted.
    n_rows: u64,
    /// Whether the splitter holds a row that has not been given out: the first of a file without a header.
    pending: bool,
}

impl<R: BufRead> CsvReader<R> {
    /// Opens `input`, of which errors speak as `path`, and reads its header (or finds its layout).
    ///
    /// # Errors
    /// [`Error::Header`] where the columns cannot be made out, [`Error::MissingColumns`] where the
    /// file lacks `inputs`, [`Error::Io`].
    pub fn new(mut input: R, path: impl Into<PathBuf>, schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        let path = path.into();
        let mut splitter = Splitter::default();
        if !splitter.next_record(&mut input, false).map_err(|error| Error::io(&path, error))? {
            return Err(Error::Header { detail: format!("{} is empty", path.display()) });
        }
        let first: Vec<_> = splitter.fields.iter().map(|field| String::from_utf8_lossy(field.bytes)).collect();
        let (columns, is_header) = CsvColumns::detect(&schema, &first)?;
        let rows = RowDecoder::new(schema, inputs, columns)?;
        let header = is_header.then(|| splitter.fields.clone());
        Ok(Self { input, path, splitter, rows, header, skipped: Skipped::default(), n_rows: 0, pending: !is_header })
    }

    /// Reads the next row into `records`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read on.
    pub fn read(&mut self, records: &mut FlowRecords) -> Result<Read> {
        loop {
            if !std::mem::take(&mut self.pending) {
                let found = self.splitter.next_record(&mut self.input, false);
                if !found.map_err(|error| Error::io(&self.path, error))? {
                    return Ok(Read::End);
                }
            }
            let fields = &self.splitter.fields;
            if fields.are_empty() {
                self.skipped.empty_rows += 1;
            } else if self.header.as_ref().is_some_and(|header| fields.are(header)) {
                self.skipped.repeated_headers += 1;
            } else {
                break;
            }
        }
        self.n_rows += 1;
        Ok(match self.rows.decode(self.n_rows, &self.splitter.fields, records) {
            Ok(()) => Read::Flow,
            Err(error) => Read::Bad(error),
        })
    }

    /// Positions in the schema of the columns that the file has, or that follow from them.
    pub fn given(&self) -> Vec<usize> {
        self.rows.rules.given()
    }

    /// What of the header or layout the file's columns are.
    pub fn columns(&self) -> &CsvColumns {
        &self.rows.columns
    }

    /// What was skipped so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The line, from 1, on which the last row that was read begins.
    pub fn line(&self) -> u64 {
        self.splitter.line
    }

    /// How many values so far were not UTF-8 and were read in the encoding that the schema names.
    pub fn n_recoded(&self) -> u64 {
        self.rows.n_recoded
    }
}

/// Turns the fields of a row into a flow.
#[derive(Debug, Clone)]
struct RowDecoder {
    rules: RowRules,
    columns: CsvColumns,
    /// Per field of a row.
    places: Vec<Option<Place>>,
    n_recoded: u64,
}

impl RowDecoder {
    fn new(schema: Arc<Schema>, inputs: &[String], columns: CsvColumns) -> Result<Self> {
        let mut rules = RowRules::new(schema, inputs)?;
        // Every row has the same columns, so what is absent is absent from all: said once, before the first.
        rules.see_all(columns.positions().iter().flatten().copied(), columns.source())?;
        rules.given.clone_from(&rules.seen);
        let places = columns.positions().iter().map(|position| position.map(|position| rules.place(position)));
        Ok(Self { places: places.collect(), rules, columns, n_recoded: 0 })
    }

    fn decode(
        &mut self,
        record: u64,
        fields: &Fields,
        records: &mut FlowRecords,
    ) -> std::result::Result<(), RecordError> {
        let mut row = self.rules.new_row(records);
        match self.fill(fields, &mut row) {
            Ok(()) => {
                row.keep();
                Ok(())
            }
            Err(fault) => Err(self.rules.error(record, fault)),
        }
    }

    fn fill(&mut self, fields: &Fields, row: &mut NewRow<'_>) -> std::result::Result<(), Fault> {
        let (expected, found) = (self.places.len(), fields.spans.len());
        if found < expected {
            return Err(Fault::whole(RecordErrorKind::RowTooShort { expected, found }));
        }
        if found > expected {
            return Err(Fault::at(fields.spans[expected].offset, RecordErrorKind::RowTooLong { expected }));
        }
        for (place, field) in self.places.iter().zip(fields.iter()) {
            let Some(place) = *place else { continue };
            if let Slot::Number(slot) = place.slot
                && let Some(number) = field.plain_number()
                && place.takes(number)
            {
                row.set_number(slot, number);
                continue;
            }
            let found = text(&self.rules, field.bytes, &mut self.n_recoded).and_then(|text| value(place, &text, row));
            found.map_err(|kind| Fault::at(field.offset, kind).in_column(place.position))?;
        }
        self.rules.finish(row)
    }
}

/// The text of a field. `n_recoded` counts those that are not UTF-8.
fn text<'a>(
    rules: &RowRules,
    field: &'a [u8],
    n_recoded: &mut u64,
) -> std::result::Result<Cow<'a, str>, RecordErrorKind> {
    if let Ok(text) = std::str::from_utf8(field) {
        return Ok(Cow::Borrowed(text));
    }
    let text = recoded(rules, field)?;
    *n_recoded += 1;
    Ok(Cow::Owned(text))
}

/// The text of a field that is not UTF-8.
#[cold]
fn recoded(rules: &RowRules, field: &[u8]) -> std::result::Result<String, RecordErrorKind> {
    let encoding = rules.schema.encoding().ok_or(RecordErrorKind::InvalidUtf8)?;
    Ok(encoding.decode(field))
}

fn value(place: Place, text: &str, row: &mut NewRow<'_>) -> std::result::Result<(), RecordErrorKind> {
    match place.slot {
        Slot::Number(slot) => {
            let text = text.trim_ascii();
            if !text.is_empty() {
                let value = number(text)?;
                if !place.takes(value) {
                    return Err(RowRules::no_integer(text));
                }
                row.set_number(slot, value);
            }
        }
        // An empty class may stand for one; that is for the schema to say.
        Slot::Text(_) if text.is_empty() && !place.is_class => {}
        Slot::Text(_) if text.contains('\0') => {
            return Err(RecordErrorKind::Unexpected { expected: "text", found: excerpt(text.as_bytes()) });
        }
        Slot::Text(slot) => row.set_text(slot, text),
        Slot::Vector(_) => {
            return Err(RecordErrorKind::WrongType { expected: "a number or text", found: excerpt(text.as_bytes()) });
        }
    }
    Ok(())
}

fn number(text: &str) -> std::result::Result<f64, RecordErrorKind> {
    let value: f64 = text
        .parse()
        .map_err(|_| RecordErrorKind::WrongType { expected: "a number", found: excerpt(text.as_bytes()) })?;
    if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(RecordErrorKind::NumberOverflow { found: excerpt(text.as_bytes()) });
    }
    Ok(value)
}

/// The fields of a line; `None` where there are none.
pub(super) fn fields(mut line: &[u8]) -> Option<Vec<String>> {
    let mut splitter = Splitter::default();
    let found = splitter.next_record(&mut line, true).is_ok_and(|found| found);
    found.then(|| splitter.fields.iter().map(|field| String::from_utf8_lossy(field.bytes).into_owned()).collect())
}

/// Longest row of a file, in bytes: an open quote would otherwise read the rest of it into memory.
pub(crate) const LONGEST_ROW: usize = 16 << 20;

/// The fields of one row, unquoted.
#[derive(Debug, Clone)]
struct Fields {
    /// The fields, a comma behind each; what follows the last is left from longer rows.
    bytes: Vec<u8>,
    spans: Vec<FieldSpan>,
}

#[derive(Debug, Clone, Copy)]
struct FieldSpan {
    /// Where the field starts in the row as it was read.
    offset: usize,
    /// Where it ends in the unquoted bytes.
    end: usize,
}

/// A field of a row.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    /// Where it starts in the row as it was read.
    offset: usize,
    /// What it holds, unquoted.
    bytes: &'a [u8],
    /// The same, a comma, and what lies behind that.
    onwards: &'a [u8],
}

impl Field<'_> {
    /// The number that it is, if it is a plain one and nothing else.
    #[inline(always)]
    fn plain_number(self) -> Option<f64> {
        plain_number(self.onwards).filter(|(_, length)| *length == self.bytes.len()).map(|(number, _)| number)
    }
}

impl Fields {
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        let starts = std::iter::once(0).chain(self.spans.iter().map(|span| span.end + 1));
        self.spans.iter().zip(starts).map(|(span, start)| {
            let onwards = &self.bytes[start..];
            Field { offset: span.offset, bytes: &onwards[..span.end - start], onwards }
        })
    }

    /// The bytes of all fields, and the commas between them.
    fn all(&self) -> &[u8] {
        &self.bytes[..self.spans.last().map_or(0, |last| last.end)]
    }

    /// Whether there are several fields, and none has a byte.
    fn are_empty(&self) -> bool {
        self.spans.len() > 1 && self.all().len() == self.spans.len() - 1
    }

    /// Whether they are those of `other`.
    fn are(&self, other: &Self) -> bool {
        // Hardly a row is as long as the header, so that this costs nothing.
        self.all().len() == other.all().len()
            && self.all() == other.all()
            && self.spans.iter().map(|span| span.end).eq(other.spans.iter().map(|span| span.end))
    }

    /// Takes the fields of a row, `[n_bytes]`, that has no quotes.
    fn cut(&mut self, row: &[u8]) {
        if self.bytes.len() <= row.len() {
            self.bytes.resize(2 * row.len(), 0);
        }
        self.bytes[..row.len()].copy_from_slice(row);
        self.bytes[row.len()] = b',';
        let mut offset = 0;
        // The row's own bytes: to look at them through the vector would be slower.
        for (end, _) in row.iter().chain(b",").enumerate().filter(|(_, byte)| **byte == b',') {
            self.spans.push(FieldSpan { offset, end });
            offset = end + 1;
        }
    }
}

/// Splits an input into rows and fields.
#[derive(Debug)]
struct Splitter {
    csv: csv_core::Reader,
    fields: Fields,
    /// The line, from 1, on which the row begins.
    line: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        // Not csv_core's own default, which has an empty transition table.
        Self { csv: csv_core::Reader::new(), fields: Fields { bytes: vec![0; 1024], spans: Vec::new() }, line: 1 }
    }
}

impl Clone for Splitter {
    fn clone(&self) -> Self {
        // csv_core's own clone has an empty transition table too. Between rows there is no state to keep.
        Self { fields: self.fields.clone(), ..Self::default() }
    }
}

impl Splitter {
    /// Reads the next row into `fields`; `false` at the end of the input. Empty lines are no rows. `is_whole` says that the
    /// input gives all that it has at once.
    fn next_record(&mut self, input: &mut impl BufRead, is_whole: bool) -> std::io::Result<bool> {
        let mut line = self.csv.line();
        self.fields.spans.clear();
        while let Some(byte @ (b'\r' | b'\n')) = input.fill_buf()?.first() {
            line += u64::from(*byte == b'\n');
            input.consume(1);
        }
        self.line = line;
        self.csv.set_line(line);
        if let Some(row) = plain_row(input.fill_buf()?, is_whole) {
            self.fields.cut(row);
            let length = row.len();
            input.consume(length);
            return Ok(true);
        }
        self.split(input)
    }

    /// The same by csv-core, whatever the row is like.
    fn split(&mut self, input: &mut impl BufRead) -> std::io::Result<bool> {
        let Fields { bytes, spans } = &mut self.fields;
        let line = self.csv.line();
        self.csv.reset();
        self.csv.set_line(line);
        let (mut consumed, mut written, mut field_start) = (0, 0, 0);
        loop {
            let chunk = input.fill_buf()?;
            let (outcome, n_in, n_out) = self.csv.read_field(chunk, &mut bytes[written..]);
            input.consume(n_in);
            consumed += n_in;
            written += n_out;
            if consumed > LONGEST_ROW {
                let detail = format!("a row is longer than {LONGEST_ROW} bytes; is a quote left open?");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, detail));
            }
            if written == bytes.len() {
                bytes.resize(bytes.len() * 2, 0);
            }
            match outcome {
                csv_core::ReadFieldResult::InputEmpty | csv_core::ReadFieldResult::OutputFull => {}
                csv_core::ReadFieldResult::Field { record_end } => {
                    spans.push(FieldSpan { offset: field_start, end: written });
                    bytes[written] = b',';
                    written += 1;
                    field_start = consumed;
                    if record_end {
                        return Ok(true);
                    }
                }
                csv_core::ReadFieldResult::End => return Ok(false),
            }
        }
    }
}

/// The row at the start of `chunk`, if it ends there and its fields are what stands between commas: hardly a flow needs
/// quotes. What csv-core does beside splitting is left to it: to drop a byte order mark.
fn plain_row(chunk: &[u8], is_whole: bool) -> Option<&[u8]> {
    let end = memchr::memchr2(b'\n', b'\r', chunk).or(is_whole.then_some(chunk.len()))?;
    let row = &chunk[..end];
    let is_plain = !row.is_empty()
        && row.len() < LONGEST_ROW
        && !row.starts_with(b"\xef\xbb\xbf")
        && memchr::memchr(b'"', row).is_none();
    is_plain.then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader<'a>(text: &'a [u8], inputs: &[&str]) -> Result<CsvReader<&'a [u8]>> {
        let inputs: Vec<String> = inputs.iter().map(|&name| name.to_owned()).collect();
        CsvReader::new(text, "test.csv", Arc::new(Schema::unsw_nb15()), &inputs)
    }

    fn read_all(text: &[u8], inputs: &[&str]) -> (FlowRecords, Vec<RecordError>) {
        let mut reader = reader(text, inputs).expect("a good header");
        let (mut records, mut errors) = (FlowRecords::new(Arc::new(Schema::unsw_nb15())), Vec::new());
        loop {
            match reader.read(&mut records).expect("reading from memory") {
                Read::Flow => {}
                Read::Bad(error) => errors.push(error),
                Read::End => return (records, errors),
            }
        }
    }

    #[test]
    fn bom_crlf_quotes_and_blanks() {
        let text = b"\xef\xbb\xbfid,dur,proto,unknown,attack_cat\r\n1, 0.5 ,\"t\"\"cp\",x,Normal\r\n\r\n2,,,,\r\n";
        let (records, errors) = read_all(text, &["dur"]);
        assert_eq!((records.len(), errors.len()), (2, 0));
        let flow = records.get(0);
        assert_eq!((flow.number("dur"), flow.text("proto"), flow.text("id")), (Some(0.5), Some("t\"cp"), Some("1")));
        assert_eq!(flow.label(), Some("Normal"));
        let flow = records.get(1);
        assert_eq!((flow.number("dur"), flow.text("proto"), flow.label()), (None, None, Some("Normal")));
    }

    #[test]
    fn a_raw_file_has_no_header_and_gets_its_rate() {
        let row = "59.166.0.0,1390,149.171.126.6,53,udp,CON,0.5,132,164,31,29,0,0,dns,500.4,621.8,2,3,0,0,0,0,66,82,0,0,9.8,10.6,1421927414,1421927414,0.017,0.013,0,0,0,0,0,0,0,0,3,7,1,3,1,1,1,,0";
        let (records, errors) = read_all(row.as_bytes(), &["rate", "sinpkt"]);
        assert_eq!((records.len(), errors.len()), (1, 0));
        let flow = records.get(0);
        assert_eq!((flow.number("rate"), flow.number("sinpkt")), (Some(8.0), Some(0.017)));
        assert_eq!((flow.text("srcip"), flow.label()), (Some("59.166.0.0"), Some("Normal")));
    }

    #[test]
    fn bad_rows_are_named_and_the_others_kept() {
        let text = b"dur,proto\n1,tcp\n2\n3,tcp,x\nabc,tcp\n1e309,tcp\nInfinity,udp\n4,t\xffp\n5,t\0p\nNaN,\n";
        let (records, errors) = read_all(text, &["dur"]);
        let found: Vec<_> = errors.iter().map(|e| (e.record, e.kind.code(), e.column.as_deref(), e.offset)).collect();
        let expected = [
            (2, "row_too_short", None, None),
            (3, "row_too_long", None, Some(6)),
            (4, "wrong_type", Some("dur"), Some(0)),
            (5, "number_overflow", Some("dur"), Some(0)),
            (7, "invalid_utf8", Some("proto"), Some(2)),
            (8, "syntax", Some("proto"), Some(2)),
        ];
        assert_eq!(found, expected);
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn headers_that_cannot_be_used_are_refused() {
        let refused = |text: &[u8], inputs: &[&str]| reader(text, inputs).expect_err("refused").to_string();
        assert!(refused(b"", &[]).contains("is empty"));
        assert!(refused(b"dur,proto,DUR\n", &[]).contains("there twice"));
        assert!(refused(b"smean,smeansz\n", &[]).contains("there twice"));
        assert!(refused(b"1,2,3\n", &[]).contains("names no column"));
        let message = refused(b"dur,proto\n", &["dur", "sbytes", "rate"]);
        assert!(message.contains("3 columns that the model needs: spkts, dpkts, sbytes"), "{message}");
        assert!(refused(b"dur\n", &["nonsense"]).contains("nonsense"));
    }

    #[test]
    fn repeated_headers_and_empty_rows_are_skipped_and_counted() {
        let text = b"\xef\xbb\xbfdur,proto\r\n1,tcp\r\ndur,proto\r\n,\r\n\r\nx,udp\r\n2,udp\r\n,,,\r\n";
        let schema = Arc::new(Schema::unsw_nb15());
        let mut reader = CsvReader::new(&text[..], "test.csv", Arc::clone(&schema), &[]).expect("opens");
        let mut records = FlowRecords::new(schema);
        assert_eq!((reader.read(&mut records).expect("reads"), reader.line()), (Read::Flow, 2));
        let Read::Bad(error) = reader.read(&mut records).expect("reads") else { panic!("no duration") };
        assert_eq!((error.record, reader.line()), (2, 6));
        assert_eq!((reader.read(&mut records).expect("reads"), reader.line()), (Read::Flow, 7));
        assert_eq!(reader.read(&mut records).expect("reads"), Read::End);
        assert_eq!(reader.skipped(), Skipped { repeated_headers: 1, empty_rows: 2 });
        assert_eq!((records.len(), reader.n_recoded()), (2, 0));
    }

    #[test]
    fn a_header_alone_is_a_file_without_flows() {
        let (records, errors) = read_all(b"dur,proto\n", &["dur"]);
        assert!(records.is_empty() && errors.is_empty());
    }

    #[test]
    fn a_message_holds_one_row() {
        let schema = Arc::new(Schema::unsw_nb15());
        let columns = CsvColumns::from_header(&schema, &["dur", "proto"]).expect("a good header");
        let mut decoder = CsvDecoder::new(Arc::clone(&schema), &["dur".into()], columns).expect("inputs are there");
        let mut records = FlowRecords::new(schema);
        decoder.decode(0, b"1,tcp\r\n", &mut records).expect("good");
        let mut decoder = decoder.clone();
        decoder.decode(1, b"2,udp", &mut records).expect("good, also with a clone");
        assert_eq!(decoder.decode(2, b"", &mut records).expect_err("empty").kind, RecordErrorKind::Empty);
        let error = decoder.decode(3, b"1,tcp\n2,udp", &mut records).expect_err("two rows");
        assert_eq!((error.kind.code(), error.offset), ("syntax", Some(6)));
        let error = decoder.decode(4, b"1,\"tc", &mut records).expect_err("an open quote");
        assert_eq!((error.kind.code(), error.offset), ("truncated", Some(5)));
        assert_eq!(records.len(), 2);
    }
}
