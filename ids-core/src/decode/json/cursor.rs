//! A position in the text of a JSON message: the grammar of RFC 8259, without any meaning.

use super::super::plain_number::plain_number;
use super::super::{Fault, RecordErrorKind, excerpt};

/// A position in the text of a message.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    pub(super) fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> std::result::Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// The fault of something other than `expected` at the cursor.
    pub(super) fn unexpected(&self, expected: &'static str) -> Fault {
        let kind = match self.text[self.at..].chars().next() {
            None => RecordErrorKind::Truncated { expected },
            Some(found) => RecordErrorKind::Unexpected { expected, found: format!("`{}`", found.escape_debug()) },
        };
        Fault::at(self.at, kind)
    }

    /// The fault of a value of another type at the cursor; of bad syntax where no value starts.
    pub(super) fn wrong_type(&self, expected: &'static str) -> Fault {
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

    pub(super) fn literal(&mut self, literal: &'static str) -> std::result::Result<(), Fault> {
        for byte in literal.bytes() {
            self.expect(byte, literal)?;
        }
        Ok(())
    }

    /// A number, correctly rounded; or one of the three bare tokens.
    #[inline(always)]
    pub(super) fn number(&mut self) -> std::result::Result<f64, Fault> {
        match plain_number(self.rest()) {
            Some((value, length)) => {
                self.at += length;
                Ok(value)
            }
            None => self.any_number(),
        }
    }

    #[inline(never)]
    fn any_number(&mut self) -> std::result::Result<f64, Fault> {
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
        let whole = self.digits()?;
        if leading_zero && whole > 1 {
            let found = excerpt(&self.text.as_bytes()[start..self.at]);
            return Err(Fault::at(
                start,
                RecordErrorKind::Unexpected { expected: "a number without leading zeros", found },
            ));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
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

    /// One digit or more: how many.
    fn digits(&mut self) -> std::result::Result<usize, Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected("a digit"));
        }
        Ok(self.at - start)
    }

    /// A string, its escapes resolved into `unescaped` if it has any.
    pub(super) fn string<'b>(
        &mut self,
        unescaped: &'b mut String,
        expected: &'static str,
    ) -> std::result::Result<&'b str, Fault>
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
    pub(super) fn skip_value(&mut self, unescaped: &mut String) -> std::result::Result<(), Fault> {
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
