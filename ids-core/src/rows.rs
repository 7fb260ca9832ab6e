//! Typed rows: what a pipeline reads, wherever they come from.
//!
//! [`Fields`] names the columns and says of what type they are, as a Spark schema does; [`Rows`] is a
//! batch of them. Flows are rows whose fields a [`Schema`](crate::Schema) names; a Parquet file that
//! Spark wrote brings its own ([`decode::parquet`](crate::decode::parquet)).

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// What a column holds. The type decides what some stages make of a value, as it does in Spark: an
/// imputer rounds what it puts into a column of integers, an indexer compares `3` or `3.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// Spark's `double`.
    Double,
    /// Spark's `float`: doubles that are exactly floats.
    Float,
    /// Spark's `tinyint`, `smallint`, `int` and `bigint`. Held as doubles: exact up to 2^53.
    Integer,
    /// Spark's `boolean`, as 0 and 1.
    Boolean,
    /// Spark's `string`.
    Text,
    /// Spark's vectors, all of this length.
    Vector(usize),
}

/// A named, typed column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub data_type: DataType,
    /// Whether it may feed a model: labels and identifiers may not.
    pub is_input: bool,
}

/// Where a row keeps the value of a field: numbers, texts and vectors lie in arrays of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Position among the numbers.
    Number(usize),
    /// Position among the texts.
    Text(usize),
    /// Position among the vectors.
    Vector(usize),
}

/// The columns of a batch. Names match without regard to ASCII case, as in Spark, or more loosely: see
/// [`Fields::loose`].
#[derive(Debug, Clone)]
pub struct Fields {
    source: String,
    fields: Vec<Field>,
    slots: Vec<Slot>,
    /// Lower-case name or alias -> position; where names match loosely, their letters and digits too.
    positions: FxHashMap<String, usize>,
    is_loose: bool,
    n_numbers: usize,
    n_texts: usize,
    n_vectors: usize,
}

impl Fields {
    /// No fields yet; `source` is what messages call the place they come from, e.g. ``schema `x` ``.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            fields: Vec::new(),
            slots: Vec::new(),
            positions: FxHashMap::default(),
            is_loose: false,
            n_numbers: 0,
            n_texts: 0,
            n_vectors: 0,
        }
    }

    /// As [`new`](Self::new), for names that match by their ASCII letters and digits alone: `Flow Bytes/s` is
    /// `flow_bytes_s`.
    pub fn loose(source: impl Into<String>) -> Self {
        Self { is_loose: true, ..Self::new(source) }
    }

    /// Appends a field that goes by its name and by each of `aliases`.
    ///
    /// # Errors
    /// The name that is empty or taken.
    pub fn push(&mut self, field: Field, aliases: &[String]) -> Result<(), String> {
        let position = self.fields.len();
        let mut names = Vec::new();
        for name in std::iter::once(&field.name).chain(aliases) {
            if name.is_empty() {
                return Err(format!("column {position} has an empty name or alias"));
            }
            let lower = name.to_ascii_lowercase();
            if self.positions.contains_key(&lower) || names.contains(&lower) {
                return Err(format!("the name `{name}` is used twice"));
            }
            names.push(lower);
        }
        if self.is_loose {
            // Two spellings of one column may be the same letters; two columns may not.
            let spellings: Vec<_> = names.iter().map(|name| letters_of(name)).filter(|name| !name.is_empty()).collect();
            if let Some(taken) = spellings.iter().find(|&name| self.positions.contains_key(name)) {
                return Err(format!("the name `{taken}`, blanks and punctuation aside, is used twice"));
            }
            names.extend(spellings);
        }
        self.positions.extend(names.into_iter().map(|name| (name, position)));
        let next = |counter: &mut usize| std::mem::replace(counter, *counter + 1);
        self.slots.push(match field.data_type {
            DataType::Text => Slot::Text(next(&mut self.n_texts)),
            DataType::Vector(_) => Slot::Vector(next(&mut self.n_vectors)),
            _ => Slot::Number(next(&mut self.n_numbers)),
        });
        self.fields.push(field);
        Ok(())
    }

    /// What messages call the place the fields come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Position of the field of that name or alias.
    pub fn position(&self, name: &str) -> Option<usize> {
        // Most names come in lower case: look before copying.
        let found = self.positions.get(name).or_else(|| self.positions.get(&name.to_ascii_lowercase()));
        found.or_else(|| self.is_loose.then(|| self.positions.get(&letters_of(name)))?).copied()
    }

    /// The field at `position`.
    pub fn get(&self, position: usize) -> &Field {
        &self.fields[position]
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Field> {
        self.fields.iter()
    }

    /// Whether rows of these fields lie as rows of `other` do: the same names and types in the same order.
    pub fn is_like(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.fields == other.fields
    }

    /// Where a row keeps the field at `position`.
    pub fn slot(&self, position: usize) -> Slot {
        self.slots[position]
    }
}

/// The ASCII letters and digits of a name, in lower case.
fn letters_of(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// A vector of Spark's: dense, or sparse, where entries that are not stored read as 0.
///
/// Which it is matters: a stage that looks only at stored entries treats a 0 that is stored otherwise
/// than one that is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    values: Vec<f64>,
    stored: Option<Vec<bool>>,
}

impl Vector {
    /// A dense vector.
    pub fn dense(values: Vec<f64>) -> Self {
        Self { values, stored: None }
    }

    /// A sparse vector of `size` entries, of which those at `indices` are stored.
    ///
    /// # Errors
    /// What is wrong with the indices: out of range, not rising, not one per value.
    pub fn sparse(size: usize, indices: &[usize], values: &[f64]) -> Result<Self, String> {
        if indices.len() != values.len() {
            return Err(format!("{} indices for {} values", indices.len(), values.len()));
        }
        if let Some(pair) = indices.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("index {} does not come after {}", pair[1], pair[0]));
        }
        if let Some(last) = indices.last().filter(|&&last| last >= size) {
            return Err(format!("index {last} of {size}"));
        }
        let (mut all, mut stored) = (vec![0.0; size], vec![false; size]);
        for (&index, &value) in indices.iter().zip(values) {
            all[index] = value;
            stored[index] = true;
        }
        Ok(Self { values: all, stored: Some(stored) })
    }

    /// All entries; those that are not stored are 0.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Which entries are stored; `None` for a dense vector.
    pub fn stored(&self) -> Option<&[bool]> {
        self.stored.as_deref()
    }
}

/// A batch of rows of the same fields, stored row by row.
#[derive(Debug, Clone)]
pub struct Rows {
    fields: Arc<Fields>,
    len: usize,
    /// `[len, n_numbers]`, row-major.
    numbers: Vec<Option<f64>>,
    /// `[len, n_texts]`, row-major: spans of `arena`.
    texts: Vec<Option<Span>>,
    arena: String,
    /// `[len, n_vectors]`, row-major.
    vectors: Vec<Option<Vector>>,
}

impl AsRef<Rows> for Rows {
    fn as_ref(&self) -> &Rows {
        self
    }
}

/// A piece of the arena, as byte offsets.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// One row of a batch: a view.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    numbers: &'a [Option<f64>],
    texts: &'a [Option<Span>],
    arena: &'a str,
    vectors: &'a [Option<Vector>],
}

impl Rows {
    /// An empty batch.
    pub fn new(fields: Arc<Fields>) -> Self {
        Self { fields, len: 0, numbers: Vec::new(), texts: Vec::new(), arena: String::new(), vectors: Vec::new() }
    }

    /// The columns.
    pub fn fields(&self) -> &Arc<Fields> {
        &self.fields
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all rows, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.numbers.clear();
        self.texts.clear();
        self.arena.clear();
        self.vectors.clear();
    }

    /// The row at `index`.
    ///
    /// # Panics
    /// Where `index >= len()`, as slices do.
    pub fn get(&self, index: usize) -> Row<'_> {
        assert!(index < self.len, "row {index} of {}", self.len);
        let Fields { n_numbers, n_texts, n_vectors, .. } = *self.fields;
        Row {
            numbers: &self.numbers[index * n_numbers..][..n_numbers],
            texts: &self.texts[index * n_texts..][..n_texts],
            arena: &self.arena,
            vectors: &self.vectors[index * n_vectors..][..n_vectors],
        }
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.len).map(|index| self.get(index))
    }

    /// Makes the batch `len` rows long, for filling column by column: rows that were there keep their values, texts
    /// apart, which are missing after this as all values of new rows are.
    pub fn resize(&mut self, len: usize) {
        self.len = len;
        self.numbers.resize(len * self.fields.n_numbers, None);
        self.texts.clear();
        self.texts.resize(len * self.fields.n_texts, None);
        self.vectors.resize(len * self.fields.n_vectors, None);
        self.arena.clear();
    }

    /// Sets the number at `slot` of each row, in order, as far as there are values.
    pub fn fill_numbers(&mut self, slot: usize, values: impl IntoIterator<Item = Option<f64>>) {
        for (row, value) in self.numbers.chunks_exact_mut(self.fields.n_numbers).zip(values) {
            row[slot] = value;
        }
    }

    /// Sets the text at `slot` of each row, in order, as far as there are values.
    pub fn fill_texts<'t>(&mut self, slot: usize, values: impl IntoIterator<Item = Option<&'t str>>) {
        for (row, value) in self.texts.chunks_exact_mut(self.fields.n_texts).zip(values) {
            row[slot] = value.map(|value| {
                let start = self.arena.len();
                self.arena.push_str(value);
                Span { start, end: self.arena.len() }
            });
        }
    }

    /// Removes the rows at `indices`, which rise.
    pub fn remove(&mut self, indices: &[usize]) {
        let mut stay = vec![true; self.len];
        for &index in indices {
            stay[index] = false;
        }
        let Fields { n_numbers, n_texts, n_vectors, .. } = *self.fields;
        keep(&mut self.numbers, n_numbers, &stay);
        keep(&mut self.texts, n_texts, &stay);
        keep(&mut self.vectors, n_vectors, &stay);
        self.len = stay.into_iter().filter(|&stays| stays).count();
    }

    /// Appends a row whose values are all missing and gives it for filling. It is part of the batch
    /// only once it is kept: dropping it without [`NewRow::keep`] takes it out again.
    pub fn new_row(&mut self) -> NewRow<'_> {
        let arena_start = self.arena.len();
        self.numbers.resize((self.len + 1) * self.fields.n_numbers, None);
        self.texts.resize((self.len + 1) * self.fields.n_texts, None);
        self.vectors.resize((self.len + 1) * self.fields.n_vectors, None);
        NewRow { rows: self, arena_start, kept: false }
    }
}

/// Keeps those rows of `width` cells for which `stay` says so.
fn keep<T>(cells: &mut Vec<T>, width: usize, stay: &[bool]) {
    let mut position = 0;
    cells.retain(|_| {
        position += 1;
        stay[(position - 1) / width]
    });
}

/// The row that is being filled.
#[derive(Debug)]
pub struct NewRow<'a> {
    rows: &'a mut Rows,
    arena_start: usize,
    kept: bool,
}

impl NewRow<'_> {
    /// Sets the number at `slot`.
    pub fn set_number(&mut self, slot: usize, value: f64) {
        let first = self.rows.len * self.rows.fields.n_numbers;
        self.rows.numbers[first + slot] = Some(value);
    }

    /// The number at `slot`.
    pub fn number(&self, slot: usize) -> Option<f64> {
        self.rows.numbers[self.rows.len * self.rows.fields.n_numbers + slot]
    }

    /// Sets the text at `slot`.
    pub fn set_text(&mut self, slot: usize, value: &str) {
        let Rows { arena, texts, len, fields, .. } = &mut *self.rows;
        let start = arena.len();
        arena.push_str(value);
        texts[*len * fields.n_texts + slot] = Some(Span { start, end: arena.len() });
    }

    /// Sets the vector at `slot`.
    pub fn set_vector(&mut self, slot: usize, value: Vector) {
        let first = self.rows.len * self.rows.fields.n_vectors;
        self.rows.vectors[first + slot] = Some(value);
    }

    /// Makes the row part of the batch.
    pub fn keep(mut self) {
        self.kept = true;
        self.rows.len += 1;
    }
}

impl Drop for NewRow<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let rows = &mut *self.rows;
            rows.numbers.truncate(rows.len * rows.fields.n_numbers);
            rows.texts.truncate(rows.len * rows.fields.n_texts);
            rows.vectors.truncate(rows.len * rows.fields.n_vectors);
            rows.arena.truncate(self.arena_start);
        }
    }
}

impl<'a> Row<'a> {
    /// The number at `slot`; `None` where it is missing.
    pub fn number(&self, slot: usize) -> Option<f64> {
        self.numbers[slot]
    }

    /// The text at `slot`; `None` where it is missing.
    pub fn text(&self, slot: usize) -> Option<&'a str> {
        self.texts[slot].map(|span| &self.arena[span.start..span.end])
    }

    /// The vector at `slot`; `None` where it is missing.
    pub fn vector(&self, slot: usize) -> Option<&'a Vector> {
        self.vectors[slot].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_kept_leaves_no_trace() {
        let mut fields = Fields::new("test");
        for (name, data_type) in [("n", DataType::Double), ("t", DataType::Text), ("v", DataType::Vector(1))] {
            fields.push(Field { name: name.into(), data_type, is_input: true }, &[]).expect("a new name");
        }
        let mut rows = Rows::new(Arc::new(fields));
        let mut row = rows.new_row();
        row.set_number(0, 1.0);
        row.set_text(0, "kept");
        row.keep();
        let mut row = rows.new_row();
        row.set_number(0, 2.0);
        row.set_text(0, "dropped");
        row.set_vector(0, Vector::dense(vec![1.0]));
        drop(row);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows.arena, "kept");
        rows.new_row().keep();
        assert_eq!((rows.get(1).number(0), rows.get(1).vector(0)), (None, None));
        assert_eq!(rows.get(0).text(0), Some("kept"));
    }

    #[test]
    fn a_name_that_is_taken_leaves_no_trace() {
        let mut fields = Fields::new("test");
        let field = |name: &str| Field { name: name.into(), data_type: DataType::Double, is_input: true };
        fields.push(field("a"), &[]).expect("a new name");
        fields.push(field("b"), &["c".into(), "A".into()]).expect_err("taken");
        fields.push(field("b"), &["B".into()]).expect_err("twice in one field");
        assert_eq!((fields.position("a"), fields.position("b"), fields.position("c")), (Some(0), None, None));
    }

    #[test]
    fn loose_names_match_by_letters_and_digits() {
        let field = |name: &str| Field { name: name.into(), data_type: DataType::Double, is_input: true };
        let mut fields = Fields::loose("test");
        fields.push(field("flow_bytes_per_s"), &["Flow Byts/s".into(), "flow_byts_s".into()]).expect("one column");
        for name in ["Flow Byts/s", "FLOW BYTES PER S", "flow-byts_S", " Flow Byts/s"] {
            assert_eq!(fields.position(name), Some(0), "{name}");
        }
        assert_eq!((fields.position("-"), fields.position(""), fields.position("flow")), (None, None, None));
        let error = fields.push(field("flowbyts/s"), &[]).expect_err("the letters are taken");
        assert!(error.contains("blanks and punctuation aside"), "{error}");
        let mut exact = Fields::new("test");
        exact.push(field("a_1"), &[]).expect("a new name");
        exact.push(field("a1"), &[]).expect("another");
        assert_eq!(exact.position("a 1"), None);
    }

    #[test]
    fn a_sparse_vector_is_checked() {
        let vector = Vector::sparse(3, &[0, 2], &[1.0, 0.0]).expect("valid");
        assert_eq!((vector.values(), vector.stored()), (&[1.0, 0.0, 0.0][..], Some(&[true, false, true][..])));
        for (indices, values) in [(&[3][..], &[1.0][..]), (&[1, 1], &[1.0, 2.0]), (&[0], &[])] {
            assert!(Vector::sparse(3, indices, values).is_err(), "{indices:?}");
        }
    }

    #[test]
    fn columns_fill_rows_and_rows_can_go() {
        let mut fields = Fields::new("test");
        for (name, data_type) in [("a", DataType::Double), ("t", DataType::Text), ("b", DataType::Double)] {
            fields.push(Field { name: name.into(), data_type, is_input: true }, &[]).expect("a new name");
        }
        let mut rows = Rows::new(Arc::new(fields));
        for round in [0.0, 10.0] {
            rows.resize(3);
            rows.fill_numbers(1, [Some(round), None, Some(round + 2.0)]);
            rows.fill_texts(0, [Some("x"), Some(""), None]);
            let seen: Vec<_> = rows.iter().map(|row| (row.number(0), row.number(1), row.text(0))).collect();
            let expected = [(None, Some(round), Some("x")), (None, None, Some("")), (None, Some(round + 2.0), None)];
            assert_eq!(seen, expected);
        }
        rows.remove(&[0, 1]);
        assert_eq!((rows.len(), rows.get(0).number(1), rows.get(0).text(0)), (1, Some(12.0), None));
    }
}
