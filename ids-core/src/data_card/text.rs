//! A data card as people read it, on 100 columns.

use std::fmt;

use super::{ClassCard, ColumnCard, DataCard, LabelCard, SchemaCard};
use crate::schema::ColumnKind;

impl fmt::Display for DataCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.format == "csv" { "CSV" } else { "JSON lines" };
        writeln!(f, "file      {}, {format}", self.source)?;
        write!(f, "{}", self.schema)?;
        let rows = &self.rows;
        writeln!(f, "rows      {:>13} read", grouped(rows.read))?;
        writeln!(f, "          {:>13} flows", grouped(rows.flows))?;
        writeln!(f, "          {:>13} rejected", grouped(rows.rejected))?;
        for (n, what) in [(rows.repeated_headers, "the header again"), (rows.empty_rows, "empty")] {
            if n > 0 {
                writeln!(f, "          {:>13} {what}", grouped(n))?;
            }
        }
        for (i, rejected) in self.rejected.iter().enumerate() {
            let title = if i == 0 { "rejected" } else { "" };
            write!(f, "{title:<10}{:>13} {}", grouped(rejected.rows), rejected.kind)?;
            if let Some(column) = &rejected.column {
                write!(f, " in `{column}`")?;
            }
            writeln!(f)?;
            wrap(f, &format!("the first on line {}: {}", grouped(rejected.first_line), rejected.first), 24)?;
        }
        if let Some(labels) = &self.labels {
            write!(f, "{labels}")?;
        } else {
            writeln!(f, "labels    none: the file has no column with the class of a flow")?;
        }
        for (i, quirk) in self.quirks.iter().enumerate() {
            write!(f, "{:<10}", if i == 0 { "quirks" } else { "" })?;
            wrap_on(f, &quirk.detail, 10)?;
        }
        columns(f, &self.columns, rows.flows)
    }
}

impl fmt::Display for SchemaCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_given { "as told" } else { "by its columns" };
        writeln!(f, "schema    {}, {how}: it knows {} of {}", self.name, self.n_known, self.n_columns)?;
        for (title, names) in [("not known: ", &self.unknown), ("not there: ", &self.missing)] {
            if !names.is_empty() {
                const SHOWN: usize = 50;
                let shown = names.iter().take(SHOWN).map(|name| format!("`{}`", printable(name)));
                let shown = shown.collect::<Vec<_>>().join(", ");
                let more = names.len().saturating_sub(SHOWN) as u64;
                let more = if more > 0 { format!(" and {} more", grouped(more)) } else { String::new() };
                wrap(f, &format!("{title}{shown}{more}"), 10)?;
            }
        }
        for other in &self.others {
            wrap(f, other, 10)?;
        }
        Ok(())
    }
}

impl fmt::Display for LabelCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_classes = plural_of(self.classes.len() as u64, "class", "classes");
        writeln!(f, "labels    `{}`, {n_classes}; `{}` is no attack", self.column, self.benign)?;
        let all: u64 = self.classes.iter().map(|class| class.rows).sum::<u64>() + self.unlabelled + self.others;
        let mut line = |rows: u64, what: &str| {
            let share = 100.0 * rows as f64 / all as f64;
            writeln!(f, "{}", cut(&format!("          {:>13} {share:6.2} %  {what}", grouped(rows)), WIDTH))
        };
        for ClassCard { class, rows, spellings } in &self.classes {
            let others: Vec<_> = spellings.keys().filter(|spelling| *spelling != class).collect();
            let spelt = match &others[..] {
                [] => String::new(),
                [one] => format!(" (`{}`)", printable(one)),
                [one, more @ ..] => format!(" (`{}` and {} more)", printable(one), more.len()),
            };
            line(*rows, &format!("{}{spelt}", printable(class)))?;
        }
        if self.unlabelled > 0 {
            line(self.unlabelled, "without a class")?;
        }
        if self.others > 0 {
            line(self.others, "of more classes than are told apart")?;
        }
        Ok(())
    }
}

/// Width of a line, in characters.
const WIDTH: usize = 100;

/// The table of columns, `n_flows` long.
fn columns(f: &mut fmt::Formatter<'_>, cards: &[ColumnCard], n_flows: u64) -> fmt::Result {
    if cards.is_empty() || n_flows == 0 {
        return Ok(());
    }
    const LONGEST: usize = 28;
    let width = cards.iter().map(|card| card.name.chars().count()).max().unwrap_or(0).clamp(6, LONGEST);
    writeln!(
        f,
        "\n{:<width$} {:<8} {:>8} {:>6} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "column", "kind", "missing", "NaN,oo", "negative", "distinct", "min", "mean", "max"
    )?;
    for card in cards {
        let distinct = format!("{}{}", grouped(card.distinct as u64), if card.has_more { "+" } else { "" });
        let kind = match card.kind {
            ColumnKind::Number => "number",
            ColumnKind::Integer => "integer",
            ColumnKind::Category => "category",
            ColumnKind::Label => "label",
            ColumnKind::Identifier => "id",
        };
        write!(f, "{:<width$} {kind:<8} {:>8} ", cut(&card.name, LONGEST), some(card.missing))?;
        if let Some(number) = &card.number {
            let [min, mean, max] = [number.min, number.mean, number.max].map(|value| value.map_or("-".into(), short));
            let (not_finite, negative) = (some(number.not_finite()), some(number.negative));
            writeln!(f, "{not_finite:>6} {negative:>8} {distinct:>8} {min:>9} {mean:>9} {max:>9}")?;
        } else {
            let values = card.text.iter().flat_map(|text| &text.most_frequent);
            let values: Vec<_> = values.map(|(value, _)| printable(value)).collect();
            let line = format!("{:>6} {:>8} {distinct:>8}   {}", "", "", cut(&values.join(", "), 27));
            writeln!(f, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// Writes `text` in lines of at most [`WIDTH`], each indented.
fn wrap(f: &mut fmt::Formatter<'_>, text: &str, indent: usize) -> fmt::Result {
    write!(f, "{:indent$}", "")?;
    wrap_on(f, text, indent)
}

/// As [`wrap`], with the first line indented already.
fn wrap_on(f: &mut fmt::Formatter<'_>, text: &str, indent: usize) -> fmt::Result {
    let mut used = indent;
    for (i, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if i > 0 && used + 1 + length > WIDTH {
            write!(f, "\n{:indent$}", "")?;
            used = indent;
        } else if i > 0 {
            write!(f, " ")?;
            used += 1;
        }
        write!(f, "{word}")?;
        used += length;
    }
    writeln!(f)
}

/// A count, blank where there is nothing to count.
fn some(n: u64) -> String {
    if n == 0 { "-".into() } else { grouped(n) }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(super) fn plural(n: u64, noun: &str) -> String {
    plural_of(n, noun, &format!("{noun}s"))
}

fn plural_of(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// `text` without characters that a terminal does not show.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// The first `length` characters of `text`.
fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.into();
    }
    text.chars().take(length - 2).chain("..".chars()).collect()
}

/// A number in at most nine characters.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    let text = if value.fract() == 0.0 && magnitude < 1e8 {
        format!("{value}")
    } else if (1e-3..1e5).contains(&magnitude) {
        // Four significant digits.
        let decimals = (3.0 - magnitude.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.2e}")
    };
    if text == "-0" { "0".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (-1.0, "-1"),
            (65535.0, "65535"),
            (-99_999_999.0, "-99999999"),
            (119_999_999.0, "1.20e8"),
            (0.5, "0.5000"),
            (1234.567, "1235"),
            (-0.001_234_6, "-0.001235"),
            (0.000_012, "1.20e-5"),
            (-1e300 / 3.0, "-3.33e299"),
            (99_999.96, "100000"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
            assert!(short(value).len() <= 9, "{value}");
        }
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(grouped), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!((plural(1, "row"), plural(2_000, "row")), ("1 row".into(), "2,000 rows".into()));
    }

    #[test]
    fn what_no_terminal_shows_is_escaped() {
        assert_eq!(printable("a \u{96}\u{1b}[31m \u{2013}"), "a \\u{96}\\u{1b}[31m \u{2013}");
        assert_eq!((cut("abcdef", 4), cut("abcd", 4)), ("ab..".into(), "abcd".into()));
    }
}
