//! Weights with LoRAs in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_graph::{GraphError, Tensor, WeightSource};
use rayon::prelude::*;

use super::key::Part;
use super::targets::Targets;
use super::{Lora, LoraError, Module};
use crate::weights::{Checkpoint, SharedWeights, WeightError, Weights};

/// Weights with LoRAs in them. They are merged when a weight is read, and neither is kept: the sum is in f32, whatever
/// either has in its file.
#[derive(Clone)]
pub struct Merged {
    inner: SharedWeights,
    /// What is added to each weight that changes.
    updates: BTreeMap<String, Vec<Update>>,
}

/// What a LoRA adds to a weight.
#[derive(Clone)]
struct Update {
    tensors: Arc<Checkpoint>,
    down: String,
    mid: Option<String>,
    up: String,
    /// Columns of `up`.
    rank: usize,
    factor: f32,
}

impl Merged {
    /// A UNet's weights with what the LoRAs change of them. [`LoraError::Foreign`] and [`LoraError::Shape`] where one of
    /// them is for another model; nothing but shapes is looked at for that.
    pub fn unet(inner: SharedWeights, loras: &[Lora]) -> Result<Self, LoraError> {
        let updates = updates(&Targets::unet(&*inner), Part::Unet, loras)?;
        Ok(Self { inner, updates })
    }

    /// A text encoder's, likewise.
    pub fn text(inner: SharedWeights, loras: &[Lora]) -> Result<Self, LoraError> {
        let updates = updates(&Targets::text(&*inner), Part::Text, loras)?;
        Ok(Self { inner, updates })
    }

    /// How many weights change.
    pub fn changed(&self) -> usize {
        self.updates.len()
    }
}

fn updates(
    targets: &Targets,
    part: Part,
    loras: &[Lora],
) -> Result<BTreeMap<String, Vec<Update>>, LoraError> {
    let mut updates: BTreeMap<String, Vec<Update>> = BTreeMap::new();
    for lora in loras {
        for ((own, name), module) in &lora.modules {
            if *own != part && *own != Part::Other {
                continue;
            }
            let foreign = || LoraError::Foreign {
                file: lora.display(),
                key: module.down.clone(),
                model: targets.display(),
            };
            let found = if *own == Part::Other { None } else { targets.find(name) };
            let (weight, shape) = found.ok_or_else(foreign)?;
            let rank = fit(lora, module, weight, shape)?;
            updates.entry(weight.to_string()).or_default().push(Update {
                tensors: lora.tensors.clone(),
                down: module.down.clone(),
                mid: module.mid.clone(),
                up: module.up.clone(),
                rank,
                factor: lora.scale * module.factor(&lora.tensors),
            });
        }
    }
    Ok(updates)
}

impl Module {
    /// Alpha over the rank, which is the number of rows of the first matrix.
    fn factor(&self, tensors: &Checkpoint) -> f32 {
        let rank =
            tensors.shape(&self.down).and_then(|shape| shape.first().copied()).unwrap_or(1).max(1) as f64;
        let alpha = self.alpha.unwrap_or(rank);
        (alpha / if self.by_root { rank.sqrt() } else { rank }) as f32
    }
}

/// Checks that the tensors of a module make a weight `[outputs, inputs, ...]`, whose other axes are a convolution's; gives
/// the columns of the last one. Axes of 1 may be there or not, for a 1x1 convolution is a linear layer.
fn fit(lora: &Lora, module: &Module, weight: &str, wanted: &[usize]) -> Result<usize, LoraError> {
    let shape = |name: &str| lora.tensors.shape(name).unwrap_or_default().to_vec();
    let wrong = |key: &str, other: &str, wants: Vec<usize>| {
        Err(LoraError::Shape {
            file: lora.display(),
            key: key.into(),
            has: shape(key),
            other: other.into(),
            wants,
        })
    };
    let (down, up) = (shape(&module.down), shape(&module.up));
    let (Some([ranks_below, inputs, down_sides @ ..]), Some([outputs, ranks_above, up_sides @ ..])) =
        (axes(&down), axes(&up))
    else {
        let odd = if axes(&down).is_none() { &module.down } else { &module.up };
        return wrong(odd, weight, wanted.to_vec());
    };
    let Some([wanted_outputs, wanted_inputs, wanted_sides @ ..]) = axes(wanted) else {
        return wrong(&module.down, weight, wanted.to_vec());
    };
    let mid = module.mid.as_ref().map(|name| (name, shape(name)));
    let sides = mid.as_ref().map_or(Some(down_sides), |(_, mid)| axes(mid)?.get(2..)?.try_into().ok());
    if inputs != wanted_inputs || sides != Some(wanted_sides) {
        return wrong(&module.down, weight, wanted.to_vec());
    }
    if outputs != wanted_outputs || up_sides != [1, 1] {
        return wrong(&module.up, weight, wanted.to_vec());
    }
    match mid {
        None if ranks_below == ranks_above && ranks_below > 0 => {}
        None => return wrong(&module.up, &module.down, down),
        Some((name, mid)) => {
            let ranks = axes(&mid).map(|[above, below, ..]| [above, below]);
            if ranks != Some([ranks_above, ranks_below])
                || down_sides != [1, 1]
                || ranks_above * ranks_below == 0
            {
                return wrong(name, &module.down, down);
            }
        }
    }
    Ok(ranks_above)
}

/// The axes of a linear layer's weight or of a convolution's, as of a convolution.
fn axes(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [rows, columns] => Some([rows, columns, 1, 1]),
        [rows, columns, height, width] => Some([rows, columns, height, width]),
        _ => None,
    }
}

impl Update {
    /// Adds it to a weight's values.
    fn add_to(&self, values: &mut [f32]) -> Result<(), WeightError> {
        let (up, down) = (self.tensors.read(&self.up)?, self.tensors.read(&self.down)?);
        let (up, mut down) = (up.to_f32(), down.to_f32());
        if let Some(mid) = &self.mid {
            let below = self.tensors.shape(&self.down).and_then(|shape| shape.first().copied()).unwrap_or(0);
            down = through(&self.tensors.read(mid)?.to_f32(), &down, self.rank, below).into();
        }
        let columns = (down.len() / self.rank.max(1)).max(1);
        let rows = values.par_chunks_exact_mut(columns).zip(up.par_chunks_exact(self.rank.max(1)));
        rows.for_each_init(
            || vec![0.0; columns],
            |sum, (row, factors)| {
                sum.fill(0.0);
                for (factor, down) in factors.iter().zip(down.chunks_exact(columns)) {
                    sum.iter_mut().zip(down).for_each(|(sum, down)| *sum += factor * down);
                }
                row.iter_mut().zip(sum).for_each(|(value, sum)| *value += self.factor * *sum);
            },
        );
        Ok(())
    }
}

/// The first matrix `[below, inputs]` behind the middle's convolution `[above, below, sides]`: `[above, inputs, sides]`.
fn through(mid: &[f32], down: &[f32], above: usize, below: usize) -> Vec<f32> {
    let sides = (mid.len() / (above * below).max(1)).max(1);
    let inputs = (down.len() / below.max(1)).max(1);
    let mut product = vec![0.0; above * inputs * sides];
    for (rows, squares) in
        product.chunks_exact_mut(inputs * sides).zip(mid.chunks_exact(below.max(1) * sides))
    {
        for (square, down) in squares.chunks_exact(sides).zip(down.chunks_exact(inputs)) {
            for (place, input) in rows.chunks_exact_mut(sides).zip(down) {
                place.iter_mut().zip(square).for_each(|(place, mid)| *place += mid * input);
            }
        }
    }
    product
}

impl WeightSource for Merged {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let tensor = self.inner.load(name)?;
        let Some(updates) = self.updates.get(name) else { return Ok(tensor) };
        let wrong = |reason: String| GraphError::Value { what: "weight", name: name.into(), reason };
        let mut values = tensor.to_f32().into_owned();
        for update in updates {
            update.add_to(&mut values).map_err(|error| wrong(format!("cannot be merged: {error}")))?;
        }
        Tensor::f32(tensor.shape().to_vec(), values).map_err(|error| wrong(error.to_string()))
    }
}

impl Weights for Merged {
    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.inner.shape(name)
    }

    fn display(&self) -> String {
        self.inner.display()
    }
}
