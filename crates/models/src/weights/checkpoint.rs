//! A model's weights in safetensors files.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_graph::{GraphError, Tensor, WeightSource};

use super::{Files, SafeTensors, WeightError, Weights, unloadable};

/// Largest index file.
const MAX_INDEX: u64 = 64 << 20;

/// What weights are called in a folder, the ones to prefer first: by transformers and timm, by diffusers, and by both where
/// the weights are stored in half.
pub(super) const NAMINGS: [Naming; 4] = [
    Naming { stem: "model", half: false },
    Naming { stem: "diffusion_pytorch_model", half: false },
    Naming { stem: "model", half: true },
    Naming { stem: "diffusion_pytorch_model", half: true },
];

/// How the files of one set of weights are called.
#[derive(Clone, Copy)]
pub(super) struct Naming {
    stem: &'static str,
    /// Whether they are the variant `fp16`.
    half: bool,
}

impl Naming {
    /// All weights in one file.
    pub fn whole(self) -> String {
        let variant = if self.half { ".fp16" } else { "" };
        format!("{}{variant}.safetensors", self.stem)
    }

    /// The file that lists shards; of two names for a variant, the second is the older.
    pub fn indices(self) -> Vec<String> {
        let stem = self.stem;
        match self.half {
            false => vec![format!("{stem}.safetensors.index.json")],
            true => [".safetensors.index.fp16.json", ".fp16.safetensors.index.json"]
                .map(|ending| format!("{stem}{ending}"))
                .into(),
        }
    }

    /// Whether a file is a shard by its name, such as `model-00001-of-00002.safetensors`, and
    /// `model.fp16-00001-of-00002.safetensors` or, older, `model-00001-of-00002.fp16.safetensors`.
    #[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
    pub fn is_shard(self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.stem).and_then(|rest| rest.strip_suffix(".safetensors"))
        else {
            return false;
        };
        let numbers = match self.half {
            false => rest.strip_prefix('-'),
            true => rest
                .strip_prefix(".fp16-")
                .or_else(|| rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(".fp16"))),
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        numbers
            .and_then(|numbers| numbers.split_once("-of-"))
            .is_some_and(|(one, all)| is_number(one) && is_number(all))
    }
}

/// Endings of files that hold pickles: programs that run when they are read.
const PICKLES: [&str; 5] = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];

/// One safetensors file, or several that an index lists. Tensors are read when they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Vec<SafeTensors>,
    /// Which shard holds a tensor.
    tensors: BTreeMap<String, usize>,
    display: String,
}

impl Checkpoint {
    /// The weights of a model folder: `model.safetensors` or `diffusion_pytorch_model.safetensors`, or the files that
    /// `<stem>.safetensors.index.json` lists. Where there is neither, their variants in half (`fp16`) are taken, and else the
    /// only `.safetensors` file, however it is called.
    pub fn open(files: &Arc<dyn Files>) -> Result<Self, WeightError> {
        let io = |name: &str| {
            let file = files.display(name);
            move |error| WeightError::Io { file, error }
        };
        for naming in NAMINGS {
            let name = naming.whole();
            if files.size(&name).map_err(io(&name))?.is_some() {
                return Self::file(files, &name);
            }
            for name in naming.indices() {
                if let Some(index) = files.read(&name, MAX_INDEX).map_err(io(&name))? {
                    return Self::sharded(files, &name, &index);
                }
            }
        }
        let names = files.list().map_err(io(""))?;
        let mut others = names.iter().filter(|name| name.ends_with(".safetensors"));
        if let (Some(only), None) = (others.next(), others.next()) {
            return Self::file(files, only);
        }
        let (file, reason) = match names.iter().find(|name| is_pickle(name)) {
            Some(name) => (files.display(name), PICKLE.to_string()),
            None => (files.display(""), "it holds no model.safetensors".to_string()),
        };
        Err(WeightError::File { file, reason })
    }

    /// The weights of one file.
    pub fn file(files: &Arc<dyn Files>, name: &str) -> Result<Self, WeightError> {
        if is_pickle(name) {
            return Err(WeightError::File { file: files.display(name), reason: PICKLE.into() });
        }
        let shard = SafeTensors::open(files.clone(), name)?;
        let tensors = shard.entries().keys().map(|name| (name.clone(), 0)).collect();
        Ok(Self { display: shard.display(), shards: vec![shard], tensors })
    }

    /// The weights of the files that an index lists.
    fn sharded(files: &Arc<dyn Files>, name: &str, index: &[u8]) -> Result<Self, WeightError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let wrong = |reason: String| WeightError::File { file: files.display(name), reason };
        let Index { weight_map } =
            serde_json::from_slice(index).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        let mut opened: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shards: Vec<SafeTensors> = Vec::new();
        let mut tensors = BTreeMap::new();
        for (tensor, file) in &weight_map {
            let shard = match opened.get(file.as_str()) {
                Some(&shard) => shard,
                None => {
                    // An index must not lead out of its folder.
                    if file.contains(['/', '\\', ':']) || file.starts_with('.') {
                        return Err(wrong(format!("it names {file:?}, which is no file beside it")));
                    }
                    if is_pickle(file) {
                        let file = files.display(file);
                        return Err(WeightError::File { file, reason: PICKLE.into() });
                    }
                    shards.push(SafeTensors::open(files.clone(), file)?);
                    opened.insert(file, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if !shards.get(shard).is_some_and(|shard| shard.entries().contains_key(tensor)) {
                return Err(wrong(format!("tensor {tensor:?} is not in {file:?}, where it says")));
            }
            tensors.insert(tensor.clone(), shard);
        }
        // What the index does not list is there all the same, and shows as unused.
        for (i, shard) in shards.iter().enumerate() {
            for tensor in shard.entries().keys() {
                tensors.entry(tensor.clone()).or_insert(i);
            }
        }
        Ok(Self { shards, tensors, display: files.display(name) })
    }

    /// What the first file says of itself under a name.
    pub(crate) fn metadata(&self, name: &str) -> Option<&str> {
        self.shards.first()?.metadata().get(name).map(String::as_str)
    }

    fn shard(&self, name: &str) -> Option<&SafeTensors> {
        self.shards.get(*self.tensors.get(name)?)
    }

    pub(crate) fn read(&self, name: &str) -> Result<Tensor, WeightError> {
        let wrong = |reason: &str| WeightError::Tensor {
            file: self.display.clone(),
            name: name.into(),
            reason: reason.into(),
        };
        let shard = self.shard(name).ok_or_else(|| wrong("is missing"))?;
        let tensor = shard.load(name)?;
        if tensor.dtype().is_float() && has_nan(&tensor) {
            return Err(wrong("holds NaN: the file is damaged, or its training diverged"));
        }
        Ok(tensor)
    }
}

fn has_nan(tensor: &Tensor) -> bool {
    match (tensor.as_f32(), tensor.as_f16()) {
        (Some(data), _) => data.iter().any(|v| v.is_nan()),
        (_, Some(data)) => data.iter().any(|v| v.is_nan()),
        _ => false,
    }
}

pub(super) const PICKLE: &str = "it is a pickle, a program that runs when it is read, so Kiln does not read it; \
                      use the model's .safetensors file, or save one with safetensors.torch.save_file";

pub(super) fn is_pickle(name: &str) -> bool {
    PICKLES.iter().any(|ending| name.ends_with(ending))
}

impl WeightSource for Checkpoint {
    fn load(&self, name: &str) -> Result<Tensor, GraphError> {
        self.read(name).map_err(|error| unloadable(name, &error))
    }
}

impl Weights for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.shard(name)?.entries().get(name)?.shape)
    }

    fn display(&self) -> String {
        self.display.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;

    fn safetensors(name: &str, value: f32) -> Vec<u8> {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &value.to_le_bytes()].concat()
    }

    fn open(files: &[(&str, Vec<u8>)]) -> Result<Checkpoint, String> {
        let mut memory = Memory::new();
        for (name, bytes) in files {
            memory.insert(*name, bytes.clone());
        }
        Checkpoint::open(&(Arc::new(memory) as Arc<dyn Files>)).map_err(|error| error.to_string())
    }

    fn index(file: &str) -> Vec<u8> {
        format!(r#"{{"metadata":{{}},"weight_map":{{"a":"1.safetensors","b":"{file}"}}}}"#).into_bytes()
    }

    #[test]
    fn shards_are_one_set_of_weights() {
        let checkpoint = open(&[
            ("model.safetensors.index.json", index("2.safetensors")),
            ("1.safetensors", safetensors("a", 1.0)),
            ("2.safetensors", safetensors("b", 2.0)),
        ])
        .unwrap();
        assert_eq!(checkpoint.names(), ["a", "b"]);
        assert_eq!(checkpoint.load("b").unwrap().as_f32(), Some(&[2.0][..]));
        assert_eq!(checkpoint.shape("a"), Some(&[1][..]));
        assert!(checkpoint.load("c").unwrap_err().to_string().contains("\"c\""));
    }

    #[test]
    fn variants_in_half_are_taken_where_there_is_nothing_else() {
        let (half, plain) = (safetensors("half", 1.0), safetensors("plain", 2.0));
        let shards = || [("1.safetensors", safetensors("a", 1.0)), ("2.safetensors", safetensors("b", 2.0))];
        for stem in ["model", "diffusion_pytorch_model"] {
            let variant = format!("{stem}.fp16.safetensors");
            assert_eq!(open(&[(&variant, half.clone())]).unwrap().names(), ["half"]);
            for other in ["model.safetensors", "diffusion_pytorch_model.safetensors"] {
                let both = open(&[(&variant, half.clone()), (other, plain.clone())]).unwrap();
                assert_eq!(both.names(), ["plain"]);
            }
            let index = index("2.safetensors");
            let sharded = |name: &str| {
                let mut files = vec![(name, index.clone()), (variant.as_str(), half.clone())];
                files.extend(shards());
                open(&files).unwrap().names()
            };
            assert_eq!(sharded(&format!("{stem}.safetensors.index.json")), ["a", "b"]);
            for ending in [".safetensors.index.fp16.json", ".fp16.safetensors.index.json"] {
                let name = format!("{stem}{ending}");
                assert_eq!(sharded(&name), ["half"]);
                let mut files = vec![(name.as_str(), index.clone())];
                files.extend(shards());
                assert_eq!(open(&files).unwrap().names(), ["a", "b"]);
            }
        }
    }

    #[test]
    fn broken_indices_are_refused() {
        for (file, reason) in [
            ("3.safetensors", "3.safetensors"),
            ("1.safetensors", "tensor \"b\" is not in"),
            ("../2.safetensors", "no file beside it"),
            ("2.bin", "pickle"),
        ] {
            let error = open(&[
                ("model.safetensors.index.json", index(file)),
                ("1.safetensors", safetensors("a", 1.0)),
                ("2.safetensors", safetensors("b", 2.0)),
            ])
            .unwrap_err();
            assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        }
    }

    #[test]
    fn pickles_are_refused_and_safetensors_named() {
        for name in ["pytorch_model.bin", "model.ckpt", "vit.pth", "vit.pt"] {
            let error = open(&[(name, vec![0x80, 2])]).unwrap_err();
            assert!(error.contains(name) && error.contains(".safetensors"), "{error}");
        }
        assert!(open(&[]).unwrap_err().contains("no model.safetensors"));
    }

    #[test]
    fn nan_is_reported_by_name() {
        let checkpoint = open(&[("model.safetensors", safetensors("w", f32::NAN))]).unwrap();
        let error = checkpoint.load("w").unwrap_err().to_string();
        assert!(error.contains("\"w\"") && error.contains("NaN"), "{error}");
    }
}
