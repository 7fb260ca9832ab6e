//! The data card of a file of flows: what is in it, and what is odd about it.
//!
//! [`describe`] reads a file once, in memory that does not grow with it. What a card looks like as text is in
//! `text`; as JSON it is what `serde` makes of [`DataCard`].

mod column;
mod input;
mod text;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Read as _};
use std::sync::Arc;

use serde::Serialize;

use crate::decode::{CsvColumns, FlowReader, Read, RecordError, Skipped, columns_of};
use crate::error::{Error, Result};
use crate::record::FlowRecords;
use crate::schema::{Candidate, ColumnKind, Recognised, Schema, recognise};

use column::Tally;
pub use column::{ColumnCard, NumberCard, TextCard};
use input::LineEndings;
pub(crate) use text::grouped;

/// Distinct values of a column that are counted; of more it is only known that there are more.
pub const MOST_DISTINCT: usize = 1000;

/// What is in a file of flows.
#[derive(Debug, Clone, Serialize)]
pub struct DataCard {
    /// The file, as its caller names it.
    pub source: String,
    /// `csv` or `json-lines`.
    pub format: &'static str,
    /// Whose columns they are.
    pub schema: SchemaCard,
    /// How many rows there are, and what became of them.
    pub rows: RowCounts,
    /// The rows that are no flows, by fault, the most frequent first.
    pub rejected: Vec<Rejected>,
    /// The classes, if the file has the schema's label column.
    pub labels: Option<LabelCard>,
    /// The schema's columns that the file has, or that follow from them, in the order of the schema.
    pub columns: Vec<ColumnCard>,
    /// What readers of the file stumble over.
    pub quirks: Vec<Quirk>,
}

/// Which schema a file was read by.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaCard {
    /// Its name.
    pub name: String,
    /// Whether the caller chose it; else it was recognised by the columns.
    pub is_given: bool,
    /// The layout by which a file without a header was read.
    pub layout: Option<String>,
    /// Columns of the file (of JSON, of its first record).
    pub n_columns: usize,
    /// Columns that the schema knows.
    pub n_known: usize,
    /// Columns that it does not know: they are not read.
    pub unknown: Vec<String>,
    /// Columns that a model may take and the file does not have.
    pub missing: Vec<String>,
    /// Other schemas that know most of the columns, and why they were not taken.
    pub others: Vec<String>,
}

/// Rows of a file: `read` is the sum of the others. Lines without a character are no rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// All, a header at the start apart.
    pub read: u64,
    /// Rows that are flows.
    pub flows: u64,
    /// Rows that are not.
    pub rejected: u64,
    /// Copies of the header.
    pub repeated_headers: u64,
    /// Rows of empty fields alone.
    pub empty_rows: u64,
}

/// Rows that are no flows for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The kind of fault, as in dead letters.
    pub kind: &'static str,
    /// The column at fault, if the fault belongs to one.
    pub column: Option<String>,
    /// How many rows.
    pub rows: u64,
    /// The line, from 1, on which the first of them begins.
    pub first_line: u64,
    /// What is wrong with the first of them; rows are counted from 1, without the header and what is skipped.
    pub first: String,
}

/// The classes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelCard {
    /// The column that holds them.
    pub column: String,
    /// The class that is no attack.
    pub benign: String,
    /// The classes that occur, the most frequent first.
    pub classes: Vec<ClassCard>,
    /// Flows without a class.
    pub unlabelled: u64,
    /// Flows of classes beyond the first [`MOST_DISTINCT`] spellings.
    pub others: u64,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCard {
    /// Its name, as the schema spells it.
    pub class: String,
    /// Its flows.
    pub rows: u64,
    /// Its flows by how the file spells it.
    pub spellings: BTreeMap<String, u64>,
}

/// Something odd about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quirk {
    /// A short, stable name.
    pub kind: &'static str,
    /// What it is, in words.
    pub detail: String,
}

/// Reads `input` to its end and describes it; errors and the card speak of it as `source`. Without a `schema` the
/// built-in one is taken that its columns tell.
///
/// # Errors
/// [`Error::Columns`] where no schema is recognised, the one that was given does not fit, or the file is neither CSV
/// nor JSON lines; [`Error::Io`].
pub fn describe(input: impl std::io::Read, source: &str, schema: Option<Schema>) -> Result<DataCard> {
    let refused = |detail: &str| Error::Columns { source_name: source.into(), detail: detail.into() };
    let failed = |reason| Error::Io { path: source.into(), reason };
    let mut lines = LineEndings::new(input);
    let mut buffered = BufReader::with_capacity(1 << 16, &mut lines);
    if let Some(what) = input::no_text(buffered.fill_buf().map_err(failed)?) {
        return Err(refused(&format!("the file is {what}: only CSV and JSON lines are read")));
    }
    let start = input::first_line(&mut buffered).map_err(failed)?.ok_or_else(|| refused("the file is empty"))?;
    let names = columns_of(start.line());
    let (is_given, recognised) = match (schema, &names) {
        (Some(schema), names) => {
            let chosen = Candidate::new(schema, names.as_deref().unwrap_or_default());
            (true, Recognised { chosen, others: Vec::new() })
        }
        (None, Some(names)) => (false, recognise(names, source)?),
        (None, None) => {
            let detail = "the first line is no JSON object whose columns would tell the schema; say which it is";
            return Err(refused(detail));
        }
    };
    let schema = Arc::new(recognised.chosen.schema.clone());
    let input = Cursor::new(start.bytes()).chain(buffered);
    let reader = FlowReader::new(input, source, Arc::clone(&schema), &[]);
    let mut reader = reader.map_err(|error| match error {
        Error::Header { detail } => refused(&detail),
        other => other,
    })?;
    let read = read_all(&mut reader, &schema)?;
    let (columns, given) = (reader.columns().cloned(), reader.given());
    let (skipped, n_recoded) = (reader.skipped(), reader.n_recoded());
    drop(reader);

    let rows = RowCounts {
        read: read.n_flows + read.n_rejected + skipped.repeated_headers + skipped.empty_rows,
        flows: read.n_flows,
        rejected: read.n_rejected,
        repeated_headers: skipped.repeated_headers,
        empty_rows: skipped.empty_rows,
    };
    let labels = label_card(&schema, &given, &read.tallies);
    let tallies = read.tallies.into_iter().enumerate().filter(|(position, _)| given.contains(position));
    let cards = tallies.map(|(position, tally)| {
        let written = columns.as_ref().and_then(|columns| {
            let field = columns.positions().iter().position(|&found| found == Some(position))?;
            Some(columns.names()[field].clone())
        });
        tally.card(&schema.columns()[position], written, read.n_flows)
    });
    let cards: Vec<_> = cards.collect();
    let facts = Facts { has_bom: start.has_bom(), lines: &lines, columns: columns.as_ref(), skipped, n_recoded };
    Ok(DataCard {
        source: source.into(),
        format: if columns.is_some() { "csv" } else { "json-lines" },
        quirks: quirks(&facts, &recognised.chosen, labels.as_ref(), &cards),
        schema: schema_card(recognised, is_given, names.map_or(0, |names| names.len())),
        rows,
        rejected: read.rejected,
        labels,
        columns: cards,
    })
}

/// What reading all records of a file gave.
struct Collected {
    n_flows: u64,
    n_rejected: u64,
    rejected: Vec<Rejected>,
    /// Per column of the schema.
    tallies: Vec<Tally>,
}

fn read_all<R: BufRead>(reader: &mut FlowReader<R>, schema: &Arc<Schema>) -> Result<Collected> {
    /// Flows that are held at a time.
    const BATCH: usize = 256;
    let mut tallies: Vec<_> = schema.columns().iter().map(|column| Tally::new(column.kind)).collect();
    let mut records = FlowRecords::new(Arc::clone(schema));
    let mut rejected: BTreeMap<(&'static str, Option<String>), Rejected> = BTreeMap::new();
    let (mut n_flows, mut n_rejected, mut is_at_end) = (0, 0, false);
    while !is_at_end {
        records.clear();
        while records.len() < BATCH {
            match reader.read(&mut records)? {
                Read::End => {
                    is_at_end = true;
                    break;
                }
                Read::Flow => {}
                Read::Bad(error) => {
                    n_rejected += 1;
                    reject(&mut rejected, &error, reader.line());
                }
            }
        }
        n_flows += records.len() as u64;
        for record in records.iter() {
            for (position, tally) in tallies.iter_mut().enumerate() {
                tally.count(record.row(), schema.slot(position));
            }
        }
    }
    let mut rejected: Vec<_> = rejected.into_values().collect();
    rejected.sort_by_key(|rejected| std::cmp::Reverse(rejected.rows));
    Ok(Collected { n_flows, n_rejected, rejected, tallies })
}

fn reject(rejected: &mut BTreeMap<(&'static str, Option<String>), Rejected>, error: &RecordError, line: u64) {
    let kind = error.kind.code();
    let entry = rejected.entry((kind, error.column.clone())).or_insert_with(|| Rejected {
        kind,
        column: error.column.clone(),
        rows: 0,
        first_line: line,
        first: error.to_string(),
    });
    entry.rows += 1;
}

fn schema_card(recognised: Recognised, is_given: bool, n_columns: usize) -> SchemaCard {
    let others = recognised.others.iter().map(|other| {
        let name = other.schema.name();
        match &other.foreign {
            Some(foreign) => format!("`{name}` is refused for the column {foreign}"),
            None => format!("`{name}` knows {}", other.n_known),
        }
    });
    let others = others.collect();
    let Candidate { schema, n_known, unknown, missing, layout, .. } = recognised.chosen;
    SchemaCard { name: schema.name().into(), is_given, layout, n_columns, n_known, unknown, missing, others }
}

fn label_card(schema: &Schema, given: &[usize], tallies: &[Tally]) -> Option<LabelCard> {
    let labels = schema.labels()?;
    let position = schema.position(&labels.column).filter(|position| given.contains(position))?;
    let Tally::Text(texts) = &tallies[position] else { return None };
    let mut unlabelled = texts.missing;
    let mut classes: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for (spelling, &rows) in &texts.values {
        match labels.class(spelling) {
            Some(class) => *classes.entry(class).or_default().entry(spelling.clone()).or_default() += rows,
            None => unlabelled += rows,
        }
    }
    let classes = classes.into_iter().map(|(class, spellings)| ClassCard {
        class: class.into(),
        rows: spellings.values().sum(),
        spellings,
    });
    let mut classes: Vec<_> = classes.collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.rows));
    let (column, benign) = (labels.column.clone(), labels.benign.clone());
    Some(LabelCard { column, benign, classes, unlabelled, others: texts.others })
}

/// What the bytes of a file tell beside its records.
struct Facts<'a, R> {
    has_bom: bool,
    lines: &'a LineEndings<R>,
    columns: Option<&'a CsvColumns>,
    skipped: Skipped,
    n_recoded: u64,
}

fn quirks<R>(
    facts: &Facts<'_, R>,
    candidate: &Candidate,
    labels: Option<&LabelCard>,
    cards: &[ColumnCard],
) -> Vec<Quirk> {
    let mut quirks = Vec::new();
    let mut found = |kind, detail: String| quirks.push(Quirk { kind, detail });
    let (crlf, lf) = (facts.lines.crlf, facts.lines.lf);
    if facts.has_bom {
        found("bom", "a byte order mark stands at the start".into());
    }
    match (crlf, lf) {
        (0, _) => {}
        (_, 0) => found("crlf", "lines end in CR LF".into()),
        _ => found(
            "mixed_line_endings",
            format!("{} lines end in CR LF, {} in LF", text::grouped(crlf), text::grouped(lf)),
        ),
    }
    if let Some(layout) = &candidate.layout {
        found("no_header", format!("there is no header: the columns are those of the layout `{layout}`"));
    }
    if let Some(columns) = facts.columns {
        let names = columns.names();
        let n_blank = names.iter().filter(|name| name.trim() != name.as_str()).count();
        if n_blank > 0 {
            found("blanks_in_header", format!("blanks stand around {}", text::plural(n_blank as u64, "column name")));
        }
        if let [first, more @ ..] = columns.repeated() {
            let name = names[*first].trim();
            let more = if more.is_empty() { String::new() } else { format!(", and so do {} more", more.len()) };
            let detail = format!("column {}, `{name}`, repeats an earlier one{more}: the first counts", first + 1);
            found("repeated_column", detail);
        }
        let unnamed: Vec<_> = (1..).zip(names).filter(|(_, name)| name.trim().is_empty()).collect();
        if let [(first, _), more @ ..] = &unnamed[..] {
            let more = if more.is_empty() { String::new() } else { format!(", nor have {} more", more.len()) };
            found("unnamed_column", format!("column {first} has no name{more}"));
        }
    }
    if facts.skipped.repeated_headers > 0 {
        let rows = text::plural(facts.skipped.repeated_headers, "row");
        found("repeated_headers", format!("the header stands within the file again: {rows} skipped"));
    }
    if facts.skipped.empty_rows > 0 {
        let rows = text::plural(facts.skipped.empty_rows, "row");
        found("empty_rows", format!("fields are all empty: {rows} skipped"));
    }
    if let (Some(encoding), 1..) = (candidate.schema.encoding(), facts.n_recoded) {
        let values = text::plural(facts.n_recoded, "value");
        found("not_utf8", format!("{values} not in UTF-8, read as {}", encoding.name()));
    }
    let spellings = labels.iter().flat_map(|labels| &labels.classes).flat_map(|class| &class.spellings);
    let odd: Vec<_> = spellings.filter(|(spelling, _)| !spelling.is_ascii()).collect();
    if let Some((spelling, _)) = odd.first() {
        let rows = text::plural(odd.iter().map(|(_, rows)| **rows).sum(), "label");
        found("odd_labels", format!("{rows} with characters beyond ASCII, as in `{}`", text::printable(spelling)));
    }
    let n_not_finite: u64 = cards.iter().filter_map(|card| card.number.as_ref()).map(NumberCard::not_finite).sum();
    if n_not_finite > 0 {
        found("not_finite", format!("{} NaN or infinite: kept as they are", text::plural(n_not_finite, "number")));
    }
    let constant: Vec<_> = cards.iter().filter(|card| card.is_constant).map(|card| card.name.as_str()).collect();
    if !constant.is_empty() {
        let columns = text::plural(constant.len() as u64, "column");
        found("constant_columns", format!("{columns} with one value throughout: {}", constant.join(", ")));
    }
    let empty = cards.iter().filter(|card| card.missing > 0 && card.is_empty() && card.kind != ColumnKind::Label);
    let empty: Vec<_> = empty.map(|card| card.name.as_str()).collect();
    if !empty.is_empty() {
        found(
            "empty_columns",
            format!("{} without any value: {}", text::plural(empty.len() as u64, "column"), empty.join(", ")),
        );
    }
    quirks
}
