//! Weights: where they come from and what can be wrong with them.
//!
//! A [`Checkpoint`] is one safetensors file or several that an index file lists; a [`Recipe`] makes weights on the
//! spot. Both are [`Weights`]: names and shapes at once, tensors one by one when a graph is compiled.

mod checkpoint;
mod files;
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub mod hub;
mod recipe;
mod renaming;
mod safetensors;
mod view;

use std::collections::HashSet;
use std::sync::Arc;

use kiln_graph::{Graph, GraphError, Tensor, WeightSource};
use serde_json::Value as Json;

pub use ::safetensors::Dtype as FileDType;
pub use checkpoint::Checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub use files::Folder;
pub use files::{Files, Memory, Part};
pub use recipe::Recipe;
pub(crate) use renaming::Renaming;
pub use safetensors::{Entry, SafeTensors};
pub(crate) use view::{Cut, Place, View, within};

/// Weights that cannot be had. Each is one plain sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The system's answer.
        #[source]
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is not what it should be.
    #[error("{file}: tensor {name:?} {reason}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The tensors are not those that the model wants.
    #[error("{file} does not hold the model's weights: {mismatch}")]
    Mismatch {
        /// The file or folder.
        file: String,
        /// Every difference.
        mismatch: Mismatch,
    },
}

/// Every difference between the weights that a model wants and those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Wanted, not there.
    pub missing: Vec<String>,
    /// There, not wanted.
    pub unused: Vec<String>,
    /// Name, shape there, shape wanted.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: Vec<String> = self
            .misshapen
            .iter()
            .map(|(name, has, wants)| format!("{name} {has:?} instead of {wants:?}"))
            .collect();
        let lists = [("missing", &self.missing), ("unused", &self.unused), ("of another shape", &shapes)];
        let parts: Vec<String> = lists
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", names.join(", ")))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// Weights whose names and shapes are known before they are read.
pub trait Weights: WeightSource {
    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// A tensor's shape, or `None` where there is none of this name.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// Where the weights come from, as errors show it.
    fn display(&self) -> String;
}

/// Weights that several own: whoever compiles a model may have to read them again.
pub type SharedWeights = Arc<dyn Weights + Send + Sync>;

/// The weights of a model folder: a [`Checkpoint`], or where there are none in one file and `manifest.json` describes
/// it, a [`Recipe`].
pub fn open(files: &Arc<dyn Files>) -> Result<SharedWeights, WeightError> {
    open_or_make(files, files, "")
}

/// The weights of one model of a pipeline's folder, such as `unet`: those of the folder within, or of a recipe that the
/// pipeline's `manifest.json` gives.
pub fn open_part(files: &Arc<dyn Files>, part: &str) -> Result<SharedWeights, WeightError> {
    let own: Arc<dyn Files> = Arc::new(Part::new(files.clone(), part));
    open_or_make(&own, files, &format!("{part}/"))
}

/// The weights in `files`, or by the recipe that `whole`'s manifest gives for a file whose name begins with `prefix`.
fn open_or_make(
    files: &Arc<dyn Files>,
    whole: &Arc<dyn Files>,
    prefix: &str,
) -> Result<SharedWeights, WeightError> {
    const MANIFEST: &str = "manifest.json";
    let io = |file: String| move |error| WeightError::Io { file, error };
    let names = checkpoint::NAMINGS.map(|naming| naming.whole());
    for name in &names {
        if files.size(name).map_err(io(files.display(name)))?.is_some() {
            return Ok(Arc::new(Checkpoint::open(files)?));
        }
    }
    if let Some(bytes) = whole.read(MANIFEST, MAX_MANIFEST).map_err(io(whole.display(MANIFEST)))? {
        let file = whole.display(MANIFEST);
        let manifest: Json = serde_json::from_slice(&bytes).map_err(|error| WeightError::File {
            file: file.clone(),
            reason: format!("it is no JSON: {error}"),
        })?;
        for name in names.iter().map(|name| format!("{prefix}{name}")) {
            if manifest.get("weights").is_some_and(|weights| weights.get(&name).is_some()) {
                return Ok(Arc::new(Recipe::from_manifest(&manifest, &name, &file)?));
            }
        }
    }
    Ok(Arc::new(Checkpoint::open(files)?))
}

/// Largest manifest.
const MAX_MANIFEST: u64 = 256 << 20;

/// Weights in memory.
impl Weights for std::collections::HashMap<String, Tensor> {
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.keys().cloned().collect();
        names.sort();
        names
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(Tensor::shape)
    }

    fn display(&self) -> String {
        "the weights".into()
    }
}

/// Checks that `weights` are those that the graph wants, with one error for all differences. Tensors for which
/// `ignore` holds may be there unused.
pub fn check(graph: &Graph, weights: &dyn Weights, ignore: &dyn Fn(&str) -> bool) -> Result<(), WeightError> {
    let mut mismatch = Mismatch::default();
    let mut wanted = HashSet::new();
    for (name, value) in graph.weights() {
        wanted.insert(name);
        let shape = &graph.desc(value).shape;
        match weights.shape(name) {
            None => mismatch.missing.push(name.to_string()),
            Some(has) if has != shape => {
                mismatch.misshapen.push((name.to_string(), has.to_vec(), shape.clone()));
            }
            Some(_) => {}
        }
    }
    let unused = |name: &String| !wanted.contains(name.as_str()) && !ignore(name);
    mismatch.unused = weights.names().into_iter().filter(unused).collect();
    mismatch.missing.sort();
    mismatch.misshapen.sort();
    if mismatch == Mismatch::default() {
        return Ok(());
    }
    Err(WeightError::Mismatch { file: weights.display(), mismatch })
}

/// The graph's error of a weight that cannot be loaded.
fn unloadable(name: &str, error: &WeightError) -> GraphError {
    GraphError::Value { what: "weight", name: name.into(), reason: format!("cannot be loaded: {error}") }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use kiln_graph::Builder;

    use super::*;

    #[test]
    fn one_error_lists_every_difference() {
        let mut builder = Builder::new();
        for (name, shape) in [("a", vec![2]), ("b", vec![3]), ("c", vec![4, 5]), ("d", vec![])] {
            builder.weight(name, shape).unwrap();
        }
        let tensor =
            |shape: Vec<usize>| Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]).unwrap();
        let weights: HashMap<String, Tensor> = [
            ("a".to_string(), tensor(vec![2])),
            ("c".to_string(), tensor(vec![5, 4])),
            ("e".to_string(), tensor(vec![])),
            ("position_ids".to_string(), tensor(vec![])),
        ]
        .into();
        let graph = builder.finish();
        let error = check(&graph, &weights, &|name| name == "position_ids").unwrap_err().to_string();
        assert!(
            error.contains("missing: b, d; unused: e; of another shape: c [5, 4] instead of [4, 5]"),
            "{error}"
        );
    }
}
