//! One JSON object per message (RFC 8259), with bare `NaN`, `Infinity` and `-Infinity` as Python's
//! `json.dumps` writes them.
//!
//! A parser of our own because no general one offers all of: those tokens, correctly rounded
//! doubles, byte offsets in errors, and no allocation per field. Syntax is in `cursor`; here is what fields mean.

mod cursor;

use std::sync::Arc;

use super::{Fault, Place, RecordError, RecordErrorKind, RowRules};
use crate::error::Result;
use crate::record::FlowRecords;
use crate::rows::{NewRow, Slot};
use crate::schema::{ColumnKind, Schema};
use cursor::Cursor;

/// Decodes JSON messages into a batch.
#[derive(Debug, Clone)]
pub struct JsonDecoder {
    rules: RowRules,
    /// What stood before the i-th value of messages so far, and whose value it was. Producers write their keys in one
    /// order and one way, so a comparison of bytes usually takes the place of reading them.
    known: Vec<Known>,
    /// Scratch for strings with escapes.
    unescaped: String,
}

/// What stands before a value: `,"dur":`.
#[derive(Debug, Clone)]
struct Known {
    text: Box<str>,
    key: Key,
}

/// A key of a message.
#[derive(Debug, Clone, Copy)]
struct Key {
    /// Where it is, from the end of the value before.
    offset: usize,
    /// The column that it names, if the schema has it.
    place: Option<Place>,
}

impl JsonDecoder {
    /// A decoder of records that must hold the columns `inputs` (see
    /// [`Model::inputs`](crate::Model::inputs)), unless the schema derives them or marks them optional.
    ///
    /// # Errors
    /// [`Error::MissingColumns`](crate::Error::MissingColumns) lists inputs that the schema does not know.
    pub fn new(schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        let rules = RowRules::new(schema, inputs)?;
        Ok(Self { rules, known: Vec::new(), unescaped: String::new() })
    }

    /// Appends the flow in `message` to `records`, or says what is wrong with it and leaves
    /// `records` as it was. `record` is the number by which an error names the message.
    ///
    /// # Panics
    /// Where `records` is of another schema than the decoder.
    pub fn decode(
        &mut self,
        record: u64,
        message: &[u8],
        records: &mut FlowRecords,
    ) -> std::result::Result<(), RecordError> {
        let mut row = self.rules.new_row(records);
        match self.fill(message, &mut row) {
            Ok(()) => {
                row.keep();
                Ok(())
            }
            Err(fault) => Err(self.rules.error(record, fault)),
        }
    }

    /// Positions in the schema of the columns that any record so far has given, or that follow from them.
    pub fn given(&self) -> Vec<usize> {
        self.rules.given()
    }

    fn fill(&mut self, message: &[u8], row: &mut NewRow<'_>) -> std::result::Result<(), Fault> {
        let text = std::str::from_utf8(message)
            .map_err(|error| Fault::at(error.valid_up_to(), RecordErrorKind::InvalidUtf8))?;
        let mut cursor = Cursor { text, at: 0 };
        cursor.skip_blanks();
        if cursor.peek().is_none() {
            return Err(Fault::whole(RecordErrorKind::Empty));
        }
        self.rules.start();
        cursor.expect(b'{', "an object")?;
        for field in 0.. {
            let before = cursor.at;
            let Some(key) = self.key(field, &mut cursor)? else { break };
            let Some(place) = key.place else {
                cursor.skip_value(&mut self.unescaped)?;
                continue;
            };
            let counts = self.rules.see(place.position);
            if counts.map_err(|kind| Fault::at(before + key.offset, kind).in_column(place.position))? {
                self.value(&mut cursor, place, row).map_err(|fault| fault.in_column(place.position))?;
            } else {
                cursor.skip_value(&mut self.unescaped)?;
            }
        }
        cursor.skip_blanks();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("the end of the record"));
        }
        self.rules.finish(row)
    }

    /// Moves from the end of a value, or the start of the object, to the next value, and tells its key; `None` at the end
    /// of the object.
    #[inline]
    fn key(&mut self, field: usize, cursor: &mut Cursor<'_>) -> std::result::Result<Option<Key>, Fault> {
        let found = match self.known.get(field) {
            Some(known) if cursor.rest().starts_with(known.text.as_bytes()) => {
                cursor.at += known.text.len();
                Some(known.key)
            }
            _ => self.read_key(field, cursor)?,
        };
        cursor.skip_blanks();
        Ok(found)
    }

    /// The same, byte by byte.
    fn read_key(&mut self, field: usize, cursor: &mut Cursor<'_>) -> std::result::Result<Option<Key>, Fault> {
        let before = cursor.at;
        cursor.skip_blanks();
        if cursor.peek() == Some(b'}') {
            cursor.at += 1;
            return Ok(None);
        }
        if field > 0 {
            cursor.expect(b',', "`,` or `}`")?;
            cursor.skip_blanks();
        }
        let start = cursor.at;
        let name = cursor.string(&mut self.unescaped, "a key in quotes")?;
        if let Some(foreign) = RecordErrorKind::of_foreign(&self.rules.schema, name) {
            return Err(Fault::at(start, foreign));
        }
        let place = self.rules.schema.position(name).map(|position| self.rules.place(position));
        cursor.skip_blanks();
        cursor.expect(b':', "`:`")?;
        let key = Key { offset: start - before, place };
        self.remember(field, &cursor.text[before..cursor.at], key);
        Ok(Some(key))
    }

    /// Remembers what stands before the value of the `field`-th key.
    fn remember(&mut self, field: usize, text: &str, key: Key) {
        // A message with more or longer keys is not of the kind that the short cut is for; and what a
        // sender can make us remember stays small.
        const REMEMBERED: usize = 512;
        const LONGEST: usize = 80;
        if text.len() > LONGEST || field >= REMEMBERED {
            return;
        }
        let known = Known { text: text.into(), key };
        if field < self.known.len() {
            self.known[field] = known;
        } else if field == self.known.len() {
            self.known.push(known);
        }
    }

    /// Reads the value of a column into the row.
    #[inline]
    fn value(&mut self, cursor: &mut Cursor<'_>, place: Place, row: &mut NewRow<'_>) -> std::result::Result<(), Fault> {
        if cursor.peek() == Some(b'n') {
            return cursor.literal("null");
        }
        match place.slot {
            Slot::Number(slot) => {
                let start = cursor.at;
                let value = cursor.number()?;
                if !place.takes(value) {
                    return Err(Fault::at(start, RowRules::no_integer(&cursor.text[start..cursor.at])));
                }
                row.set_number(slot, value);
            }
            Slot::Text(slot) => match cursor.peek() {
                Some(b'"') => row.set_text(slot, cursor.string(&mut self.unescaped, "a string")?),
                // Labels and identifiers are often numbers: keep them as they are written.
                Some(b'-' | b'0'..=b'9') if place.kind != ColumnKind::Category => {
                    let start = cursor.at;
                    cursor.number()?;
                    row.set_text(slot, &cursor.text[start..cursor.at]);
                }
                _ => return Err(cursor.wrong_type("a string")),
            },
            Slot::Vector(_) => return Err(cursor.wrong_type("a number or text")),
        }
        Ok(())
    }
}

/// The keys of an object, in order; `None` where `message` is none.
pub(super) fn keys(message: &str) -> Option<Vec<String>> {
    let (mut cursor, mut unescaped, mut keys) = (Cursor { text: message, at: 0 }, String::new(), vec![]);
    for opening in std::iter::once(b'{').chain(std::iter::repeat(b',')) {
        cursor.skip_blanks();
        if cursor.peek()? == b'}' {
            break;
        }
        cursor.expect(opening, "an object").ok()?;
        cursor.skip_blanks();
        keys.push(cursor.string(&mut unescaped, "a key in quotes").ok()?.to_owned());
        cursor.skip_blanks();
        cursor.expect(b':', "`:`").ok()?;
        cursor.skip_blanks();
        cursor.skip_value(&mut unescaped).ok()?;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(message: &[u8], inputs: &[&str]) -> std::result::Result<FlowRecords, RecordError> {
        let schema = Arc::new(Schema::unsw_nb15());
        let inputs: Vec<String> = inputs.iter().map(|&name| name.to_owned()).collect();
        let mut records = FlowRecords::new(Arc::clone(&schema));
        JsonDecoder::new(schema, &inputs).expect("known inputs").decode(7, message, &mut records)?;
        Ok(records)
    }

    #[test]
    fn reads_by_name_in_any_order_and_ignores_the_unknown() {
        let message =
            br#" {"STATE":"FIN","dur":0.5,"extra":{"a":[1,{"b":"}"}],"c":{}},"proto":"t\u0063p","sintpkt":2,"id":17} "#;
        let records = decode(message, &["dur", "proto", "sinpkt"]).expect("a good record");
        let flow = records.get(0);
        assert_eq!(flow.number("dur"), Some(0.5));
        assert_eq!(flow.number("sinpkt"), Some(2.0));
        assert_eq!((flow.text("proto"), flow.text("state"), flow.text("id")), (Some("tcp"), Some("FIN"), Some("17")));
        assert_eq!(flow.number("sbytes"), None);
    }

    #[test]
    fn a_column_of_integers_takes_whole_numbers_only() {
        let schema = Schema::from_toml("name = 'x'\ncolumns = [{ name = 'n', kind = 'integer' }]").expect("valid");
        let schema = Arc::new(schema);
        let mut decoder = JsonDecoder::new(Arc::clone(&schema), &[]).expect("a decoder");
        let mut decode = |message: &str| {
            let mut records = FlowRecords::new(Arc::clone(&schema));
            decoder.decode(0, message.as_bytes(), &mut records).map(|()| records.get(0).number("n"))
        };
        assert_eq!(decode(r#"{"n":-7}"#), Ok(Some(-7.0)));
        assert_eq!(decode(r#"{"n":3.0}"#), Ok(Some(3.0)));
        assert_eq!(decode(r#"{"n":null}"#), Ok(None));
        for message in [r#"{"n":1.5}"#, r#"{"n":NaN}"#, r#"{"n":9007199254740994}"#] {
            let error = decode(message).expect_err(message).to_string();
            assert!(error.contains("column `n`") && error.contains("a whole number up to 2^53"), "{error}");
        }
    }

    #[test]
    fn numbers_are_correctly_rounded() {
        let literals = [
            "0",
            "-0",
            "0.1",
            "1e-7",
            "123456789012345678",
            "0.30000000000000004",
            "2.2250738585072011e-308",
            "5e-324",
            "179769313486231570000e288",
            "9007199254740993",
            "0.000001",
            "999999999999999",
            "4294967295",
        ];
        for literal in literals {
            let records = decode(format!("{{\"dur\":{literal}}}").as_bytes(), &[]).expect(literal);
            let expected: f64 = literal.parse().expect("a number");
            assert_eq!(records.get(0).number("dur").map(f64::to_bits), Some(expected.to_bits()), "{literal}");
        }
    }

    #[test]
    fn bare_tokens_are_doubles_and_null_is_missing() {
        let records =
            decode(br#"{"dur":NaN,"sload":Infinity,"dload":-Infinity,"rate":null}"#, &["rate"]).expect("good");
        let flow = records.get(0);
        assert!(flow.number("dur").expect("present").is_nan());
        assert_eq!(flow.number("sload"), Some(f64::INFINITY));
        assert_eq!(flow.number("dload"), Some(f64::NEG_INFINITY));
        assert_eq!(flow.number("rate"), None);
    }

    #[test]
    fn rate_is_derived_only_where_it_is_absent() {
        let derived = decode(br#"{"spkts":3,"dpkts":2,"dur":0.5}"#, &["rate"]).expect("good");
        assert_eq!(derived.get(0).number("rate"), Some(8.0));
        let instant = decode(br#"{"spkts":3,"dpkts":2,"dur":0}"#, &["rate"]).expect("good");
        assert_eq!(instant.get(0).number("rate"), Some(0.0));
        let given = decode(br#"{"spkts":3,"dpkts":2,"dur":0.5,"rate":1}"#, &["rate"]).expect("good");
        assert_eq!(given.get(0).number("rate"), Some(1.0));
        let error = decode(br#"{"spkts":3,"dpkts":2}"#, &["rate"]).expect_err("no duration");
        assert_eq!((error.kind, error.column.as_deref()), (RecordErrorKind::MissingColumn, Some("dur")));
    }

    /// message, code, column, offset
    type Case = (&'static [u8], &'static str, Option<&'static str>, Option<usize>);

    const BAD: &[Case] = &[
        (b"", "empty", None, None),
        (b" \n", "empty", None, None),
        (b"{\"dur\":1", "truncated", None, Some(8)),
        (b"{\"dur\":", "truncated", Some("dur"), Some(7)),
        (b"{\"proto\":\"tc", "truncated", Some("proto"), Some(12)),
        (b"[1]", "syntax", None, Some(0)),
        (b"{\"dur\":\"1\"}", "wrong_type", Some("dur"), Some(7)),
        (b"{\"dur\":true}", "wrong_type", Some("dur"), Some(7)),
        (b"{\"dur\":[1]}", "wrong_type", Some("dur"), Some(7)),
        (b"{\"proto\":6}", "wrong_type", Some("proto"), Some(9)),
        (b"{\"dur\":1e309}", "number_overflow", Some("dur"), Some(7)),
        (b"{\"dur\":-1e309}", "number_overflow", Some("dur"), Some(7)),
        (b"{\"dur\":01}", "syntax", Some("dur"), Some(7)),
        (b"{\"dur\":-NaN}", "syntax", Some("dur"), Some(8)),
        (b"{\"dur\":1,}", "syntax", None, Some(9)),
        (b"{\"dur\":1}x", "syntax", None, Some(9)),
        (b"{\"dur\":1,\"dur\":2}", "duplicate_column", Some("dur"), Some(9)),
        (b"{\"smean\":1,\"smeansz\":2}", "duplicate_column", Some("smean"), Some(11)),
        (b"{\"proto\":\"a\0b\"}", "syntax", Some("proto"), Some(11)),
        (b"\0\0\0", "syntax", None, Some(0)),
        (b"{\"proto\":\"\xff\"}", "invalid_utf8", None, Some(10)),
        (b"{\"proto\":\"\\ud800\"}", "syntax", Some("proto"), Some(11)),
        (b"{\"proto\":\"\\ud800\\u0041\"}", "syntax", Some("proto"), Some(11)),
        (b"{\"extra\":[1,2}", "syntax", None, Some(13)),
        (b"{\"proto\":\"tcp\"}", "missing_column", Some("dur"), None),
    ];

    #[test]
    fn a_bad_record_is_an_error_that_says_where() {
        for (message, code, column, offset) in BAD {
            let error = decode(message, &["dur"]).expect_err(&String::from_utf8_lossy(message));
            let found = (error.kind.code(), error.column.as_deref(), error.offset);
            assert_eq!(found, (*code, *column, *offset), "{}: {error}", String::from_utf8_lossy(message));
            assert_eq!(error.record, 7);
        }
    }

    #[test]
    fn a_megabyte_is_no_trouble() {
        let nested = format!("{{\"x\":{}{},\"dur\":1}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(decode(nested.as_bytes(), &["dur"]).expect("deep, but good").len(), 1);
        let long = format!("{{\"dur\":1,\"proto\":\"{}\"}}", "x".repeat(1 << 20));
        assert_eq!(decode(long.as_bytes(), &["dur"]).expect("long, but good").len(), 1);
        let open = "[".repeat(1 << 20);
        assert_eq!(decode(open.as_bytes(), &[]).expect_err("no object").kind.code(), "syntax");
    }
}
