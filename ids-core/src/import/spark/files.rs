//! The files of a saved stage: metadata (a line of JSON) and data (Parquet).
//!
//! Parquet is read by its leaf columns with their definition and repetition levels (Dremel), which
//! takes both ways of writing lists (three levels, and Spark's legacy two) and needs no Arrow.

use std::fs::File;
use std::path::Path;

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::error::{Error, Result};

/// Names in `directory` in order, without those that Spark and Hadoop hide (`_SUCCESS`, `.part-0.crc`).
pub(super) fn visible_names(directory: &Path) -> Result<Vec<String>> {
    let wrong = |error| Error::io(directory, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with(['_', '.']) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The metadata of a saved stage.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) class: String,
    pub(super) uid: String,
    pub(super) spark_version: String,
    path: std::path::PathBuf,
    json: Value,
}

impl Metadata {
    /// Reads the stage in `directory`: the first line of the first part of `metadata/` that has one.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(Error::spark(directory, "no such directory; expected a model as Spark saves it"));
        }
        let path = directory.join("metadata");
        if !path.is_dir() {
            return Err(Error::spark(directory, "it has no metadata directory: not a model as Spark saves it"));
        }
        let mut line = None;
        for name in visible_names(&path)?.iter().filter(|name| name.starts_with("part-")) {
            let part = path.join(name);
            let text = std::fs::read_to_string(&part).map_err(|error| Error::io(&part, error))?;
            line = text.lines().next().filter(|line| !line.trim().is_empty()).map(str::to_owned);
            if line.is_some() {
                break;
            }
        }
        let line = line.ok_or_else(|| Error::spark(&path, "no part file holds the metadata"))?;
        let json: Value = serde_json::from_str(&line)
            .map_err(|error| Error::spark(&path, format!("the metadata is no JSON: {error}")))?;
        let text = |key: &str| {
            json[key]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::spark(&path, format!("the metadata has no `{key}`")))
        };
        Ok(Self { class: text("class")?, uid: text("uid")?, spark_version: text("sparkVersion")?, json, path })
    }

    /// The error of a stage that cannot be scored.
    pub(super) fn unsupported(&self, hint: &str) -> Error {
        let hint = Some(hint).filter(|hint| !hint.is_empty()).map(str::to_owned);
        Error::UnsupportedStage { uid: self.uid.clone(), class: self.class.clone(), hint }
    }

    /// The error of a parameter that is not what Spark writes.
    fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::spark(&self.path, format!("parameter `{key}` of `{}` is not {expected}", self.uid))
    }

    /// A parameter as it was set, else its default.
    pub(super) fn param(&self, key: &str) -> Option<&Value> {
        ["paramMap", "defaultParamMap"].iter().find_map(|map| self.json[map].get(key))
    }

    pub(super) fn text(&self, key: &str) -> Result<String> {
        let value = self.param(key).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| self.wrong(key, "a string"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        self.param(key).and_then(Value::as_bool).ok_or_else(|| self.wrong(key, "a boolean"))
    }

    /// A list of strings; empty where the parameter is not set.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.param(key) else { return Ok(Vec::new()) };
        let texts =
            value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        texts.ok_or_else(|| self.wrong(key, "a list of strings"))
    }

    /// The columns of a stage that takes one (`inputCol`) or many (`inputCols`).
    pub(super) fn one_or_many(&self, one: &str, many: &str) -> Result<Vec<String>> {
        let columns = self.texts(many)?;
        if columns.is_empty() { Ok(vec![self.text(one)?]) } else { Ok(columns) }
    }

    /// A double; Spark writes those that are not finite as strings.
    pub(super) fn double(&self, key: &str) -> Result<f64> {
        self.param(key).and_then(double).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn doubles(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.param(key) else { return Ok(None) };
        let doubles = value.as_array().and_then(|items| items.iter().map(double).collect());
        doubles.map(Some).ok_or_else(|| self.wrong(key, "a list of numbers"))
    }

    /// A count that stands beside the parameters, e.g. `numClasses`.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        let count = self.json[key].as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.wrong(key, "a count"))
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Inf" | "Infinity" => Some(f64::INFINITY),
            "-Inf" | "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        number => number.as_f64(),
    }
}

/// The Parquet files of a directory, read as one table.
pub(super) struct Table {
    path: std::path::PathBuf,
    columns: Vec<Leaf>,
    n_rows: usize,
}

/// A leaf column with its levels.
struct Leaf {
    path: Vec<String>,
    values: Values,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    max_definition: i16,
    max_repetition: i16,
}

/// The values that are there, in order.
enum Values {
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
    Texts(Vec<ByteArray>),
    /// Of a type that no stage stores.
    Other,
}

/// Names that stand for the levels of a list, and are nobody's field.
const LIST_LEVELS: [&str; 5] = ["list", "bag", "element", "array", "item"];

impl Table {
    /// Reads `directory/data`.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("data");
        if !path.is_dir() {
            return Err(Error::spark(&path, "no such directory: the model is not complete"));
        }
        let mut table = Self { path: path.clone(), columns: Vec::new(), n_rows: 0 };
        let names = visible_names(&path)?;
        let parts: Vec<_> = names.iter().filter(|name| name.ends_with(".parquet")).collect();
        if parts.is_empty() {
            return Err(Error::spark(&path, "it holds no Parquet file: the model is not complete"));
        }
        for part in parts {
            let part = path.join(part);
            let file = File::open(&part).map_err(|error| Error::io(&part, error))?;
            table.append(file).map_err(|error| Error::spark(&part, format!("not a readable Parquet file: {error}")))?;
        }
        Ok(table)
    }

    fn append(&mut self, file: File) -> parquet::errors::Result<()> {
        let reader = SerializedFileReader::new(file)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group)?;
            let n_rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            self.n_rows = self.n_rows.saturating_add(n_rows);
            for (position, descriptor) in schema.columns().iter().enumerate() {
                let path = descriptor.path().parts();
                let found = self.columns.iter().position(|leaf| leaf.path == path);
                let position_of_leaf = found.unwrap_or_else(|| {
                    self.columns.push(Leaf {
                        path: path.to_vec(),
                        values: match descriptor.physical_type() {
                            PhysicalType::BOOLEAN | PhysicalType::INT32 | PhysicalType::INT64 => {
                                Values::Ints(Vec::new())
                            }
                            PhysicalType::FLOAT | PhysicalType::DOUBLE => Values::Doubles(Vec::new()),
                            PhysicalType::BYTE_ARRAY => Values::Texts(Vec::new()),
                            _ => Values::Other,
                        },
                        definition: Vec::new(),
                        repetition: Vec::new(),
                        max_definition: descriptor.max_def_level(),
                        max_repetition: descriptor.max_rep_level(),
                    });
                    self.columns.len() - 1
                });
                self.columns[position_of_leaf].append(group.get_column_reader(position)?, n_rows)?;
            }
        }
        Ok(())
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The leaf at `path`: its full path, or without the names that only mark a list's levels.
    fn leaf(&self, path: &str) -> Result<&Leaf> {
        let exact = self.columns.iter().find(|leaf| leaf.path.join(".") == path);
        let fields = |leaf: &&Leaf| {
            leaf.path
                .iter()
                .filter(|part| !LIST_LEVELS.contains(&part.as_str()))
                .map(String::as_str)
                .eq(path.split('.'))
        };
        let found = exact.or_else(|| self.columns.iter().find(fields));
        found.ok_or_else(|| Error::spark(&self.path, format!("it has no column `{path}`")))
    }

    fn wrong(&self, path: &str, expected: &str) -> Error {
        Error::spark(&self.path, format!("column `{path}` does not hold {expected}"))
    }

    /// One integer per row.
    pub(super) fn ints(&self, path: &str) -> Result<Vec<i64>> {
        match &self.leaf(path)?.values {
            Values::Ints(values) if values.len() == self.n_rows => Ok(values.clone()),
            _ => Err(self.wrong(path, "one integer per row")),
        }
    }

    /// One double per row.
    pub(super) fn doubles(&self, path: &str) -> Result<Vec<f64>> {
        match &self.leaf(path)?.values {
            Values::Doubles(values) if values.len() == self.n_rows => Ok(values.clone()),
            _ => Err(self.wrong(path, "one double per row")),
        }
    }

    /// A list of doubles per row.
    pub(super) fn double_lists(&self, path: &str) -> Result<Vec<Vec<f64>>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Doubles(values) if leaf.max_repetition == 1 => {
                let rows = leaf.lists(values);
                if rows.len() == self.n_rows {
                    Ok(rows.into_iter().map(|mut row| row.pop().unwrap_or_default()).collect())
                } else {
                    Err(self.wrong(path, "a list of doubles per row"))
                }
            }
            _ => Err(self.wrong(path, "a list of doubles per row")),
        }
    }

    /// The vector (Spark's VectorUDT) of a table of one row, as a dense one.
    pub(super) fn vector(&self, path: &str) -> Result<Vec<f64>> {
        const SPARSE: i64 = 0;
        let field = |name: &str| format!("{path}.{name}");
        let wrong = || self.wrong(path, "one vector");
        let values = self.double_lists(&field("values"))?.into_iter().next().ok_or_else(wrong)?;
        if self.ints(&field("type"))? != [SPARSE] {
            return if self.n_rows == 1 { Ok(values) } else { Err(wrong()) };
        }
        let size = self.ints(&field("size"))?[0];
        let Values::Ints(indices) = &self.leaf(&field("indices"))?.values else { return Err(wrong()) };
        // Spark's sizes are ints, but a damaged file must not ask for gigabytes.
        const MOST: usize = 1 << 20;
        let size = usize::try_from(size).ok().filter(|&size| size <= MOST).ok_or_else(wrong)?;
        let mut dense = vec![0.0; size];
        if indices.len() != values.len() {
            return Err(wrong());
        }
        for (&index, value) in indices.iter().zip(values) {
            *usize::try_from(index).ok().and_then(|index| dense.get_mut(index)).ok_or_else(wrong)? = value;
        }
        Ok(dense)
    }

    /// The strings of a list of lists (or of a plain list, as one), for a table of one row.
    pub(super) fn text_lists(&self, path: &str) -> Result<Vec<Vec<String>>> {
        let leaf = self.leaf(path)?;
        let Values::Texts(values) = &leaf.values else {
            return Err(self.wrong(path, "lists of strings"));
        };
        let text = |bytes: &ByteArray| bytes.as_utf8().map(str::to_owned).map_err(|_| self.wrong(path, "UTF-8"));
        let rows = leaf.lists(values);
        let [row] = rows.as_slice() else {
            return Err(self.wrong(path, "exactly one row"));
        };
        row.iter().map(|list| list.iter().map(text).collect()).collect()
    }
}

impl Leaf {
    fn append(&mut self, reader: ColumnReader, n_rows: usize) -> parquet::errors::Result<()> {
        let mut levels = Levels { definition: &mut self.definition, repetition: &mut self.repetition };
        match (&mut self.values, reader) {
            (Values::Ints(ints), ColumnReader::Int32ColumnReader(mut reader)) => {
                ints.extend(levels.read(&mut reader, n_rows)?.into_iter().map(i64::from));
            }
            (Values::Ints(ints), ColumnReader::Int64ColumnReader(mut reader)) => {
                ints.extend(levels.read(&mut reader, n_rows)?);
            }
            (Values::Ints(ints), ColumnReader::BoolColumnReader(mut reader)) => {
                ints.extend(levels.read(&mut reader, n_rows)?.into_iter().map(i64::from));
            }
            (Values::Doubles(doubles), ColumnReader::DoubleColumnReader(mut reader)) => {
                doubles.extend(levels.read(&mut reader, n_rows)?);
            }
            (Values::Doubles(doubles), ColumnReader::FloatColumnReader(mut reader)) => {
                doubles.extend(levels.read(&mut reader, n_rows)?.into_iter().map(f64::from));
            }
            (Values::Texts(texts), ColumnReader::ByteArrayColumnReader(mut reader)) => {
                texts.extend(levels.read(&mut reader, n_rows)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The values by row, and in each row by list: one list per row where lists are not nested.
    fn lists<T: Clone>(&self, values: &[T]) -> Vec<Vec<Vec<T>>> {
        let mut values = values.iter();
        let mut rows: Vec<Vec<Vec<T>>> = Vec::new();
        for (&definition, &repetition) in self.definition.iter().zip(&self.repetition) {
            if repetition == 0 {
                rows.push(Vec::new());
            }
            let Some(row) = rows.last_mut() else { break };
            if repetition < self.max_repetition {
                row.push(Vec::new());
            }
            if definition == self.max_definition
                && let (Some(list), Some(value)) = (row.last_mut(), values.next())
            {
                list.push(value.clone());
            }
        }
        rows
    }
}

struct Levels<'a> {
    definition: &'a mut Vec<i16>,
    repetition: &'a mut Vec<i16>,
}

impl Levels<'_> {
    fn read<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        n_rows: usize,
    ) -> parquet::errors::Result<Vec<T::T>> {
        let mut values = Vec::new();
        let mut read = 0;
        while read < n_rows {
            let (records, _, levels) =
                reader.read_records(n_rows - read, Some(self.definition), Some(self.repetition), &mut values)?;
            if records == 0 && levels == 0 {
                break;
            }
            read += records;
        }
        Ok(values)
    }
}
