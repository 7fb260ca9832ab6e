//! Typed rows from Parquet files, as Spark writes them: one file, or a directory of parts.
//!
//! Numbers, booleans, strings and spark.ml's vectors are read; columns of other types (dates, decimals,
//! nested ones) are left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::{Error, Result};
use crate::rows::{DataType, Field, Fields, NewRow, Rows, Slot, Vector};
use crate::table::{self, LeafType, Table};

/// Reads Parquet files row group by row group.
pub struct ParquetReader {
    /// The files still to be opened, the next one last.
    parts: Vec<PathBuf>,
    open: Option<OpenPart>,
    fields: Arc<Fields>,
    n_rows: u64,
}

struct OpenPart {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    next_group: usize,
}

impl ParquetReader {
    /// Opens the file or directory at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::SparkFormat`] names the file that cannot be read, or the column whose name
    /// is used twice.
    pub fn open(path: &Path) -> Result<Self> {
        let mut parts = table::parts(path)?;
        let mut n_rows = 0;
        let mut lengths = BTreeMap::new();
        let mut names = None;
        for part in &parts {
            let reader = table::open(part)?;
            n_rows += u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
            let names = names.get_or_insert_with(|| column_types(&reader));
            measure_vectors(part, &reader, names, &mut lengths)?;
        }
        let mut fields = Fields::new(path.display().to_string());
        for (name, column) in names.unwrap_or_default() {
            let data_type = match column {
                ColumnType::Scalar(LeafType::Boolean) => DataType::Boolean,
                ColumnType::Scalar(LeafType::Integer) => DataType::Integer,
                ColumnType::Scalar(LeafType::Float) => DataType::Float,
                ColumnType::Scalar(LeafType::Double) => DataType::Double,
                ColumnType::Scalar(LeafType::Text) => DataType::Text,
                ColumnType::Scalar(LeafType::Other) | ColumnType::Other => continue,
                ColumnType::Vector => DataType::Vector(lengths.get(&name).copied().unwrap_or(0)),
            };
            let field = Field { name, data_type, is_input: true };
            fields.push(field, &[]).map_err(|detail| Error::spark(path, detail))?;
        }
        parts.reverse();
        Ok(Self { parts, open: None, fields: Arc::new(fields), n_rows })
    }

    /// The columns.
    pub fn fields(&self) -> &Arc<Fields> {
        &self.fields
    }

    /// How many rows all files have.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Appends the rows of the next row group, with the columns for which `is_wanted` holds of their name;
    /// the others are missing in all rows. Says whether there was one.
    ///
    /// # Errors
    /// As [`ParquetReader::open`]; also where a file lacks a column that the first one has.
    pub fn read(&mut self, rows: &mut Rows, is_wanted: impl Fn(&str) -> bool) -> Result<bool> {
        loop {
            let Some(part) = &mut self.open else {
                let Some(path) = self.parts.pop() else { return Ok(false) };
                let reader = table::open(&path)?;
                self.open = Some(OpenPart { path, reader, next_group: 0 });
                continue;
            };
            if part.next_group == part.reader.num_row_groups() {
                self.open = None;
                continue;
            }
            let table = Table::read_group(&part.path, &part.reader, part.next_group, &is_wanted)?;
            part.next_group += 1;
            append(&table, &self.fields, rows, &is_wanted)?;
            return Ok(true);
        }
    }
}

/// A column of a group, on its way into rows.
enum Column {
    Numbers(usize, Vec<Option<f64>>),
    Texts(usize, Vec<Option<String>>),
    Vectors(usize, Vec<Option<Vector>>),
}

fn append(table: &Table, fields: &Fields, rows: &mut Rows, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut columns = Vec::new();
    for (position, field) in fields.iter().enumerate().filter(|(_, field)| is_wanted(&field.name)) {
        columns.push(match fields.slot(position) {
            Slot::Number(slot) => Column::Numbers(slot, table.optional_doubles(&field.name)?),
            Slot::Text(slot) => Column::Texts(slot, table.optional_texts(&field.name)?),
            Slot::Vector(slot) => Column::Vectors(slot, table.vectors(&field.name)?),
        });
    }
    for row in 0..table.n_rows() {
        let mut new = rows.new_row();
        columns.iter_mut().for_each(|column| column.give(row, &mut new));
        new.keep();
    }
    Ok(())
}

impl Column {
    /// Hands the value of `row` over.
    fn give(&mut self, row: usize, to: &mut NewRow<'_>) {
        match self {
            Self::Numbers(slot, values) => {
                if let Some(value) = values[row] {
                    to.set_number(*slot, value);
                }
            }
            Self::Texts(slot, values) => {
                if let Some(value) = &values[row] {
                    to.set_text(*slot, value);
                }
            }
            Self::Vectors(slot, values) => {
                if let Some(value) = values[row].take() {
                    to.set_vector(*slot, value);
                }
            }
        }
    }
}

/// What a top-level column is.
#[derive(Clone, Copy, PartialEq)]
enum ColumnType {
    Scalar(LeafType),
    Vector,
    Other,
}

/// The top-level columns of a file.
fn column_types(reader: &SerializedFileReader<File>) -> Vec<(String, ColumnType)> {
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns: Vec<(String, ColumnType)> = Vec::new();
    for leaf in schema.columns() {
        let path = leaf.path().parts();
        match path {
            [name] if leaf.max_rep_level() == 0 => {
                columns.push((name.clone(), ColumnType::Scalar(LeafType::of(leaf))));
            }
            [name, ..] if columns.last().is_none_or(|(last, _)| last != name) => {
                let fields = schema.columns().iter().filter(|leaf| leaf.path().parts().first() == Some(name));
                let fields: Vec<_> = fields.filter_map(|leaf| leaf.path().parts().get(1)).collect();
                let is_vector = fields == ["type", "size", "indices", "values"];
                columns.push((name.clone(), if is_vector { ColumnType::Vector } else { ColumnType::Other }));
            }
            _ => {}
        }
    }
    columns
}

/// Notes the length of the first vector of each column of vectors that has no length yet.
fn measure_vectors(
    path: &Path,
    reader: &SerializedFileReader<File>,
    columns: &[(String, ColumnType)],
    lengths: &mut BTreeMap<String, usize>,
) -> Result<()> {
    for group in 0..reader.num_row_groups() {
        for (name, _) in columns.iter().filter(|(_, column)| *column == ColumnType::Vector) {
            if !lengths.contains_key(name) {
                let n_rows = usize::try_from(reader.metadata().row_group(group).num_rows()).unwrap_or(0);
                // Few rows first: vectors may be long, and most columns have one in their first row.
                for n_rows in [1, 64, n_rows] {
                    let table = Table::read_head(path, reader, group, n_rows, |column| column == name)?;
                    // What is wrong with a column is said when it is read for use.
                    let vectors = table.vectors(name).unwrap_or_default();
                    if let Some(vector) = vectors.iter().flatten().next() {
                        lengths.insert(name.clone(), vector.values().len());
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}
