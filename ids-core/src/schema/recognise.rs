//! Which built-in schema a source is of, told by the names of its columns.

use super::Schema;
use crate::error::{Error, Result};

/// How much a schema and a source have in common.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The schema.
    pub schema: Schema,
    /// How many columns of the source it knows.
    pub n_known: usize,
    /// Columns of the source that it does not know.
    pub unknown: Vec<String>,
    /// Columns that a model may take and the source does not have.
    pub missing: Vec<String>,
    /// How many columns there are that a model may take.
    pub n_inputs: usize,
    /// The layout by which the source was recognised, where it has no header.
    pub layout: Option<String>,
    /// Why the source is of another data set, although names are known.
    pub foreign: Option<String>,
    /// How often a known column of the source stands before one that it follows in the schema.
    pub n_out_of_order: usize,
}

/// The schema of a source, and the others that knew some of its columns.
#[derive(Debug, Clone)]
pub struct Recognised {
    /// The schema that fits, and knows the most columns.
    pub chosen: Candidate,
    /// The others that fit or are refused because of a foreign column, the nearest first.
    pub others: Vec<Candidate>,
}

impl Candidate {
    /// Compares `schema` with a source whose columns have these names; or, without a header, with these values.
    pub fn new<S: AsRef<str>>(schema: Schema, names: &[S]) -> Self {
        let layout = match schema.layout_of_width(names.len()) {
            Some((layout, _)) if !schema.is_header(names) => Some(layout.to_owned()),
            _ => None,
        };
        let n_names = names.len();
        let names: Vec<_> = match layout.as_ref().and_then(|layout| schema.layout(layout)) {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => names.iter().map(|name| name.as_ref().trim()).collect(),
        };
        let mut is_given = vec![false; schema.columns().len()];
        let (mut unknown, mut positions) = (Vec::new(), Vec::new());
        for &name in &names {
            match schema.position(name) {
                Some(position) => {
                    is_given[position] = true;
                    positions.push(position);
                }
                None => unknown.push(name.to_owned()),
            }
        }
        let n_out_of_order = positions.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let foreign = names.iter().find_map(|name| schema.foreign(name).map(|why| format!("`{name}`: {why}")));
        let inputs = schema.fields().iter().zip(schema.columns()).zip(is_given);
        let inputs: Vec<_> = inputs.filter(|((field, column), _)| field.is_input && column.derive.is_none()).collect();
        let missing = inputs.iter().filter(|(_, given)| !given).map(|((field, _), _)| field.name.clone()).collect();
        let n_inputs = inputs.len();
        Self { n_known: n_names - unknown.len(), unknown, missing, n_inputs, layout, foreign, n_out_of_order, schema }
    }

    /// Whether the source is one of the schema's: it knows at least half of the columns, at least half of those that
    /// a model may take are there, and none is foreign.
    pub fn fits(&self) -> bool {
        self.foreign.is_none() && self.is_near()
    }

    fn is_near(&self) -> bool {
        self.n_known >= self.unknown.len() && 2 * self.missing.len() <= self.n_inputs
    }
}

/// The built-in schema of a source whose columns, or without a header the values of whose first row, are `names`.
/// `source_name` is what messages call the source.
///
/// # Errors
/// [`Error::Columns`] where none fits, with what the nearest one lacks, or where two fit.
pub fn recognise<S: AsRef<str>>(names: &[S], source_name: &str) -> Result<Recognised> {
    let mut candidates: Vec<_> = Schema::built_in().into_iter().map(|schema| Candidate::new(schema, names)).collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse((candidate.fits(), candidate.is_near(), candidate.n_known)));
    let refused = |detail: String| {
        let detail = format!("{detail}; say which schema it is: a name or a file (docs/schema-file.md)");
        Err(Error::Columns { source_name: source_name.into(), detail })
    };
    match &candidates[..] {
        // That one knows a column more (`id`, say) does not tell what the others mean.
        [first, second, ..] if second.fits() => {
            let (a, b) = (first.schema.name(), second.schema.name());
            refused(format!(
                "schemas `{a}` and `{b}` both know {} of its columns, and mean other things",
                second.n_known
            ))
        }
        // Early versions of a meter may write another's name for a column, but not in its order.
        [first, second, ..] if first.fits() && second.is_near() && second.n_out_of_order < first.n_out_of_order => {
            let (a, b) = (first.schema.name(), second.schema.name());
            refused(format!(
                "its columns stand in the order of schema `{b}`, which refuses the column {}; `{a}` knows them too, and means other things",
                second.foreign.as_deref().unwrap_or_default()
            ))
        }
        [first, ..] if first.fits() => {
            let mut candidates = candidates.into_iter();
            let chosen = candidates.next().expect("there is a first");
            Ok(Recognised { chosen, others: candidates.filter(Candidate::is_near).collect() })
        }
        [nearest, ..] => refused(nearest.refusal(names.len())),
        [] => refused("there is no built-in schema".into()),
    }
}

impl Candidate {
    /// Why the schema does not fit a source of `n_columns`.
    fn refusal(&self, n_columns: usize) -> String {
        let name = self.schema.name();
        if let Some(foreign) = self.foreign.as_ref().filter(|_| self.is_near()) {
            return format!("schema `{name}` is not that of a source with the column {foreign}");
        }
        if self.n_known == 0 {
            return format!(
                "no built-in schema knows one of its columns, nor a layout without a header of {n_columns}"
            );
        }
        format!(
            "no built-in schema fits; the nearest, `{name}`, knows {} of {n_columns} columns, not {}, and misses {} of {} that a model may take: {}",
            self.n_known,
            some_of(&self.unknown),
            self.missing.len(),
            self.n_inputs,
            some_of(&self.missing)
        )
    }
}

/// The first of `names`, and how many more there are.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{}`", name.escape_debug())).collect();
    match names.len().saturating_sub(SHOWN) {
        0 if names.is_empty() => "none".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(schema: &str) -> Vec<String> {
        let schema = Schema::named(schema).expect("built in");
        schema.columns().iter().map(|column| column.name.clone()).collect()
    }

    fn refused(names: &[String]) -> String {
        recognise(names, "flows.csv").expect_err("refused").to_string()
    }

    #[test]
    fn each_schema_recognises_its_own_names() {
        for schema in Schema::built_in() {
            let found = recognise(&names_of(schema.name()), "test").expect("recognised");
            assert_eq!(found.chosen.schema.name(), schema.name());
            assert!(found.chosen.unknown.is_empty() && found.chosen.missing.is_empty());
        }
    }

    #[test]
    fn meters_of_the_same_names_are_told_apart_or_it_is_said_that_they_cannot_be() {
        let python = names_of("cicflowmeter-python");
        let found = recognise(&python, "test").expect("recognised");
        assert_eq!(found.others.len(), 1);
        assert!(found.others[0].foreign.as_ref().is_some_and(|why| why.contains("in seconds")));

        let without: Vec<_> = python.into_iter().filter(|name| name != "cwr_flag_count").collect();
        let message = refused(&without);
        assert!(message.contains("`cicflowmeter` and `cicflowmeter-python` both know 82"), "{message}");
        let with_id: Vec<_> = without.iter().cloned().chain(["id".into()]).collect();
        assert!(refused(&with_id).contains("both know 82"), "a column more tells nothing");

        let early: Vec<_> = without.into_iter().chain(["cwe_flag_count".into()]).collect();
        let message = refused(&early);
        assert!(message.contains("order of schema `cicflowmeter-python`, which refuses the column `cwe_flag_count`"));
        let mut java = early;
        let schema = Schema::named("cicflowmeter").expect("built in");
        java.sort_by_key(|name| schema.position(name));
        assert_eq!(recognise(&java, "test").expect("recognised").chosen.schema.name(), "cicflowmeter");
    }

    #[test]
    fn what_fits_no_schema_is_told_the_nearest() {
        let names: Vec<_> = names_of("unsw-nb15").into_iter().take(20).chain(["colour".into()]).collect();
        let message = refused(&names);
        for expected in ["flows.csv: ", "nearest, `unsw-nb15`, knows 20 of 21", "not `colour`", "`sloss`", "21 more"] {
            assert!(message.contains(expected), "{expected} in {message}");
        }
        assert!(refused(&["a".into(), "-".into()]).contains("without a header of 2"));
        let rusti = names_of("cicflowmeter").into_iter().chain(["TCP Handshake Completed".into()]).collect::<Vec<_>>();
        assert!(refused(&rusti).contains("population"));
    }

    #[test]
    fn rows_without_a_header_are_known_by_their_width() {
        let mut row = vec!["0".to_owned(); 43];
        row[41] = "land".into();
        let found = recognise(&row, "test").expect("recognised");
        assert_eq!(found.chosen.layout.as_deref(), Some("with-difficulty"));
        assert_eq!((found.chosen.schema.name(), found.chosen.n_known), ("nsl-kdd", 43));
        assert!(refused(&vec!["0".to_owned(); 44]).contains("without a header of 44"));
    }
}
