//! A row on its way through the stages: what came in, and what stages have made of it so far.

use std::ops::Range;
use std::sync::Arc;

use super::{Dialect, Invalid};
use crate::rows;

/// A row, and the memory for what stages make of it.
pub(super) struct Row<'a> {
    pub(super) input: rows::Row<'a>,
    pub(super) made: &'a mut Scratch,
}

/// Working memory of one scoring thread: the values that stages made of the latest row.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// `None` is Spark's null.
    pub(super) scalars: Vec<Option<f64>>,
    /// Labels that stages chose.
    pub(super) texts: Vec<Option<Label>>,
    /// The entries of all vectors, one after the other; those of a sparse one that are not stored are 0.
    pub(super) entries: Vec<f64>,
    /// Per entry: whether a sparse vector stores it.
    pub(super) stored: Vec<bool>,
    /// Per vector.
    pub(super) forms: Vec<Form>,
}

/// One of a list of labels.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) labels: Arc<[String]>,
    pub(super) position: usize,
}

impl Label {
    pub(super) fn text(&self) -> &str {
        &self.labels[self.position]
    }
}

/// Whether a vector is there, and how Spark holds it. A stage that looks only at the stored entries of a
/// sparse vector makes another thing of a 0 that is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Missing,
    Dense,
    Sparse,
}

/// Where a vector lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct VectorPlace {
    pub(super) id: usize,
    pub(super) start: usize,
    pub(super) length: usize,
}

impl VectorPlace {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.length
    }
}

/// Where a stage finds a number.
#[derive(Debug, Clone, Copy)]
pub(super) enum NumberSource {
    Input(usize),
    Computed(usize),
}

impl NumberSource {
    pub(super) fn read(self, row: &Row<'_>) -> Option<f64> {
        match self {
            Self::Input(slot) => row.input.number(slot),
            Self::Computed(position) => row.made.scalars[position],
        }
    }
}

/// Where a stage finds a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextSource {
    Input(usize),
    Computed(usize),
}

impl TextSource {
    pub(super) fn read<'r>(self, row: &'r Row<'_>) -> Option<&'r str> {
        match self {
            Self::Input(slot) => row.input.text(slot),
            Self::Computed(position) => row.made.texts[position].as_ref().map(Label::text),
        }
    }
}

/// A vector that a stage reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct VectorIn<'a> {
    /// All entries; those that are not stored are 0.
    pub(super) entries: &'a [f64],
    /// Which entries are stored; `None` for a dense vector.
    pub(super) stored: Option<&'a [bool]>,
}

/// A vector that a stage writes.
#[derive(Debug)]
pub(super) struct VectorOut<'a> {
    pub(super) entries: &'a mut [f64],
    stored: &'a mut [bool],
    form: &'a mut Form,
}

impl VectorOut<'_> {
    pub(super) fn set_missing(&mut self) {
        *self.form = Form::Missing;
    }

    pub(super) fn set_dense(&mut self) {
        *self.form = Form::Dense;
    }

    /// Makes the vector sparse, with the entries stored for which `is_stored` holds; the others must be 0.
    pub(super) fn set_sparse(&mut self, is_stored: impl Fn(usize) -> bool) {
        *self.form = Form::Sparse;
        for (position, stored) in self.stored.iter_mut().enumerate() {
            *stored = is_stored(position);
        }
    }

    /// Takes the form of `input`, entry by entry.
    pub(super) fn set_form_of(&mut self, input: VectorIn<'_>) {
        match input.stored {
            None => self.set_dense(),
            Some(stored) => self.set_sparse(|position| stored[position]),
        }
    }

    /// Makes the vector sparse, with those entries stored that are not 0. A -0.0 loses its sign.
    pub(super) fn keep_nonzero(&mut self) {
        *self.form = Form::Sparse;
        for (entry, stored) in self.entries.iter_mut().zip(self.stored.iter_mut()) {
            *stored = *entry != 0.0;
            // Adding 0.0 makes 0.0 of -0.0 and changes nothing else.
            *entry += 0.0;
        }
    }

    /// Makes the vector sparse if that takes less room, as Spark's `Vector.compressed` does (Vectors.scala):
    /// 12 bytes for each entry that is not 0, against 8 for every entry. What comes on top is reckoned
    /// otherwise from 4.1 on.
    pub(super) fn compress(&mut self, dialect: Dialect) {
        let n_nonzero = self.entries.iter().filter(|&&x| x != 0.0).count();
        let (sparse, dense) = match dialect {
            Dialect::UpTo3 | Dialect::V4_0 => (12 * n_nonzero + 12, 8 * self.entries.len()),
            Dialect::From4_1 => (12 * n_nonzero + 28, 8 * self.entries.len() + 12),
        };
        if sparse < dense { self.keep_nonzero() } else { self.set_dense() }
    }
}

impl Row<'_> {
    /// The vector at `place`; `None` where it is missing.
    pub(super) fn vector(&self, place: VectorPlace) -> Option<VectorIn<'_>> {
        self.made.vector(place)
    }

    /// The vector at `place`, for writing.
    pub(super) fn vector_out(&mut self, place: VectorPlace) -> VectorOut<'_> {
        let Scratch { entries, stored, forms, .. } = &mut *self.made;
        VectorOut {
            entries: &mut entries[place.range()],
            stored: &mut stored[place.range()],
            form: &mut forms[place.id],
        }
    }

    /// Makes the vector at `output` from the one at `input`, called `name`. A missing one is invalid: Spark's
    /// stages fail on it.
    pub(super) fn map_vector(
        &mut self,
        name: &str,
        input: VectorPlace,
        output: VectorPlace,
        map: impl FnOnce(VectorIn<'_>, VectorOut<'_>) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        let Scratch { entries, stored, forms, .. } = &mut *self.made;
        if forms[input.id] == Form::Missing {
            return Err(Invalid::missing(name));
        }
        // Places are given out in order: what a stage makes lies behind what it reads.
        let (entries_before, entries_after) = entries.split_at_mut(output.start);
        let (stored_before, stored_after) = stored.split_at_mut(output.start);
        let is_sparse = forms[input.id] == Form::Sparse;
        let read = VectorIn {
            entries: &entries_before[input.range()],
            stored: is_sparse.then_some(&stored_before[input.range()]),
        };
        let write = VectorOut {
            entries: &mut entries_after[..output.length],
            stored: &mut stored_after[..output.length],
            form: &mut forms[output.id],
        };
        map(read, write)
    }
}

impl Scratch {
    pub(super) fn vector(&self, place: VectorPlace) -> Option<VectorIn<'_>> {
        let entries = &self.entries[place.range()];
        match self.forms[place.id] {
            Form::Missing => None,
            Form::Dense => Some(VectorIn { entries, stored: None }),
            Form::Sparse => Some(VectorIn { entries, stored: Some(&self.stored[place.range()]) }),
        }
    }
}
