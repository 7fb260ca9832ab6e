//! Binding: every name that a stage uses looked up once, every value that it makes given a place, so
//! that a row costs no look-ups.

use rustc_hash::FxHashMap;

use super::Dialect;
use super::row::{NumberSource, TextSource, VectorPlace};
use crate::rows::{DataType, Fields, Slot};

/// What a column's name stands for while stages are bound.
#[derive(Debug, Clone)]
pub(super) enum Symbol {
    Text(TextSource),
    Number(NumberSource, DataType),
    Vector(VectorPlace),
    /// A column that follows from one that is not there, or that no model may take: a label or an identifier.
    Absent {
        source: String,
        is_forbidden: bool,
    },
}

/// A column that stages made.
#[derive(Debug, Clone)]
pub(super) struct Computed {
    /// Its name, as the stage spells it.
    pub(super) name: String,
    pub(super) symbol: Symbol,
    /// The names of its values, if it holds indices of them.
    labels: Option<Vec<String>>,
}

/// Looks names up while stages are bound, and gives out places.
pub(super) struct Binder<'a> {
    fields: &'a Fields,
    /// Whose behaviour the stage that is being bound has.
    pub(super) dialect: Dialect,
    /// By lower-case name. A name made twice stands for what was made last.
    pub(super) computed: FxHashMap<String, Computed>,
    /// Names, in lower case, that the stage which is being bound reads and makes.
    pub(super) reads: Vec<String>,
    pub(super) makes: Vec<String>,
    /// Names of the fields that stages read.
    pub(super) inputs: Vec<String>,
    /// Columns that a stage needs and nobody supplies.
    pub(super) missing: Vec<String>,
    /// Vectors of the input that stages read: slot and place.
    pub(super) input_vectors: Vec<(String, usize, VectorPlace)>,
    pub(super) n_scalars: usize,
    pub(super) n_texts: usize,
    pub(super) n_vectors: usize,
    pub(super) vector_space: usize,
}

impl<'a> Binder<'a> {
    pub(super) fn new(fields: &'a Fields) -> Self {
        Self {
            fields,
            dialect: Dialect::From4_1,
            computed: FxHashMap::default(),
            reads: Vec::new(),
            makes: Vec::new(),
            inputs: Vec::new(),
            missing: Vec::new(),
            input_vectors: Vec::new(),
            n_scalars: 0,
            n_texts: 0,
            n_vectors: 0,
            vector_space: 0,
        }
    }

    /// What `name` stands for: a computed column, else a field. Like Spark, without regard to case.
    pub(super) fn look_up(&mut self, name: &str) -> Symbol {
        self.reads.push(name.to_ascii_lowercase());
        if let Some(computed) = self.computed.get(&name.to_ascii_lowercase()) {
            return computed.symbol.clone();
        }
        let Some(position) = self.fields.position(name) else {
            return Symbol::Absent { source: name.into(), is_forbidden: false };
        };
        let field = self.fields.get(position);
        if !field.is_input {
            return Symbol::Absent { source: name.into(), is_forbidden: true };
        }
        if !self.inputs.contains(&field.name) {
            self.inputs.push(field.name.clone());
        }
        match (self.fields.slot(position), field.data_type) {
            (Slot::Text(slot), _) => Symbol::Text(TextSource::Input(slot)),
            (Slot::Vector(slot), DataType::Vector(length)) => {
                let known = self.input_vectors.iter().find(|(_, known, _)| *known == slot);
                Symbol::Vector(known.map(|(_, _, place)| *place).unwrap_or_else(|| {
                    let place = self.place_of_length(length);
                    self.input_vectors.push((field.name.clone(), slot, place));
                    place
                }))
            }
            (Slot::Number(slot) | Slot::Vector(slot), data_type) => {
                Symbol::Number(NumberSource::Input(slot), data_type)
            }
        }
    }

    /// As [`look_up`](Self::look_up) for a column that the stage cannot do without: `None`, and noted as
    /// missing, where nobody supplies it. Binding then fails in the end, with the whole list.
    pub(super) fn require(&mut self, name: &str) -> Result<Option<Symbol>, String> {
        match self.look_up(name) {
            Symbol::Absent { source, is_forbidden: true } => {
                Err(format!("it takes `{name}`, made from the label or identifier `{source}`, as a feature"))
            }
            Symbol::Absent { source, .. } => {
                if !self.missing.contains(&source) {
                    self.missing.push(source);
                }
                Ok(None)
            }
            symbol => Ok(Some(symbol)),
        }
    }

    /// A number that the stage cannot do without. Where nobody supplies it, some number: see [`Self::require`].
    pub(super) fn require_number(&mut self, name: &str) -> Result<(NumberSource, DataType), String> {
        match self.require(name)? {
            Some(Symbol::Number(source, data_type)) => Ok((source, data_type)),
            None => Ok((NumberSource::Computed(0), DataType::Double)),
            Some(Symbol::Vector(_)) => Err(format!("`{name}` is a vector, not a number")),
            Some(_) => Err(format!("`{name}` is text, not a number")),
        }
    }

    /// A vector that the stage cannot do without. Where nobody supplies it, one of no length.
    pub(super) fn require_vector(&mut self, name: &str) -> Result<VectorPlace, String> {
        match self.require(name)? {
            Some(Symbol::Vector(place)) => Ok(place),
            None => Ok(self.place_of_length(0)),
            Some(_) => Err(format!("`{name}` is no vector")),
        }
    }

    /// A vector of `length` that the stage cannot do without.
    pub(super) fn require_vector_of(&mut self, name: &str, length: usize) -> Result<VectorPlace, String> {
        let place = self.require_vector(name)?;
        if place.length != length && self.missing.is_empty() {
            return Err(format!("`{name}` has {} entries; the stage was fitted to {length}", place.length));
        }
        Ok(place)
    }

    pub(super) fn define(&mut self, name: &str, symbol: Symbol) {
        let computed = Computed { name: name.into(), symbol, labels: None };
        self.makes.push(name.to_ascii_lowercase());
        self.computed.insert(name.to_ascii_lowercase(), computed);
    }

    pub(super) fn define_number(&mut self, name: &str, data_type: DataType) -> usize {
        let position = self.n_scalars;
        self.n_scalars += 1;
        self.define(name, Symbol::Number(NumberSource::Computed(position), data_type));
        position
    }

    /// A number that is an index into `labels`.
    pub(super) fn define_index(&mut self, name: &str, labels: &[String]) -> usize {
        let position = self.define_number(name, DataType::Double);
        if let Some(computed) = self.computed.get_mut(&name.to_ascii_lowercase()) {
            computed.labels = Some(labels.to_vec());
        }
        position
    }

    /// The labels of the column `name` of indices.
    pub(super) fn labels(&self, name: &str) -> Option<&[String]> {
        self.computed.get(&name.to_ascii_lowercase())?.labels.as_deref()
    }

    pub(super) fn define_text(&mut self, name: &str) -> usize {
        let position = self.n_texts;
        self.n_texts += 1;
        self.define(name, Symbol::Text(TextSource::Computed(position)));
        position
    }

    pub(super) fn define_vector(&mut self, name: &str, length: usize) -> VectorPlace {
        let place = self.place_of_length(length);
        self.define(name, Symbol::Vector(place));
        place
    }

    fn place_of_length(&mut self, length: usize) -> VectorPlace {
        let place = VectorPlace { id: self.n_vectors, start: self.vector_space, length };
        self.n_vectors += 1;
        self.vector_space = self.vector_space.saturating_add(length);
        place
    }
}
