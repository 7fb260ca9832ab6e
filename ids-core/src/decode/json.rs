//! One JSON object per message (RFC 8259), with bare `NaN`, `Infinity` and `-Infinity` as Python's
//! `json.dumps` writes them.
//!
//! A parser of our own because no general one offers all of: those tokens, correctly rounded
//! doubles, byte offsets in errors, and no allocation per field.

use std::sync::Arc;

use super::{Fault, RecordError, RecordErrorKind, RowRules, excerpt};
use crate::error::Result;
use crate::record::FlowRecords;
use crate::rows::{NewRow, Slot};
use crate::schema::{ColumnKind, Schema};

/// Decodes JSON messages into a batch.
#[derive(Debug, Clone)]
pub struct JsonDecoder {
    rules: RowRules,
    /// The column that the i-th key of the previous message named. Producers write keys in one
    /// order, so a comparison usually saves the look-up.
    expected_keys: Keys,
    /// Scratch for strings with escapes.
    unescaped: String,
}

impl JsonDecoder {
    /// A decoder of records that must hold the columns `inputs` (see
    /// [`Model::inputs`](crate::Model::inputs)), unless the schema derives them or marks them optional.
    ///
    /// # Errors
    /// [`Error::MissingColumns`](crate::Error::MissingColumns) lists inputs that the schema does not know.
    pub fn new(schema: Arc<Schema>, inputs: &[String]) -> Result<Self> {
        let rules = RowRules::new(schema, inputs)?;
        Ok(Self { rules, expected_keys: Vec::new(), unescaped: String::new() })
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
        cursor.skip_blanks();
        if cursor.peek() == Some(b'}') {
            cursor.at += 1;
        } else {
            for field in 0.. {
                cursor.skip_blanks();
                let start = cursor.at;
                let key = cursor.string(&mut self.unescaped, "a key in quotes")?;
                let place = |kind| Fault::at(start, kind);
                let found = find_column(&self.rules.schema, &mut self.expected_keys, field, key).map_err(place)?;
                let see = |given| self.rules.see(given).map_err(|kind| place(kind).in_column(given));
                let counts = found.map(see).transpose()?.unwrap_or(false);
                let position = found.filter(|_| counts);
                cursor.skip_blanks();
                cursor.expect(b':', "`:`")?;
                cursor.skip_blanks();
                match position {
                    Some(position) => {
                        self.value(&mut cursor, position, row).map_err(|fault| fault.in_column(position))?;
                    }
                    None => cursor.skip_value(&mut self.unescaped)?,
                }
                cursor.skip_blanks();
                match cursor.peek() {
                    Some(b',') => cursor.at += 1,
                    _ => break,
                }
            }
            cursor.expect(b'}', "`,` or `}`")?;
        }
        cursor.skip_blanks();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("the end of the record"));
        }
        self.rules.finish(row)
    }

    /// Reads the value of the column at `position` into the row.
    fn value(
        &mut self,
        cursor: &mut Cursor<'_>,
        position: usize,
        row: &mut NewRow<'_>,
    ) -> std::result::Result<(), Fault> {
        if cursor.peek() == Some(b'n') {
            return cursor.literal("null");
        }
        match self.rules.schema.slot(position) {
            Slot::Number(slot) => {
                let start = cursor.at;
                let value = cursor.number()?;
                if !self.rules.takes(position, value) {
                    return Err(Fault::at(start, RowRules::no_integer(&cursor.text[start..cursor.at])));
                }
                row.set_number(slot, value);
            }
            Slot::Text(slot) => match cursor.peek() {
                Some(b'"') => row.set_text(slot, cursor.string(&mut self.unescaped, "a string")?),
                // Labels and identifiers are often numbers: keep them as they are written.
                Some(b'-' | b'0'..=b'9') if self.rules.kind(position) != ColumnKind::Category => {
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

type Keys = Vec<(String, Option<usize>)>;
type Found = std::result::Result<Option<usize>, RecordErrorKind>;

/// Position of the column that the `field`-th key names; an error where it tells of another data set.
fn find_column(schema: &Schema, expected: &mut Keys, field: usize, key: &str) -> Found {
    if let Some((_, position)) = expected.get(field).filter(|(name, _)| name == key) {
        return Ok(*position);
    }
    if let Some(foreign) = RecordErrorKind::of_foreign(schema, key) {
        return Err(foreign);
    }
    let position = schema.position(key);
    // A message with more or longer keys is not of the kind that the short cut is for; and what a
    // sender can make us remember stays small.
    const REMEMBERED: usize = 512;
    const LONGEST: usize = 64;
    if key.len() > LONGEST {
        return Ok(position);
    }
    if field < expected.len() {
        expected[field] = (key.to_owned(), position);
    } else if field == expected.len() && field < REMEMBERED {
        expected.push((key.to_owned(), position));
    }
    Ok(position)
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

/// A position in the text of a message.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// Powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> std::result::Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// The fault of something other than `expected` at the cursor.
    fn unexpected(&self, expected: &'static str) -> Fault {
        let kind = match self.text[self.at..].chars().next() {
            None => RecordErrorKind::Truncated { expected },
            Some(found) => RecordErrorKind::Unexpected { expected, found: format!("`{}`", found.escape_debug()) },
        };
        Fault::at(self.at, kind)
    }

    /// The fault of a value of another type at the cursor; of bad syntax where no value starts.
    fn wrong_type(&self, expected: &'static str) -> Fault {
        let noun = match self.peek() {
            Some(b'"') => "the string",
            Some(b'{') => "the object",
            Some(b'[') => "the array",
            Some(b't' | b'f') => "the boolean",
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => "the number",
            _ => return self.unexpected(expected),
        };
        let end = self.rest().iter().position(|byte| matches!(byte, b',' | b'}' | b'\n')).unwrap_or(self.rest().len());
        let found = format!("{noun} {}", excerpt(&self.rest()[..end]));
        Fault::at(self.at, RecordErrorKind::WrongType { expected, found })
    }

    fn literal(&mut self, literal: &'static str) -> std::result::Result<(), Fault> {
        for byte in literal.bytes() {
            self.expect(byte, literal)?;
        }
        Ok(())
    }

    /// A number, correctly rounded; or one of the three bare tokens.
    fn number(&mut self) -> std::result::Result<f64, Fault> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(b'I') => {
                self.literal("Infinity")?;
                return Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
            }
            Some(b'N') if !negative => {
                self.literal("NaN")?;
                return Ok(f64::NAN);
            }
            _ if negative => return Err(self.unexpected("a digit")),
            _ => return Err(self.wrong_type("a number")),
        }
        let leading_zero = self.peek() == Some(b'0');
        let mut mantissa = 0;
        let whole = self.digits(&mut mantissa)?;
        if leading_zero && whole > 1 {
            let found = excerpt(&self.text.as_bytes()[start..self.at]);
            return Err(Fault::at(
                start,
                RecordErrorKind::Unexpected { expected: "a number without leading zeros", found },
            ));
        }
        let mut fraction = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits(&mut mantissa)?;
        }
        let plain = !matches!(self.peek(), Some(b'e' | b'E'));
        if !plain {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits(&mut 0)?;
        }
        // Both operands are exact, so the one division rounds correctly (Clinger 1990).
        if plain && whole + fraction <= 15 {
            let value = mantissa as f64 / POWERS_OF_TEN[fraction];
            return Ok(if negative { -value } else { value });
        }
        let literal = &self.text[start..self.at];
        let value: f64 = literal.parse().map_err(|_| {
            Fault::at(start, RecordErrorKind::WrongType { expected: "a number", found: excerpt(literal.as_bytes()) })
        })?;
        if value.is_infinite() {
            let found = excerpt(literal.as_bytes());
            return Err(Fault::at(start, RecordErrorKind::NumberOverflow { found }));
        }
        Ok(value)
    }

    /// One digit or more: how many. `mantissa` is of use for 19 digits at most.
    fn digits(&mut self, mantissa: &mut u64) -> std::result::Result<usize, Fault> {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected("a digit"));
        }
        Ok(self.at - start)
    }

    /// A string, its escapes resolved into `unescaped` if it has any.
    fn string<'b>(&mut self, unescaped: &'b mut String, expected: &'static str) -> std::result::Result<&'b str, Fault>
    where
        'a: 'b,
    {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        let start = self.at;
        self.at += self.plain_length();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(&self.text[start..self.at - 1]);
        }
        unescaped.clear();
        unescaped.push_str(&self.text[start..self.at]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(unescaped);
                }
                Some(b'\\') => {
                    self.at += 1;
                    unescaped.push(self.escape()?);
                }
                _ => return Err(self.unexpected("the rest of a string")),
            }
            let start = self.at;
            self.at += self.plain_length();
            unescaped.push_str(&self.text[start..self.at]);
        }
    }

    /// Bytes until a quote, a backslash or a control character.
    fn plain_length(&self) -> usize {
        let special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < b' ';
        self.rest().iter().position(special).unwrap_or(self.rest().len())
    }

    /// The character that an escape stands for; the backslash is behind the cursor.
    fn escape(&mut self) -> std::result::Result<char, Fault> {
        let character = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let start = self.at;
                self.at += 1;
                let first = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&first) && self.rest().starts_with(b"\\u") {
                    self.at += 2;
                    match self.hex4()? {
                        second @ 0xdc00..0xe000 => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                        // A lone surrogate is no character.
                        _ => first,
                    }
                } else {
                    first
                };
                return char::from_u32(code).ok_or_else(|| {
                    let found = excerpt(&self.text.as_bytes()[start..self.at]);
                    Fault::at(start, RecordErrorKind::Unexpected { expected: "a Unicode character", found })
                });
            }
            _ => return Err(self.unexpected("an escape character")),
        };
        self.at += 1;
        Ok(character)
    }

    fn hex4(&mut self) -> std::result::Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.unexpected("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// Passes over the value of a column that the schema does not know: checked as far as needed to
    /// find its end. A loop, not a recursion: nesting is bounded by the length of the message alone.
    fn skip_value(&mut self, unescaped: &mut String) -> std::result::Result<(), Fault> {
        let mut closers = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(b'"') => {
                    self.string(unescaped, "a string")?;
                }
                Some(b'{') => {
                    closers.push(b'}');
                    self.at += 1;
                    continue;
                }
                Some(b'[') => {
                    closers.push(b']');
                    self.at += 1;
                    continue;
                }
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                Some(b'-' | b'0'..=b'9' | b'N' | b'I') => {
                    self.number()?;
                }
                Some(byte) if closers.last() == Some(&byte) => {
                    closers.pop();
                    self.at += 1;
                }
                _ => return Err(self.unexpected("a value")),
            }
            self.skip_blanks();
            while closers.last().is_some_and(|&closer| self.peek() == Some(closer)) {
                closers.pop();
                self.at += 1;
                self.skip_blanks();
            }
            match (closers.last(), self.peek()) {
                (None, _) => return Ok(()),
                (Some(_), Some(b',' | b':')) => self.at += 1,
                (Some(b'}'), _) => return Err(self.unexpected("`,`, `:` or `}`")),
                (Some(_), _) => return Err(self.unexpected("`,` or `]`")),
            }
        }
    }
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
