//! Which column each field of a CSV row belongs to.

use super::Named;
use crate::error::{Error, Result};
use crate::schema::Schema;

/// Which column each field of a row belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvColumns {
    names: Vec<String>,
    positions: Vec<Option<usize>>,
    repeated: Vec<usize>,
    /// How the columns were found, for messages.
    source: String,
}

impl CsvColumns {
    /// The columns that a header names.
    ///
    /// # Errors
    /// [`Error::Header`] where it names no column of the schema, one twice, or one of another data set.
    pub fn from_header<S: AsRef<str>>(schema: &Schema, header: &[S]) -> Result<Self> {
        let named = Named::new(schema, header).map_err(|detail| Error::Header { detail })?;
        if named.positions.iter().all(Option::is_none) {
            let detail = format!("it names no column of schema `{}`", schema.name());
            return Err(Error::Header { detail });
        }
        Ok(Self {
            names: header.iter().map(|name| name.as_ref().to_owned()).collect(),
            positions: named.positions,
            repeated: named.repeated,
            source: "the CSV header".into(),
        })
    }

    /// The columns of the header-less layout called `name` in the schema.
    ///
    /// # Errors
    /// [`Error::Header`] where the schema has no such layout.
    pub fn layout(schema: &Schema, name: &str) -> Result<Self> {
        let names = schema.layout(name).ok_or_else(|| Error::Header {
            detail: format!("schema `{}` has no layout called `{name}`", schema.name()),
        })?;
        Ok(Self { source: format!("the layout `{name}`"), ..Self::from_header(schema, names)? })
    }

    /// The columns of a file whose first row has the fields `first`, and whether that row is a header (see
    /// [`Schema::is_header`]); else the layout with as many columns is taken.
    pub(super) fn detect<S: AsRef<str>>(schema: &Schema, first: &[S]) -> Result<(Self, bool)> {
        if schema.is_header(first) {
            return Ok((Self::from_header(schema, first)?, true));
        }
        match schema.layout_of_width(first.len()) {
            Some((layout, _)) => Ok((Self::layout(schema, layout)?, false)),
            None => {
                let detail = format!(
                    "the first row names no column of schema `{}`, and no layout without a header has {} columns",
                    schema.name(),
                    first.len()
                );
                Err(Error::Header { detail })
            }
        }
    }

    /// The name of each field, as the header or layout spells it.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Position in the schema of each field; `None` for one that the schema does not know, or that was there before.
    pub fn positions(&self) -> &[Option<usize>] {
        &self.positions
    }

    /// The fields that repeat an earlier one (see [`Column::repeated`](crate::schema::Column::repeated)): ignored.
    pub fn repeated(&self) -> &[usize] {
        &self.repeated
    }

    /// How the columns were found, for messages.
    pub(super) fn source(&self) -> &str {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_there_twice_counts_once() {
        let schema = Schema::named("cicflowmeter").expect("built in");
        for second in [" Fwd Header Length", "Fwd Header Length.1", "Fwd Header Length2", "fwd_header_length"] {
            let header = [" Fwd Header Length", "Idle Min", second, "mood"];
            let columns = CsvColumns::from_header(&schema, &header).expect("a header");
            let expected = [schema.position("fwd_header_len"), schema.position("idle_min"), None, None];
            assert_eq!((columns.positions(), columns.repeated()), (&expected[..], &[2][..]), "{second}");
        }
        let error = CsvColumns::from_header(&schema, &["Idle Min", "idle_min"]).expect_err("twice");
        assert!(error.to_string().contains("`idle_min` is there twice"), "{error}");
    }

    #[test]
    fn columns_of_other_meters_are_refused() {
        let schema = Schema::named("cicflowmeter").expect("built in");
        let error = CsvColumns::from_header(&schema, &["flow_duration", "CWR_flag_count "]).expect_err("seconds");
        assert!(error.to_string().contains("take the schema `cicflowmeter-python`"), "{error}");
        CsvColumns::from_header(&schema, &["flow_duration", "CWR Flag Count"]).expect("version 4 of the Java meter");
    }

    #[test]
    fn values_that_are_names_make_no_header() {
        let schema = Schema::named("nsl-kdd").expect("built in");
        let row: Vec<_> = (0..43).map(|field| if field == 41 { "land" } else { "0" }).collect();
        let (columns, is_header) = CsvColumns::detect(&schema, &row).expect("a layout");
        assert!(!is_header && columns.names()[41] == "label");
        let (_, is_header) = CsvColumns::detect(&schema, columns.names()).expect("a header");
        assert!(is_header);
    }

    #[test]
    fn a_header_of_few_known_names_is_no_row_of_a_layout() {
        let schema = Schema::named("unsw-nb15").expect("built in");
        let (_, layout) = schema.layout_of_width(49).expect("the raw files");
        let header: Vec<_> =
            layout.iter().rev().enumerate().map(|(i, name)| if i < 20 { name.as_str() } else { "mine" }).collect();
        assert!(schema.is_header(&header));
        assert!(!schema.is_header(&["1.5"; 49]) && !schema.is_header(&["dur"; 0]));
    }
}
