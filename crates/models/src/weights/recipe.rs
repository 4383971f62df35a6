//! Weights made on the spot from a portable recipe, so that full-size ones need not travel.
//!
//! Element `i` of tensor NAME is `(2u - 1) * scale + offset`, one f32 product and one f32 sum, with
//! `u = (z >> 40) * 2^-24`, `z = splitmix64(key + (i + 1) * 0x9E3779B97F4A7C15)`, `key = fnv1a64("{seed}/{case}/{NAME}")`.

use std::collections::BTreeMap;

use kiln_graph::random::SplitMix64;
use kiln_graph::{GraphError, Tensor, WeightSource};
use serde_json::Value as Json;

use super::{WeightError, Weights};

/// Largest tensor, in elements, that a recipe may ask for.
const MAX_ELEMENTS: usize = 1 << 31;

/// A tensor's recipe.
#[derive(Clone, Debug, serde::Deserialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    scale: f64,
    offset: f64,
}

/// Weights by recipe.
#[derive(Clone, Debug)]
pub struct Recipe {
    prefix: String,
    entries: BTreeMap<String, Entry>,
    display: String,
}

impl Recipe {
    /// The recipe for the weight file `file` that a `manifest.json` gives; `display` is its name in errors.
    pub fn from_manifest(manifest: &Json, file: &str, display: &str) -> Result<Self, WeightError> {
        let wrong = |reason: &str| WeightError::File { file: display.into(), reason: reason.into() };
        let case = manifest.get("case").and_then(Json::as_str).ok_or_else(|| wrong("it names no case"))?;
        let seed = manifest.get("seed").and_then(Json::as_u64).ok_or_else(|| wrong("it has no seed"))?;
        let list = manifest.get("weights").and_then(|weights| weights.get(file));
        let list = list.ok_or_else(|| wrong(&format!("it has no recipe for {file}")))?;
        let list: Vec<Entry> = serde::Deserialize::deserialize(list)
            .map_err(|error| wrong(&format!("its recipe for {file} cannot be read: {error}")))?;
        let mut entries = BTreeMap::new();
        for entry in list {
            let len = entry.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
            if len.is_none_or(|len| len > MAX_ELEMENTS) {
                return Err(wrong(&format!("tensor {:?} has more than {MAX_ELEMENTS} elements", entry.name)));
            }
            entries.insert(entry.name.clone(), entry);
        }
        Ok(Self { prefix: format!("{seed}/{case}/"), entries, display: display.to_string() })
    }
}

impl WeightSource for Recipe {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        let wrong = |reason: String| GraphError::Value { what: "weight", name: name.into(), reason };
        let entry = self.entries.get(name).ok_or_else(|| wrong("is missing".into()))?;
        let random = SplitMix64::named(&format!("{}{name}", self.prefix));
        let (scale, offset) = (entry.scale as f32, entry.offset as f32);
        let element = |i: usize| random.affine(i as u64, scale, offset);
        let len = entry.shape.iter().product();
        Tensor::f32(entry.shape.clone(), (0..len).map(element).collect())
            .map_err(|error| wrong(error.to_string()))
    }
}

impl Weights for Recipe {
    fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.entries.get(name)?.shape)
    }

    fn display(&self) -> String {
        self.display.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_lie_around_the_offset() {
        let manifest = serde_json::json!({"case": "c", "seed": 0, "weights": {"model.safetensors": [
            {"kind": "uniform", "name": "w", "shape": [1000], "scale": 0.5, "offset": 1.0},
            {"kind": "const", "name": "c", "shape": [2], "scale": 0.0, "offset": 3.0}]}});
        let recipe = Recipe::from_manifest(&manifest, "model.safetensors", "manifest.json").unwrap();
        let w = recipe.load("w").unwrap().to_f64();
        assert!(w.iter().all(|v| (0.5..1.5).contains(v)));
        assert!((w.iter().sum::<f64>() / 1000.0 - 1.0).abs() < 0.05);
        assert_eq!(recipe.load("c").unwrap().as_f32(), Some(&[3.0, 3.0][..]));
        assert!(recipe.load("x").is_err());
    }
}
