//! The bytes of a file before they are records: how lines end, how the file begins.

use std::io::{BufRead, Read};

use crate::decode::csv::LONGEST_ROW;

/// Counts how lines end while they are read.
pub(super) struct LineEndings<R> {
    input: R,
    pub(super) crlf: u64,
    pub(super) lf: u64,
    ends_in_cr: bool,
}

impl<R> LineEndings<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, crlf: 0, lf: 0, ends_in_cr: false }
    }
}

impl<R: Read> Read for LineEndings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        for &byte in &buffer[..n] {
            if byte == b'\n' {
                if self.ends_in_cr { self.crlf += 1 } else { self.lf += 1 }
            }
            self.ends_in_cr = byte == b'\r';
        }
        Ok(n)
    }
}

/// What a file is that begins so, if it is no text.
pub(super) fn no_text(start: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 4] = [
        (b"PAR1", "Parquet"),
        (b"\x1f\x8b", "compressed (gzip)"),
        (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
        (b"PK\x03\x04", "a zip archive"),
    ];
    MAGIC.iter().find(|(magic, _)| start.starts_with(magic)).map(|&(_, what)| what)
}

/// The beginning of a file, up to the end of its first line that is not empty.
pub(super) struct Start {
    bytes: Vec<u8>,
    first: usize,
}

impl Start {
    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line that is not empty.
    pub(super) fn line(&self) -> &[u8] {
        &self.bytes[self.first..]
    }

    pub(super) fn has_bom(&self) -> bool {
        self.bytes.starts_with(b"\xef\xbb\xbf")
    }
}

/// Reads on to the end of the first line that is not empty; `None` where there is none.
pub(super) fn first_line(input: &mut impl BufRead) -> std::io::Result<Option<Start>> {
    let mut bytes = Vec::new();
    let mut input = input.take(LONGEST_ROW as u64);
    loop {
        let first = bytes.len();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        let line = &bytes[first..];
        if !line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii().is_empty() {
            return Ok(Some(Start { bytes, first }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_endings_are_counted_across_reads() {
        let mut lines = LineEndings::new(&b"a\r\nb\n\r\n\nc\r"[..]);
        let mut byte = [0];
        while lines.read(&mut byte).expect("reads") > 0 {}
        assert_eq!((lines.crlf, lines.lf), (2, 2));
    }

    #[test]
    fn the_first_line_is_the_first_that_says_something() {
        let start = first_line(&mut &b"\xef\xbb\xbf\r\n\n a,b\r\n1,2\n"[..]).expect("reads").expect("a line");
        assert_eq!((start.line(), start.has_bom()), (&b" a,b\r\n"[..], true));
        assert!(first_line(&mut &b" \n\r\n"[..]).expect("reads").is_none());
    }
}
