//! Parquet files, read by their leaf columns with definition and repetition levels (Dremel).
//!
//! That takes both ways of writing lists (three levels, and Spark's legacy two), any codec and page
//! version, and needs no Arrow. What the columns mean is the business of
//! [`import::spark`](crate::import::spark) and [`decode::parquet`](crate::decode::parquet).

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::error::{Error, Result};
use crate::rows::Vector;

/// Names in `directory` in order, without those that Spark and Hadoop hide (`_SUCCESS`, `.part-0.crc`).
pub(crate) fn visible_names(directory: &Path) -> Result<Vec<String>> {
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

/// The Parquet files at `path`: itself, or those in the directory that it is.
pub(crate) fn parts(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.into()]);
    }
    let names = visible_names(path)?;
    let parts: Vec<_> = names.iter().filter(|name| name.ends_with(".parquet")).map(|name| path.join(name)).collect();
    if parts.is_empty() {
        return Err(Error::spark(path, "it holds no Parquet file: it is not complete"));
    }
    Ok(parts)
}

/// Opens a Parquet file.
pub(crate) fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let length = file.metadata().map_err(|error| Error::io(path, error))?.len();
    let reader = unpanicked(|| SerializedFileReader::new(file)).map_err(|error| unreadable(path, &error))?;
    // The reader takes these for granted.
    let lies_inside = |start: i64, size: i64| {
        let end =
            u64::try_from(start).ok().zip(u64::try_from(size).ok()).and_then(|(start, size)| start.checked_add(size));
        end.is_some_and(|end| end <= length)
    };
    let groups = reader.metadata().row_groups().iter();
    let mut columns = groups.flat_map(parquet::file::metadata::RowGroupMetaData::columns);
    let is_sound = columns.all(|column| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        column.data_page_offset() >= 0 && lies_inside(start, column.compressed_size())
    });
    if !is_sound {
        return Err(Error::spark(path, "not a readable Parquet file: a column lies outside of it"));
    }
    Ok(reader)
}

/// What `read` returns; an error where it panics, as the Parquet reader may on a damaged file.
fn unpanicked<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> parquet::errors::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(parquet::errors::ParquetError::General("it is damaged".into())))
}

fn unreadable(path: &Path, error: &parquet::errors::ParquetError) -> Error {
    Error::spark(path, format!("not a readable Parquet file: {error}"))
}

/// Rows of Parquet files with the same columns.
pub(crate) struct Table {
    path: PathBuf,
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

/// A list for each row, one after the other: a list of its own for each of a forest's nodes would take several times
/// the memory.
#[derive(Debug)]
pub(crate) struct Lists<T> {
    values: Vec<T>,
    /// Per row: where its list ends.
    ends: Vec<usize>,
}

impl<T> Lists<T> {
    /// The list of the row at `row`.
    pub(crate) fn get(&self, row: usize) -> &[T] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[start..self.ends[row]]
    }
}

/// The values that are there, in order.
enum Values {
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
    Texts(Vec<ByteArray>),
    /// Of a type that nobody here reads.
    Other,
}

/// What a leaf column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafType {
    Boolean,
    Integer,
    Float,
    Double,
    Text,
    /// Of a type that nobody here reads: dates, timestamps, decimals, bytes.
    Other,
}

impl LeafType {
    pub(crate) fn of(column: &ColumnDescriptor) -> Self {
        let is_text = matches!(column.logical_type_ref(), Some(LogicalType::String))
            || column.converted_type() == ConvertedType::UTF8;
        // Spark up to 3.1 wrote converted types alone, later ones both.
        let is_plain = matches!(
            column.converted_type(),
            ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64
        ) && matches!(column.logical_type_ref(), None | Some(LogicalType::Integer { .. }));
        match column.physical_type() {
            PhysicalType::BOOLEAN => Self::Boolean,
            PhysicalType::INT32 | PhysicalType::INT64 if is_plain => Self::Integer,
            PhysicalType::FLOAT => Self::Float,
            PhysicalType::DOUBLE => Self::Double,
            PhysicalType::BYTE_ARRAY if is_text => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Names that stand for the levels of a list or map, and are nobody's field.
const LEVELS: [&str; 7] = ["list", "bag", "element", "array", "item", "key_value", "map"];

impl Table {
    /// Reads all columns of all Parquet files in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let mut table = Self { path: directory.into(), columns: Vec::new(), n_rows: 0 };
        for part in parts(directory)? {
            let reader = open(&part)?;
            for group in 0..reader.num_row_groups() {
                unpanicked(|| table.append(&reader, group, usize::MAX, |_| true))
                    .map_err(|error| unreadable(&part, &error))?;
            }
        }
        Ok(table)
    }

    /// Reads the columns of a row group of the file at `path` whose top-level names are wanted.
    pub(crate) fn read_group(
        path: &Path,
        reader: &SerializedFileReader<File>,
        group: usize,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        Self::read_head(path, reader, group, usize::MAX, is_wanted)
    }

    /// As [`Table::read_group`], of no more than its first `most` rows.
    pub(crate) fn read_head(
        path: &Path,
        reader: &SerializedFileReader<File>,
        group: usize,
        most: usize,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut table = Self { path: path.into(), columns: Vec::new(), n_rows: 0 };
        unpanicked(|| table.append(reader, group, most, is_wanted)).map_err(|error| unreadable(path, &error))?;
        Ok(table)
    }

    fn append(
        &mut self,
        reader: &SerializedFileReader<File>,
        group: usize,
        most: usize,
        is_wanted: impl Fn(&str) -> bool,
    ) -> parquet::errors::Result<()> {
        let metadata: &ParquetMetaData = reader.metadata();
        let schema = metadata.file_metadata().schema_descr_ptr();
        let group = reader.get_row_group(group)?;
        let n_rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0).min(most);
        for (position, descriptor) in schema.columns().iter().enumerate() {
            let path = descriptor.path().parts();
            if !path.first().is_some_and(|name| is_wanted(name)) {
                continue;
            }
            let found = self.columns.iter().position(|leaf| leaf.path == path);
            let position_of_leaf = found.unwrap_or_else(|| {
                self.columns.push(Leaf::new(descriptor));
                self.columns.len() - 1
            });
            self.columns[position_of_leaf].append(&*group, position, n_rows)?;
        }
        self.n_rows = self.n_rows.saturating_add(n_rows);
        Ok(())
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The leaf at `path`: its full path, or without the names that only mark levels.
    fn leaf(&self, path: &str) -> Result<&Leaf> {
        let exact = self.columns.iter().find(|leaf| leaf.path.join(".") == path);
        let fields = |leaf: &&Leaf| {
            leaf.path.iter().filter(|part| !LEVELS.contains(&part.as_str())).map(String::as_str).eq(path.split('.'))
        };
        let found = exact.or_else(|| self.columns.iter().find(fields));
        found.ok_or_else(|| Error::spark(&self.path, format!("it has no column `{path}`")))
    }

    /// Whether there is a column at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.leaf(path).is_ok()
    }

    /// The path of the column at `position` among the leaves, as the file spells it.
    pub(crate) fn path_of(&self, position: usize) -> Option<String> {
        self.columns.get(position).map(|leaf| leaf.path.join("."))
    }

    fn wrong(&self, path: &str, expected: &str) -> Error {
        Error::spark(&self.path, format!("column `{path}` does not hold {expected}"))
    }

    /// One integer per row.
    pub(crate) fn ints(&self, path: &str) -> Result<Vec<i64>> {
        let found: Option<Vec<_>> = self.optional_ints(path)?.into_iter().collect();
        found.ok_or_else(|| self.wrong(path, "one integer per row"))
    }

    /// An integer or null per row.
    pub(crate) fn optional_ints(&self, path: &str) -> Result<Vec<Option<i64>>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Ints(values) => leaf.scalars(values, self.n_rows),
            _ => None,
        }
        .ok_or_else(|| self.wrong(path, "an integer per row"))
    }

    /// One double per row.
    pub(crate) fn doubles(&self, path: &str) -> Result<Vec<f64>> {
        let found: Option<Vec<_>> = self.optional_doubles(path)?.into_iter().collect();
        found.ok_or_else(|| self.wrong(path, "one double per row"))
    }

    /// A double or null per row; also of a column of integers or booleans.
    pub(crate) fn optional_doubles(&self, path: &str) -> Result<Vec<Option<f64>>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Doubles(values) => leaf.scalars(values, self.n_rows),
            Values::Ints(values) => {
                leaf.scalars(values, self.n_rows).map(|rows| rows.into_iter().map(|x| x.map(|x| x as f64)).collect())
            }
            _ => None,
        }
        .ok_or_else(|| self.wrong(path, "a number per row"))
    }

    /// A text or null per row.
    pub(crate) fn optional_texts(&self, path: &str) -> Result<Vec<Option<String>>> {
        let leaf = self.leaf(path)?;
        let Values::Texts(values) = &leaf.values else { return Err(self.wrong(path, "a string per row")) };
        let rows = leaf.scalars(values, self.n_rows).ok_or_else(|| self.wrong(path, "a string per row"))?;
        let text = |bytes: ByteArray| bytes.as_utf8().map(str::to_owned).map_err(|_| self.wrong(path, "UTF-8"));
        rows.into_iter().map(|row| row.map(text).transpose()).collect()
    }

    /// A list of doubles per row; an empty one where it is null.
    pub(crate) fn double_lists(&self, path: &str) -> Result<Lists<f64>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Doubles(values) => leaf.plain_lists(values, self.n_rows),
            _ => None,
        }
        .ok_or_else(|| self.wrong(path, "a list of doubles per row"))
    }

    /// A list of integers per row; an empty one where it is null.
    pub(crate) fn int_lists(&self, path: &str) -> Result<Lists<i64>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Ints(values) => leaf.plain_lists(values, self.n_rows),
            _ => None,
        }
        .ok_or_else(|| self.wrong(path, "a list of integers per row"))
    }

    /// A vector (Spark's VectorUDT) or null per row.
    pub(crate) fn vectors(&self, path: &str) -> Result<Vec<Option<Vector>>> {
        /// Spark's sizes are ints, but a damaged file must not ask for gigabytes.
        const MOST: usize = 1 << 20;
        const SPARSE: i64 = 0;
        let field = |name: &str| format!("{path}.{name}");
        let kinds = self.optional_ints(&field("type"))?;
        let sizes = self.optional_ints(&field("size"))?;
        let indices = self.int_lists(&field("indices"))?;
        let values = self.double_lists(&field("values"))?;
        let rows = kinds.into_iter().zip(sizes).enumerate();
        rows.map(|(row, (kind, size))| {
            let Some(kind) = kind else { return Ok(None) };
            if kind != SPARSE {
                return Ok(Some(Vector::dense(values.get(row).to_vec())));
            }
            let size = size.and_then(|size| usize::try_from(size).ok()).filter(|&size| size <= MOST);
            let indices = indices.get(row).iter().map(|&index| usize::try_from(index).ok()).collect::<Option<Vec<_>>>();
            let (size, indices) = size.zip(indices).ok_or_else(|| self.wrong(path, "vectors"))?;
            let vector = Vector::sparse(size, &indices, values.get(row));
            vector.map(Some).map_err(|detail| self.wrong(path, &format!("vectors: {detail}")))
        })
        .collect()
    }

    /// The lists of a table of one row whose column holds a list of lists of strings; a plain list is one.
    pub(crate) fn text_lists(&self, path: &str) -> Result<Vec<Vec<String>>> {
        let leaf = self.leaf(path)?;
        let Values::Texts(values) = &leaf.values else {
            return Err(self.wrong(path, "lists of strings"));
        };
        let text = |bytes: &ByteArray| bytes.as_utf8().map(str::to_owned).map_err(|_| self.wrong(path, "UTF-8"));
        let row = leaf.only_row(values).ok_or_else(|| self.wrong(path, "exactly one row"))?;
        row.iter().map(|list| list.iter().map(text).collect()).collect()
    }

    /// The lists of a table of one row whose column holds a list of lists of integers; a plain list is one.
    pub(crate) fn lists_of_ints(&self, path: &str) -> Result<Vec<Vec<i64>>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Ints(values) => leaf.only_row(values),
            _ => None,
        }
        .ok_or_else(|| self.wrong(path, "lists of integers in exactly one row"))
    }

    /// As [`Table::lists_of_ints`], of doubles.
    pub(crate) fn lists_of_doubles(&self, path: &str) -> Result<Vec<Vec<f64>>> {
        let leaf = self.leaf(path)?;
        match &leaf.values {
            Values::Doubles(values) => leaf.only_row(values),
            _ => None,
        }
        .ok_or_else(|| self.wrong(path, "lists of doubles in exactly one row"))
    }
}

impl Leaf {
    fn new(descriptor: &ColumnDescriptor) -> Self {
        Self {
            path: descriptor.path().parts().to_vec(),
            values: match descriptor.physical_type() {
                PhysicalType::BOOLEAN | PhysicalType::INT32 | PhysicalType::INT64 => Values::Ints(Vec::new()),
                PhysicalType::FLOAT | PhysicalType::DOUBLE => Values::Doubles(Vec::new()),
                PhysicalType::BYTE_ARRAY => Values::Texts(Vec::new()),
                _ => Values::Other,
            },
            definition: Vec::new(),
            repetition: Vec::new(),
            max_definition: descriptor.max_def_level(),
            max_repetition: descriptor.max_rep_level(),
        }
    }

    fn append(&mut self, group: &dyn RowGroupReader, position: usize, n_rows: usize) -> parquet::errors::Result<()> {
        let mut levels = Levels { definition: &mut self.definition, repetition: &mut self.repetition };
        match (&mut self.values, group.get_column_reader(position)?) {
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

    /// A value or null for each of `n_rows` rows; `None` where the column is one of lists, or short.
    fn scalars<T: Clone>(&self, values: &[T], n_rows: usize) -> Option<Vec<Option<T>>> {
        if self.max_repetition > 0 {
            return None;
        }
        if self.max_definition == 0 {
            return (values.len() == n_rows).then(|| values.iter().cloned().map(Some).collect());
        }
        let mut values = values.iter();
        let rows = self.definition.iter().map(|&definition| {
            if definition == self.max_definition { values.next().cloned().map(Some) } else { Some(None) }
        });
        let rows: Vec<_> = rows.collect::<Option<_>>()?;
        (rows.len() == n_rows).then_some(rows)
    }

    /// A list for each of `n_rows` rows; `None` where the column is none of plain lists, or short.
    fn plain_lists<T: Clone>(&self, values: &[T], n_rows: usize) -> Option<Lists<T>> {
        if self.max_repetition != 1 {
            return None;
        }
        let (mut ends, mut n_values) = (Vec::new(), 0);
        for (&definition, &repetition) in self.definition.iter().zip(&self.repetition) {
            n_values += usize::from(definition == self.max_definition);
            if repetition == 0 {
                ends.push(n_values);
            }
            *ends.last_mut()? = n_values;
        }
        (ends.len() == n_rows && n_values == values.len()).then(|| Lists { values: values.to_vec(), ends })
    }

    /// The lists of the only row.
    fn only_row<T: Clone>(&self, values: &[T]) -> Option<Vec<Vec<T>>> {
        let mut rows = self.lists(values);
        if rows.len() == 1 { rows.pop() } else { None }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::types::{ColumnPath, Type};

    use super::*;

    /// As Spark up to 3.1 wrote them, without logical types.
    #[test]
    fn decimals_and_dates_of_early_versions_are_no_integers() {
        for (converted, expected) in [
            (ConvertedType::NONE, LeafType::Integer),
            (ConvertedType::INT_16, LeafType::Integer),
            (ConvertedType::DECIMAL, LeafType::Other),
            (ConvertedType::DATE, LeafType::Other),
        ] {
            let column = Type::primitive_type_builder("x", PhysicalType::INT32).with_converted_type(converted);
            let column = column.with_precision(5).with_scale(2).build().expect("a type");
            let column = ColumnDescriptor::new(Arc::new(column), 1, 0, ColumnPath::from("x"));
            assert_eq!(LeafType::of(&column), expected, "{converted}");
        }
    }
}
