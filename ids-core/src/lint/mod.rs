//! The lint of a labelled data set: what makes figures measured on it better than they are.
//!
//! A [`Linter`] is shown every row once, in order, and then tells its [`Finding`]s. `rows` keeps what it is shown:
//! of each distinct row a hash and its classes, and of a uniform sample of at most [`MOST_SAMPLED`] rows the values.
//! `rule` learns the class from one column, `columns` looks at columns, `labels` at rows and classes. What a report
//! looks like as text is in `text`; as JSON it is what `serde` makes of [`Lint`].
//!
//! Why it matters: Arp et al., *Dos and Don'ts of Machine Learning in Computer Security*, USENIX Security 2022; D'hooghe
//! et al., *Establishing the Contaminating Effect of Metadata Feature Inclusion in Machine-Learned Network Intrusion
//! Detection Models*, DIMVA 2022; Engelen et al., *Troubleshooting an Intrusion Detection Dataset*, WTMC 2021.

mod columns;
mod labels;
mod rows;
mod rule;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::record::FlowRecord;
use crate::schema::Schema;

use rows::Rows;

/// Rows whose values are held at most; of a file with more, a uniform sample of half as many or more.
pub const MOST_SAMPLED: usize = 200_000;
/// Balanced accuracy from which on a single column nearly tells attacks from benign flows; 0.5 is guessing.
pub const NEARLY_DECIDES: f64 = 0.9;
/// From which on it decides.
pub const DECIDES: f64 = 0.97;
/// A class of fewer rows cannot be judged: with three tenths of them to test with, each is more than 3 % of its recall.
pub const FEW_ROWS: u64 = 100;

/// What is in a labelled data set that flatters a model, or misleads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lint {
    /// The data set, as its caller names it.
    pub source: String,
    /// Name of the schema.
    pub schema: String,
    /// Labelled rows.
    pub rows: u64,
    /// Of these, rows whose values the findings about columns are from.
    pub sampled: u64,
    /// Rows without a label: not looked at.
    pub unlabelled: u64,
    /// What was found, the severest first.
    pub findings: Vec<Finding>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// A short, stable name.
    pub kind: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The columns or classes that it is about.
    pub about: Vec<String>,
    /// What it is, in words.
    pub detail: String,
    /// Why it matters.
    pub why: &'static str,
    /// Its numbers by name.
    pub figures: BTreeMap<&'static str, f64>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Figures may be better or worse than what they stand for.
    Warning,
    /// Figures are not worth having before this is dealt with.
    Severe,
}

impl Finding {
    fn new(kind: &'static str, severity: Severity, detail: String, why: &'static str) -> Self {
        Self { kind, severity, about: Vec::new(), detail, why, figures: BTreeMap::new() }
    }

    fn about(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.about.extend(names.into_iter().map(Into::into));
        self
    }

    fn figure(mut self, name: &'static str, value: f64) -> Self {
        self.figures.insert(name, value);
        self
    }
}

/// Is shown the rows of a data set.
#[derive(Debug)]
pub struct Linter {
    schema: Arc<Schema>,
    rows: Rows,
    unlabelled: u64,
}

impl Linter {
    /// A linter of flows of `schema`.
    ///
    /// # Errors
    /// [`Error::Columns`] where the schema does not say which column holds the class.
    pub fn new(schema: Arc<Schema>) -> Result<Self> {
        if schema.labels().is_none() {
            let detail = "it does not say which column holds the class, and without classes there is nothing to lint";
            return Err(Error::Columns { source_name: format!("schema `{}`", schema.name()), detail: detail.into() });
        }
        Ok(Self { rows: Rows::new(&schema), schema, unlabelled: 0 })
    }

    /// Shows the next row.
    ///
    /// # Panics
    /// Where it is of another schema.
    pub fn add(&mut self, flow: FlowRecord<'_>) {
        match flow.label() {
            Some(label) => self.rows.add(flow, label),
            None => self.unlabelled += 1,
        }
    }

    /// What was found in `source`.
    ///
    /// # Errors
    /// [`Error::Columns`] where no row had a label.
    pub fn finish(self, source: &str) -> Result<Lint> {
        let Self { schema, rows, unlabelled } = self;
        let Some(labels) = schema.labels().filter(|_| rows.n_rows > 0) else {
            let detail = "no row has a label, and without classes there is nothing to lint";
            return Err(Error::Columns { source_name: source.into(), detail: detail.into() });
        };
        let mut findings = labels::findings(&rows, labels);
        findings.extend(columns::findings(&rows, labels));
        // Those of one severity stay in the order of the rooms.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let (n_rows, sampled) = (rows.n_rows, rows.sample.n_rows() as u64);
        Ok(Lint { source: source.into(), schema: schema.name().into(), rows: n_rows, sampled, unlabelled, findings })
    }
}

impl Lint {
    /// How many findings are of `severity` or above.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity >= severity).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::JsonDecoder;
    use crate::record::FlowRecords;

    const SCHEMA: &str = r#"
        name = "test"
        labels = { column = "class", benign = "benign" }
        columns = [
            { name = "id", kind = "identifier" },
            { name = "leak", kind = "number" },
            { name = "twin", kind = "number" },
            { name = "steps", kind = "number" },
            { name = "seq", kind = "number" },
            { name = "row", kind = "number" },
            { name = "constant", kind = "number" },
            { name = "noise", kind = "number" },
            { name = "state", kind = "category" },
            { name = "class", kind = "label" },
            { name = "is_attack", kind = "label" },
        ]"#;

    /// A number drawn from `seed`, below 2^32.
    fn random(seed: u64) -> f64 {
        let mut x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        (x >> 32) as f64
    }

    /// The first half benign, the second an attack, of which a few are worms.
    fn lint(n: u64) -> Lint {
        let schema = Arc::new(Schema::from_toml(SCHEMA).expect("a schema"));
        let mut records = FlowRecords::new(Arc::clone(&schema));
        let mut decoder = JsonDecoder::new(Arc::clone(&schema), &[]).expect("a decoder");
        for i in 0..n {
            let is_attack = i >= n / 2;
            let class = if i >= n - 20 {
                "worm"
            } else if is_attack {
                "dos"
            } else {
                "benign"
            };
            let leak = if is_attack { 62.0 } else { 30.0 + random(i) % 9.0 };
            let state = if class == "dos" && i % 3 == 0 { "REQ" } else { "FIN" };
            let line = format!(
                r#"{{"id":"{i}","leak":{leak},"twin":{},"steps":{},"seq":{},"row":{},"constant":7,"noise":{},"state":"{state}","class":"{class}","is_attack":"{}"}}"#,
                random(i) % 50.0,
                2.0 * (random(i) % 50.0) + 1.0,
                random(i + n),
                1000 + 2 * i,
                random(i * 3) % 40.0,
                u8::from(is_attack),
            );
            decoder.decode(i, line.as_bytes(), &mut records).expect("a flow");
        }
        // Two rows that are there again, one of them as another class.
        for class in ["benign", "dos", "dos"] {
            let line = format!(
                r#"{{"leak":35,"twin":1,"steps":3,"seq":5,"row":2,"constant":7,"noise":1,"state":"FIN","class":"{class}","is_attack":"1"}}"#
            );
            decoder.decode(n, line.as_bytes(), &mut records).expect("a flow");
        }
        let mut linter = Linter::new(schema).expect("labels");
        for record in records.iter() {
            linter.add(record);
        }
        linter.finish("made up").expect("rows")
    }

    fn found<'l>(lint: &'l Lint, kind: &str) -> Vec<&'l Finding> {
        lint.findings.iter().filter(|finding| finding.kind == kind).collect()
    }

    #[test]
    fn what_is_wrong_is_found_and_nothing_else() {
        let lint = lint(4_000);
        let about = |kind: &str| found(&lint, kind).iter().map(|f| f.about.join(" ")).collect::<Vec<_>>();
        assert_eq!(about("decides_alone"), ["leak", "row"]);
        assert_eq!(about("identifier_decides"), ["id"]);
        assert_eq!(about("rises_with_row"), ["row"]);
        assert_eq!(about("random_number"), ["seq"]);
        assert_eq!(about("constant"), ["constant"]);
        assert_eq!(about("same_order"), ["twin steps"]);
        assert_eq!(about("same_values"), [""; 0]);
        assert_eq!(about("value_decides"), ["state"]);
        assert_eq!(about("few_rows"), ["worm"]);
        let [twins] = found(&lint, "duplicates")[..] else { panic!("one finding") };
        assert_eq!((twins.figures["rows"], twins.figures["groups"]), (2.0, 1.0));
        // Of three equal rows with 30 % to test: 3 * 0.3 * (1 - 0.3^2).
        assert!((twins.figures["straddling"] - 0.819).abs() < 1e-9, "{twins:?}");
        let [conflict] = found(&lint, "contradiction")[..] else { panic!("one finding") };
        assert_eq!(conflict.figures["rows"], 3.0);
        assert_eq!(conflict.figures["best_accuracy"], 4_002.0 / 4_003.0);
        // One row of class benign has is_attack 1, so the class does not tell it; nor does it tell the class.
        assert_eq!(about("labels_tell"), [""; 0]);
        assert_eq!((lint.rows, lint.sampled, lint.unlabelled), (4_003, 4_003, 0));
    }

    #[test]
    fn the_severest_stand_first_and_are_counted() {
        let lint = lint(4_000);
        assert!(lint.findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
        assert_eq!(lint.count(Severity::Note), lint.findings.len());
        let severe = lint.findings.iter().filter(|finding| finding.severity == Severity::Severe).count();
        assert!(severe > 0 && lint.count(Severity::Severe) == severe);
    }

    #[test]
    fn a_report_reads() {
        let text = lint(4_000).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        for expected in ["4,003 labelled rows", "severe", "`leak`", "balanced accuracy", "1.00"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    /// More rows than are held: the sample is uniform and its findings are those of all.
    #[test]
    fn of_many_rows_a_sample_is_looked_at() {
        let lint = lint(MOST_SAMPLED as u64 + 5_000);
        assert!((MOST_SAMPLED as u64 / 3..=MOST_SAMPLED as u64).contains(&lint.sampled), "{}", lint.sampled);
        assert_eq!(found(&lint, "decides_alone").len(), 2);
        assert_eq!(found(&lint, "duplicates")[0].figures["rows"], 2.0);
    }

    #[test]
    fn without_classes_there_is_nothing_to_lint() {
        let schema = Arc::new(Schema::from_toml(SCHEMA).expect("a schema"));
        assert!(Linter::new(schema).expect("labels").finish("x").expect_err("no rows").to_string().contains("no row"));
        let plain = SCHEMA.replace(r#"labels = { column = "class", benign = "benign" }"#, "");
        let schema = Arc::new(Schema::from_toml(&plain).expect("a schema"));
        assert!(Linter::new(schema).expect_err("no labels").to_string().contains("column holds the class"));
    }
}
