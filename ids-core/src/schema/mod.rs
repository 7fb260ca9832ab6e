//! What a data set's columns are called and what they hold: THE table, read from one TOML text.
//!
//! Decoders, models, alerts and documentation take names from here and nowhere else. Schemas of the
//! common data sets are built in ([`Schema::built_in`]); a user's own is a file of the same form (see
//! [`Schema::from_toml`]). Which of them a file is of, [`recognise`] tells. How a column's value is read
//! from bytes is the business of [`decode`](crate::decode).

mod encoding;
mod recognise;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rows::{DataType, Field, Fields, Slot};

pub use encoding::Encoding;
pub use recognise::{Candidate, Recognised, recognise};

/// The schemas that come with the library, in the order in which they are tried.
static BUILT_IN: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let texts = [
        include_str!("unsw-nb15.toml"),
        include_str!("cicflowmeter.toml"),
        include_str!("cicflowmeter-python.toml"),
        include_str!("nsl-kdd.toml"),
    ];
    texts.map(|text| Schema::from_toml(text).expect("the built-in schemas are valid: a test reads them")).into()
});

/// A data set's columns, the layouts of its files without a header, and its labels.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Definition", into = "Definition")]
pub struct Schema {
    name: String,
    columns: Vec<Column>,
    labels: Option<Labels>,
    layouts: BTreeMap<String, Vec<String>>,
    loose_names: bool,
    encoding: Option<Encoding>,
    /// Lower-case name -> why a source with a column of that name is another data set's.
    foreign: BTreeMap<String, String>,
    /// The columns as a batch of records holds them, in the same order.
    fields: Arc<Fields>,
}

/// One column of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name that models and messages use.
    pub name: String,
    /// Other names the same column has in other files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What the column holds.
    pub kind: ColumnKind,
    /// Unit of a number, e.g. `s` or `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The Elastic Common Schema field that carries the value in an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs: Option<String>,
    /// An optional column may be absent from a record; it is then missing, and the model's own
    /// pipeline (its imputer) decides what that means.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Sources may give the column more than once, with the same values each time: the first counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// How to compute the column where a record does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derive: Option<Derivation>,
}

/// What a column holds, hence how its values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// A double.
    Number,
    /// A whole number, up to 2^53: a column that Spark read as one of its integer types.
    Integer,
    /// Text with few distinct values, compared exactly.
    Category,
    /// The class of the flow, for evaluation only: never an input of a model.
    Label,
    /// Names the flow (an address, a row number): carried along, never an input of a model.
    Identifier,
}

impl ColumnKind {
    /// Whether values are numbers.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Number | Self::Integer)
    }
}

/// The rule by which an absent column is computed from others of the same record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule", deny_unknown_fields)]
pub enum Derivation {
    /// `(sum of packets - 1) / duration`, 0 where the duration is 0, missing where an operand is.
    /// This is how UNSW-NB15's partition computed `rate`.
    PacketRate {
        /// Columns that count packets.
        packets: Vec<String>,
        /// Column with the duration of the flow, in seconds.
        duration: String,
    },
}

impl Derivation {
    /// Names of the columns that the rule reads.
    pub fn operands(&self) -> impl Iterator<Item = &str> {
        let Self::PacketRate { packets, duration } = self;
        packets.iter().map(String::as_str).chain([duration.as_str()])
    }
}

/// Which column holds the class of a flow, and how to read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The column with the class.
    pub column: String,
    /// The class that is no attack.
    pub benign: String,
    /// The class that an empty label stands for; without it, an empty label is a missing one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blank: Option<String>,
    /// Other spellings of a class. What stands for the empty text is no class, as an empty label is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

impl Labels {
    /// The class that `text` names: blanks around it ignored, aliases resolved.
    pub fn class<'a>(&'a self, text: &'a str) -> Option<&'a str> {
        let trimmed = text.trim();
        match self.aliases.get(trimmed).map_or(trimmed, String::as_str) {
            "" => self.blank.as_deref(),
            class => Some(class),
        }
    }
}

/// A schema as its file holds it, before validation.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    layouts: BTreeMap<String, Vec<String>>,
    /// Names match by their letters and digits alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    loose_names: bool,
    /// What text is that is not UTF-8; without it, such a record is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
    /// Columns of other data sets that share names with this one, and what is to be said of a source with them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    foreign: BTreeMap<String, String>,
    columns: Vec<Column>,
}

impl From<Schema> for Definition {
    fn from(schema: Schema) -> Self {
        let Schema { name, columns, labels, layouts, loose_names, encoding, foreign, fields: _ } = schema;
        Self { name, labels, layouts, loose_names, encoding, foreign, columns }
    }
}

impl TryFrom<Definition> for Schema {
    type Error = Error;

    fn try_from(definition: Definition) -> Result<Self> {
        let Definition { name, labels, layouts, loose_names, encoding, foreign, columns } = definition;
        let invalid = |detail: String| Error::Schema { schema: name.clone(), detail };
        if columns.is_empty() {
            return Err(invalid("it has no columns".into()));
        }
        let source = format!("schema `{name}`");
        let mut fields = if loose_names { Fields::loose(source) } else { Fields::new(source) };
        for column in &columns {
            let field = Field {
                name: column.name.clone(),
                data_type: match column.kind {
                    ColumnKind::Number => DataType::Double,
                    ColumnKind::Integer => DataType::Integer,
                    ColumnKind::Category | ColumnKind::Label | ColumnKind::Identifier => DataType::Text,
                },
                is_input: !matches!(column.kind, ColumnKind::Label | ColumnKind::Identifier),
            };
            fields.push(field, &column.aliases).map_err(invalid)?;
        }
        let find = |wanted: &str| fields.position(wanted).map(|position| &columns[position]);
        for column in &columns {
            for operand in column.derive.iter().flat_map(Derivation::operands) {
                match find(operand) {
                    Some(found) if found.kind.is_number() && found.derive.is_none() => {}
                    Some(_) => {
                        let detail = format!("`{}` is derived from `{operand}`, which is no plain number", column.name);
                        return Err(invalid(detail));
                    }
                    None => {
                        let detail = format!("`{}` is derived from `{operand}`, which it does not have", column.name);
                        return Err(invalid(detail));
                    }
                }
            }
            if column.derive.is_some() && column.kind != ColumnKind::Number {
                return Err(invalid(format!("`{}` is derived but is not a number", column.name)));
            }
        }
        if let Some(labels) = &labels
            && find(&labels.column).is_none_or(|column| column.kind != ColumnKind::Label)
        {
            return Err(invalid(format!("the label column `{}` is no column of kind label", labels.column)));
        }
        let mut widths: Vec<_> = layouts.values().map(Vec::len).collect();
        widths.sort_unstable();
        if widths.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(invalid("two layouts have the same number of columns and cannot be told apart".into()));
        }
        let foreign = foreign.into_iter().map(|(name, why)| (name.to_ascii_lowercase(), why)).collect();
        Ok(Self { name, columns, labels, layouts, loose_names, encoding, foreign, fields: Arc::new(fields) })
    }
}

impl Schema {
    /// UNSW-NB15: the 45-column partition and the raw 49-column files.
    pub fn unsw_nb15() -> Self {
        BUILT_IN[0].clone()
    }

    /// The schemas that come with the library: `unsw-nb15`, `cicflowmeter`, `cicflowmeter-python`, `nsl-kdd`.
    pub fn built_in() -> Vec<Self> {
        BUILT_IN.clone()
    }

    /// Reads the text of a schema file. The built-in ones, `ids-core/src/schema/*.toml`, are examples.
    ///
    /// # Errors
    /// [`Error::Schema`] names what is wrong: TOML syntax (with line and column), an unknown key, a
    /// name used twice, a derivation from a column that is not there.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::Schema { schema: "file".into(), detail: error.to_string() })
    }

    /// The built-in schema of that name, or else the schema in the file of that path.
    ///
    /// # Errors
    /// As [`Schema::from_toml`], or [`Error::Io`] where there is neither.
    pub fn named(name_or_path: &str) -> Result<Self> {
        if let Some(schema) = Self::built_in().into_iter().find(|schema| schema.name == name_or_path) {
            return Ok(schema);
        }
        let path = Path::new(name_or_path);
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        Self::from_toml(&text).map_err(|error| match error {
            Error::Schema { detail, .. } => Error::Schema { schema: name_or_path.into(), detail },
            other => other,
        })
    }

    /// The schema's name, e.g. `unsw-nb15`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All columns, in the order of the file that defines them.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns as a batch of records holds them, in the same order.
    pub fn fields(&self) -> &Arc<Fields> {
        &self.fields
    }

    /// Position of the column of that name or alias (ASCII case ignored, with `loose_names` blanks and punctuation too).
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.position(name)
    }

    /// Why a source that has a column of that name is of another data set, if it is.
    pub fn foreign(&self, name: &str) -> Option<&str> {
        // Most schemas share their names with no other.
        if self.foreign.is_empty() {
            return None;
        }
        self.foreign.get(&name.trim().to_ascii_lowercase()).map(String::as_str)
    }

    /// What text of its sources is that is not UTF-8, if the schema says so.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// Whether a row of a CSV file with these fields is a header: whether it names columns. Values may be names too
    /// (`land` is a column of NSL-KDD and an attack), so where a layout without a header is as wide, it must not read as
    /// values of that.
    pub fn is_header<S: AsRef<str>>(&self, fields: &[S]) -> bool {
        let fields: Vec<_> = fields.iter().map(|field| field.as_ref().trim()).collect();
        if fields.iter().all(|name| self.position(name).is_none()) {
            return false;
        }
        let Some((_, layout)) = self.layout_of_width(fields.len()) else { return true };
        let is_number = |name: &String| {
            self.position(name).is_some_and(|position| self.columns[position].kind == ColumnKind::Number)
        };
        let mut numbers = layout.iter().zip(&fields).filter(|(name, _)| is_number(name));
        numbers.any(|(_, field)| !field.is_empty() && field.parse::<f64>().is_err())
    }

    /// Where a record keeps the value of the column at `position`.
    pub fn slot(&self, position: usize) -> Slot {
        self.fields.slot(position)
    }

    /// How classes are named, if the data set is labelled.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// Column names, in order, of the header-less layout with `n_columns` columns.
    pub fn layout_of_width(&self, n_columns: usize) -> Option<(&str, &[String])> {
        let found = self.layouts.iter().find(|(_, names)| names.len() == n_columns);
        found.map(|(name, names)| (name.as_str(), names.as_slice()))
    }

    /// Column names, in order, of the header-less layout called `name`.
    pub fn layout(&self, name: &str) -> Option<&[String]> {
        self.layouts.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsw_nb15_covers_both_shapes() {
        let schema = Schema::unsw_nb15();
        assert_eq!(schema.layout("raw").expect("raw layout").len(), 49);
        for name in schema.layout("raw").expect("raw layout") {
            assert!(schema.position(name).is_some(), "{name}");
        }
        assert_eq!(schema.position("Sintpkt"), schema.position("sinpkt"));
        // 39 numbers and 3 categories are the features of the 45-column partition.
        let of_kind = |kind| schema.columns().iter().filter(|column| column.kind == kind).count();
        assert_eq!((of_kind(ColumnKind::Number), of_kind(ColumnKind::Category)), (39, 3));
    }

    #[test]
    fn labels_are_trimmed_and_unified() {
        let schema = Schema::unsw_nb15();
        let labels = schema.labels().expect("labelled");
        assert_eq!(labels.class(" Fuzzers "), Some("Fuzzers"));
        assert_eq!(labels.class("Backdoors"), Some("Backdoor"));
        assert_eq!(labels.class(""), Some("Normal"));
    }

    #[test]
    fn built_in_schemas_round_trip_through_their_definitions() {
        for schema in Schema::built_in() {
            let text = toml::to_string(&schema).expect("serialises");
            let read = Schema::from_toml(&text).expect("reads back");
            assert_eq!(read.columns(), schema.columns());
            assert_eq!((read.encoding(), &read.foreign), (schema.encoding(), &schema.foreign));
            for name in schema.layouts.values().flatten() {
                assert!(schema.position(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn names_of_labels_are_of_classes() {
        for schema in Schema::built_in() {
            let labels = schema.labels().expect("labelled");
            for class in labels.aliases.values() {
                assert!(!labels.aliases.contains_key(class), "{}: `{class}` has an alias itself", schema.name());
            }
        }
        let schema = Schema::named("cicflowmeter").expect("built in");
        let labels = schema.labels().expect("labelled");
        for dash in ["-", "\u{96}", "\u{2013}", "\u{fffd}", "\u{ef}\u{bf}\u{bd}"] {
            for (attack, class) in [("XSS", "XSS"), ("Brute Force", "Brute Force"), ("Sql Injection", "SQL Injection")]
            {
                let text = format!("Web Attack {dash} {attack}");
                assert_eq!(labels.class(&text).expect("a class"), format!("Web Attack - {class}"));
            }
        }
        assert_eq!((labels.class("No Label"), labels.class("DDoS")), (None, Some("DDoS")));
    }

    #[test]
    fn refuses_what_is_wrong_and_says_why() {
        let cases = [
            ("name = 'x'\ncolumns = []", "no columns"),
            ("name = 'x'\n[[columns]]\nname = 'a'\nkind = 'number'\ncolour = 1", "unknown field `colour`"),
            (
                "name = 'x'\n[[columns]]\nname = 'a'\nkind = 'number'\n[[columns]]\nname = 'A'\nkind = 'number'",
                "`A` is used twice",
            ),
            (
                "name = 'x'\n[[columns]]\nname = 'a'\nkind = 'number'\nderive = { rule = 'packet_rate', packets = ['p'], duration = 'd' }",
                "derived from `p`",
            ),
            (
                "name = 'x'\n[labels]\ncolumn = 'c'\nbenign = 'b'\n[[columns]]\nname = 'a'\nkind = 'number'",
                "label column `c`",
            ),
        ];
        for (text, expected) in cases {
            let message = Schema::from_toml(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
