//! Findings in words.

use std::fmt;

use super::{Lint, Severity};

/// No line is longer.
const WIDTH: usize = 100;

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Severe => "severe",
        })
    }
}

impl fmt::Display for Lint {
    /// What was looked at, and each finding with the reason why it matters; lines are ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, schema, rows, sampled, unlabelled, findings } = self;
        writeln!(f, "{source}, schema {schema}: {} labelled rows", grouped(*rows))?;
        if sampled < rows {
            writeln!(f, "findings about columns are from {} of them, drawn evenly", grouped(*sampled))?;
        }
        if *unlabelled > 0 {
            writeln!(f, "{} rows have no label and are not looked at", grouped(*unlabelled))?;
        }
        // Findings for one reason stand together, and the reason once.
        for group in findings.chunk_by(|one, next| one.why == next.why) {
            writeln!(f)?;
            for finding in group {
                wrapped(f, &format!("{:9}", finding.severity), &finding.detail)?;
            }
            wrapped(f, &format!("{:9}", ""), &format!("{} [{}]", group[0].why, group[0].kind))?;
        }
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (severe, warnings, notes) = (count(Severity::Severe), count(Severity::Warning), count(Severity::Note));
        writeln!(f, "\n{severe} severe, {warnings} warnings, {notes} notes")
    }
}

/// Writes `text` after `head`, broken between words, what follows as far in as `head` is wide.
fn wrapped(f: &mut fmt::Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    let mut line = head.to_owned();
    let indent = head.chars().count();
    let mut length = indent;
    for word in text.split_whitespace() {
        let n = word.chars().count();
        if length > indent && length + 1 + n > WIDTH {
            writeln!(f, "{line}")?;
            line = " ".repeat(indent);
            length = indent;
        }
        if length > indent {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += n;
    }
    writeln!(f, "{}", line.trim_end())
}

/// A count with commas: 82,332.
pub(super) fn grouped(n: u64) -> String {
    crate::data_card::grouped(n)
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == percent.round() { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}
