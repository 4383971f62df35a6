//! Weights under other names than those of their file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kiln_graph::{GraphError, Tensor, WeightSource};

use super::{SharedWeights, Weights};

/// Some weights under other names, cut and reshaped where another layout wants them so.
#[derive(Clone)]
pub(crate) struct View {
    file: SharedWeights,
    places: BTreeMap<String, Place>,
}

/// Where a weight is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The other weights' tensor.
    pub tensor: String,
    /// What of it.
    pub cut: Cut,
    /// The weight's shape.
    pub shape: Vec<usize>,
}

/// What of a tensor is a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All of it.
    Whole,
    /// These rows.
    Rows(Range<usize>),
    /// All of it, with rows for columns.
    Transposed,
}

impl View {
    pub fn new(file: SharedWeights, places: BTreeMap<String, Place>) -> Self {
        Self { file, places }
    }
}

/// The weights whose names begin with `prefix`, without it.
pub(crate) fn within(file: &SharedWeights, prefix: &str) -> SharedWeights {
    let mut places = BTreeMap::new();
    for tensor in file.names() {
        if let (Some(name), Some(shape)) = (tensor.strip_prefix(prefix), file.shape(&tensor)) {
            let shape = shape.to_vec();
            places.insert(name.to_string(), Place { tensor: tensor.clone(), cut: Cut::Whole, shape });
        }
    }
    Arc::new(View::new(file.clone(), places))
}

impl WeightSource for View {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let wrong = |reason: String| GraphError::Value { what: "weight", name: name.into(), reason };
        let place = self.places.get(name).ok_or_else(|| wrong("is missing".into()))?;
        let tensor = self.file.load(&place.tensor)?;
        let cut = match &place.cut {
            Cut::Whole => tensor.reshape(place.shape.clone()),
            Cut::Rows(rows) => {
                let row = tensor.shape().iter().skip(1).product::<usize>();
                tensor.pick(place.shape.clone(), (rows.start * row..rows.end * row).map(Some))
            }
            Cut::Transposed => {
                let columns = tensor.desc().last().max(1);
                let rows = tensor.len() / columns;
                let column = |j: usize| (0..rows).map(move |i| Some(i * columns + j));
                tensor.pick(place.shape.clone(), (0..columns).flat_map(column))
            }
        };
        cut.map_err(|error| wrong(error.to_string()))
    }
}

impl Weights for View {
    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|place| place.shape.as_slice())
    }

    fn display(&self) -> String {
        self.file.display()
    }
}
