//! Text that is not UTF-8: which characters its bytes stand for.

use serde::{Deserialize, Serialize};

/// An encoding of text, by its name at WHATWG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// One byte a character: Latin-1 with letters and punctuation where that has control characters.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// The characters of the bytes 0x80 to 0x9f. Five stand for no character and are kept as the control characters of
/// their number (WHATWG Encoding Standard, index windows-1252).
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}',
    '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}',
    '\u{17e}', '\u{178}',
];

impl Encoding {
    /// Its name.
    pub fn name(self) -> &'static str {
        let Self::Windows1252 = self;
        "windows-1252"
    }

    /// The text of `bytes`.
    pub fn decode(self, bytes: &[u8]) -> String {
        let Self::Windows1252 = self;
        let character = |&byte: &u8| match byte {
            0x80..=0x9f => WINDOWS_1252[usize::from(byte) - 0x80],
            byte => char::from(byte),
        };
        bytes.iter().map(character).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_characters() {
        let text = Encoding::Windows1252.decode(b"a\x80 \x96 \x9f\xe9\xff");
        assert_eq!(text, "a\u{20ac} \u{2013} \u{178}\u{e9}\u{ff}");
    }
}
