//! A model against expected tensors.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{DType, Graph, Tensor};
use serde_json::Value as Json;

use super::case::permute;
use super::models::{FAMILIES, Family};
use super::{Device, Options, Row, Verdict, VerifyError};
use crate::vq_model;
use crate::weights::{self, Files, SafeTensors, SharedWeights, Weights};

/// Largest JSON file.
const MAX_JSON: u64 = 256 << 20;

/// One run of a model: some of the folder's inputs, and the tensors that are expected of them.
pub struct ModelRun<'a> {
    /// The folder, for whatever else a model reads.
    pub files: &'a Arc<dyn Files>,
    /// `config.json` or `model_index.json`.
    pub config: &'a Json,
    /// The weights, from a file or a recipe.
    pub weights: &'a dyn Weights,
    /// Inputs by name, without the run's suffix, as they lie on disk.
    pub inputs: HashMap<String, Tensor>,
    /// Hidden layers to give, without `mid.`.
    pub layers: Vec<String>,
    /// What is expected of it, by name without `out.`, for what the inputs do not tell.
    pub expected: HashMap<&'a str, &'a Tensor>,
    /// How far numbers of a tensor may be off for noise alone, by its name without `out.`, where that is known.
    pub noise: HashMap<&'a str, f64>,
    shared: SharedWeights,
    device: Device<'a>,
    precision: Precision,
}

impl ModelRun<'_> {
    /// What computes.
    pub(super) fn device(&self) -> crate::Device {
        self.device.owned()
    }

    /// The weights, for a model that reads them its own way.
    pub(super) fn shared(&self) -> SharedWeights {
        self.shared.clone()
    }

    /// How activations and weights are stored.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// An input as it lies on disk.
    pub fn input(&self, name: &str) -> Result<&Tensor, VerifyError> {
        let missing = || VerifyError::Tensor { name: name.into(), reason: "is not in the inputs".into() };
        self.inputs.get(name).ok_or_else(missing)
    }

    /// An input of images, with channels last: `[batch, height, width, channels]`.
    pub fn image(&self, name: &str) -> Result<Tensor, VerifyError> {
        let tensor = self.input(name)?;
        if tensor.shape().len() != 4 {
            let reason = format!("has shape {:?}, which is no batch of images", tensor.shape());
            return Err(VerifyError::Tensor { name: name.into(), reason });
        }
        permute(tensor, &[0, 2, 3, 1])
    }

    /// Computes a graph's outputs, by name. With f16 storage, nodes whose path is in `keep_f32` stay f32, and those whose
    /// tensors leave its range.
    pub async fn compute(
        &self,
        graph: Graph,
        keep_f32: BTreeSet<String>,
        inputs: &[(&str, Tensor)],
    ) -> Result<HashMap<String, Tensor>, VerifyError> {
        self.compute_with(&self.shared, graph, keep_f32, inputs).await
    }

    /// The same with weights of its own.
    pub(super) async fn compute_with(
        &self,
        weights: &SharedWeights,
        graph: Graph,
        keep_f32: BTreeSet<String>,
        inputs: &[(&str, Tensor)],
    ) -> Result<HashMap<String, Tensor>, VerifyError> {
        let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
        let outputs = self.device.run(&graph, weights.clone(), self.precision, keep_f32, inputs).await?;
        Ok(names.into_iter().zip(outputs).collect())
    }
}

/// Images with channels last as they lie on disk, channels second.
pub fn channels_second(tensor: &Tensor) -> Result<Tensor, VerifyError> {
    let rank = tensor.shape().len();
    if rank < 3 {
        return Ok(tensor.clone());
    }
    permute(tensor, &[0, rank - 1].into_iter().chain(1..rank - 1).collect::<Vec<_>>())
}

/// What is expected under a name.
struct Expected {
    /// With `out.` or `mid.`.
    name: String,
    /// Without the suffix of its run.
    base: String,
    tensor: Tensor,
    about: About,
}

/// What a manifest says of an expected tensor.
#[derive(Default)]
struct About {
    noise: Option<f64>,
    /// The whole tensor's shape, and every how manieth element is stored.
    sampled: Option<(Vec<usize>, usize)>,
    /// The whole tensor's sum and root mean square.
    sum: Option<(f64, f64)>,
}

impl About {
    fn of(manifest: &Json, name: &str) -> Self {
        let Some(about) = manifest.get("expected").and_then(|expected| expected.get(name)) else {
            return Self::default();
        };
        let number = |key: &str| about.get(key).and_then(Json::as_f64);
        let stride = about.get("sample_stride").and_then(Json::as_u64).filter(|&stride| stride > 0);
        let shape = about.get("shape").and_then(Json::as_array).and_then(|shape| {
            shape.iter().map(|extent| usize::try_from(extent.as_u64()?).ok()).collect::<Option<Vec<_>>>()
        });
        Self {
            noise: number("f32_vs_f64_max_abs"),
            sampled: shape.zip(stride.map(|stride| stride as usize)),
            sum: number("f64_sum").zip(number("rms")),
        }
    }
}

/// Runs the model of a folder on its inputs.
pub(super) async fn verify(
    files: Arc<dyn Files>,
    config: &Json,
    options: &Options<'_>,
    each: &mut dyn FnMut(Row),
) -> Result<(), VerifyError> {
    let family = family(config)?;
    let manifest = read_json(&files, "manifest.json")?.unwrap_or(Json::Null);
    let weights: SharedWeights = match config.get("_class_name").and_then(Json::as_str) {
        // A pipeline's weights lie in its parts.
        Some(class) if class.ends_with("Pipeline") => Arc::new(HashMap::<String, Tensor>::new()),
        _ => weights::open(&files)?,
    };
    let inputs = SafeTensors::open(files.clone(), "inputs.safetensors")?;
    let expected = SafeTensors::open(files.clone(), "expected.safetensors")?;
    let input_names: Vec<&str> = inputs.entries().keys().map(String::as_str).collect();
    let wanted: Vec<&str> = expected.entries().keys().map(String::as_str).collect();
    let runs = runs(&input_names, &wanted);
    let suffixes: Vec<String> = runs.iter().map(|(suffix, _)| suffix.clone()).collect();
    for (suffix, names) in runs {
        let mut list = Vec::new();
        for name in names {
            if name.starts_with("mid.") && !options.layers {
                continue;
            }
            list.push(Expected {
                base: strip(name, &suffix).to_string(),
                name: name.to_string(),
                tensor: expected.load(name)?,
                about: About::of(&manifest, name),
            });
        }
        let mids = list.iter().filter_map(|expected| expected.base.strip_prefix("mid."));
        let run = ModelRun {
            files: &files,
            config,
            weights: weights.as_ref(),
            shared: weights.clone(),
            inputs: select(&inputs, &suffix, &suffixes)?,
            layers: mids.map(str::to_string).collect(),
            expected: list
                .iter()
                .filter_map(|expected| Some((expected.base.strip_prefix("out.")?, &expected.tensor)))
                .collect(),
            noise: list
                .iter()
                .filter_map(|expected| {
                    let noise = expected.about.noise? * options.gates.noise;
                    Some((expected.base.strip_prefix("out.")?, noise))
                })
                .collect(),
            device: options.device,
            precision: options.precision,
        };
        let computed = (family.run)(&run).await?;
        for expected in &list {
            each(judge(expected, &computed, family, options)?);
        }
    }
    Ok(())
}

/// The same verdict for every expected output of a folder.
pub fn all(files: Arc<dyn Files>, verdict: &Verdict, each: &mut dyn FnMut(Row)) -> Result<(), VerifyError> {
    let expected = SafeTensors::open(files, "expected.safetensors")?;
    for (name, entry) in expected.entries() {
        if !name.starts_with("mid.") {
            let empty = kiln_graph::TensorDesc::new([0], DType::F32);
            let mut row = Row::without(name, &Tensor::zeros(&empty), verdict.clone());
            row.shape = entry.shape.clone();
            each(row);
        }
    }
    Ok(())
}

fn read_json(files: &Arc<dyn Files>, name: &str) -> Result<Option<Json>, VerifyError> {
    let wrong = |reason: String| VerifyError::File { file: files.display(name), reason };
    match files.read(name, MAX_JSON).map_err(|error| wrong(error.to_string()))? {
        Some(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(format!("it is no JSON: {error}")))
        }
        None => Ok(None),
    }
}

/// `config.json`, or `model_index.json`.
pub(super) fn config(files: &Arc<dyn Files>) -> Result<Json, VerifyError> {
    for name in ["config.json", "model_index.json"] {
        if let Some(config) = read_json(files, name)? {
            return Ok(config);
        }
    }
    let file = files.display("config.json");
    Err(VerifyError::File { file, reason: "there is no such file, and no model_index.json beside it".into() })
}

/// The model that the configuration names.
fn family(config: &Json) -> Result<&'static Family, VerifyError> {
    let text = |key: &str| config.get(key).and_then(Json::as_str);
    // The only one of the paper's own configurations that Kiln reads.
    let original = vq_model::Config::is_original(config).then_some("VQModel");
    let architectures = config.get("architectures").and_then(Json::as_array);
    let architecture = architectures.and_then(|list| list.first()).and_then(Json::as_str);
    let said = text("architecture").or(text("model_type")).or(text("_class_name")).or(architecture);
    let name =
        original.or(said).ok_or_else(|| VerifyError::Unsupported("config.json names no model".into()))?;
    let unknown = || VerifyError::Unsupported(format!("Kiln has no model {name:?}"));
    FAMILIES.iter().find(|family| (family.matches)(name)).ok_or_else(unknown)
}

/// `out.logits_odd` without `_odd`.
fn strip<'a>(name: &'a str, suffix: &str) -> &'a str {
    let stripped = name.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('_'));
    stripped.filter(|_| !suffix.is_empty()).unwrap_or(name)
}

/// The runs that the names ask for: a suffix, and the expected tensors that belong to it. An input whose name is
/// another's with something behind it makes a run of its own.
fn runs<'a>(inputs: &[&str], expected: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let mut suffixes: Vec<String> = Vec::new();
    for name in inputs {
        let base = inputs.iter().filter_map(|base| name.strip_prefix(base)?.strip_prefix('_')).next();
        if let Some(suffix) = base
            && !suffixes.iter().any(|other| other == suffix)
        {
            suffixes.push(suffix.to_string());
        }
    }
    // The longest that fits decides.
    suffixes.sort_by_key(|suffix| std::cmp::Reverse(suffix.len()));
    let mut runs: Vec<(String, Vec<&str>)> = vec![(String::new(), Vec::new())];
    for suffix in suffixes {
        runs.push((suffix, Vec::new()));
    }
    for &name in expected {
        let own = runs.iter().position(|(suffix, _)| !suffix.is_empty() && strip(name, suffix) != name);
        if let Some((_, names)) = runs.get_mut(own.unwrap_or(0)) {
            names.push(name);
        }
    }
    runs.retain(|(_, names)| !names.is_empty());
    runs
}

/// The inputs of a run: its own, and the others cut to its batch. `suffixes` are those of all runs.
fn select(
    inputs: &SafeTensors,
    suffix: &str,
    suffixes: &[String],
) -> Result<HashMap<String, Tensor>, VerifyError> {
    let names: Vec<&String> = inputs.entries().keys().collect();
    let plain = |name: &str| is_plain(name, &names, suffixes);
    let mut own = HashMap::new();
    let mut batch = None;
    if !suffix.is_empty() {
        for &name in &names {
            if strip(name, suffix) != name {
                let tensor = inputs.load(name)?;
                batch = batch.or(tensor.shape().first().copied());
                own.insert(strip(name, suffix).to_string(), tensor);
            }
        }
    }
    for name in &names {
        if plain(name) && !own.contains_key(name.as_str()) {
            let tensor = inputs.load(name)?;
            own.insert((*name).clone(), cut(&tensor, batch)?);
        }
    }
    Ok(own)
}

/// Whether an input is for all runs. Names that are another's with a run's suffix belong to that run alone;
/// `timestep_cond`, where no expected tensor ends with `_cond`, is an input of its own beside `timestep`.
fn is_plain(name: &str, names: &[&String], suffixes: &[String]) -> bool {
    let suffix_of = |base: &&String| name.strip_prefix(base.as_str())?.strip_prefix('_');
    !names.iter().filter_map(suffix_of).any(|rest| suffixes.iter().any(|suffix| suffix == rest))
}

/// The first `batch` rows.
fn cut(tensor: &Tensor, batch: Option<usize>) -> Result<Tensor, VerifyError> {
    match (tensor.shape().split_first(), batch) {
        (Some((&rows, rest)), Some(batch)) if batch < rows => {
            let len = batch * rest.iter().product::<usize>();
            let shape: Vec<usize> = [&[batch], rest].concat();
            Ok(tensor.pick(shape, (0..len).map(Some))?)
        }
        _ => Ok(tensor.clone()),
    }
}

fn judge(
    expected: &Expected,
    computed: &HashMap<String, Tensor>,
    family: &Family,
    options: &Options<'_>,
) -> Result<Row, VerifyError> {
    let base = expected.base.strip_prefix("out.").unwrap_or(&expected.base);
    let Some(actual) = computed.get(base) else {
        let verdict = Verdict::NotCompared("the model does not give it".into());
        return Ok(Row::without(&expected.name, &expected.tensor, verdict));
    };
    let half = options.precision == Precision::F16;
    let default = family.nmse[usize::from(half)];
    let about = &expected.about;
    let Some((shape, stride)) = &about.sampled else {
        let (want, noise) = (&expected.tensor, about.noise);
        let mut row = Row::compare(&expected.name, want, actual, noise, &options.gates, default);
        let free = half && options.gates.nmse.is_none() && (family.reported)(&expected.name);
        if let (true, Some(_), Verdict::Failed(reason)) = (free, row.comparison, &row.verdict) {
            row.verdict = Verdict::Reported(reason.clone());
        }
        if let (true, Some(found), Verdict::Failed(_)) = (half, row.comparison, &row.verdict)
            && !want.dtype().is_float()
            && found.wrong as f64 <= (1.0 - family.equal) * want.len() as f64
        {
            row.verdict = Verdict::Passed;
        }
        return Ok(row);
    };
    // Some elements are stored, and the sum of all.
    if actual.shape() != shape.as_slice() {
        let reason = format!("has shape {:?} instead of {shape:?}", actual.shape());
        return Ok(Row::without(&expected.name, &expected.tensor, Verdict::Failed(reason)));
    }
    let picked: Vec<Option<usize>> = (0..actual.len()).step_by(*stride).map(Some).collect();
    let sampled = actual.pick([picked.len()], picked.into_iter())?;
    let flat = expected.tensor.reshape([expected.tensor.len()])?;
    let mut row = Row::compare(&expected.name, &flat, &sampled, about.noise, &options.gates, default);
    row.shape = shape.clone();
    if let (Some((sum, rms)), Verdict::Passed) = (about.sum, &row.verdict) {
        // By Cauchy and Schwarz, errors of this NMSE move the sum by at most that much.
        let len = actual.len() as f64;
        let nmse = options.gates.nmse.unwrap_or(default);
        let noise = options.gates.noise * about.noise.unwrap_or(0.0);
        let bound = len * (rms * nmse.sqrt()).max(noise);
        let error = (actual.to_f64().iter().sum::<f64>() - sum).abs();
        if error.is_nan() || error > bound {
            let reason = format!("the sum of all elements is off by {error:.3e}, more than {bound:.3e}");
            row.verdict = Verdict::Failed(reason);
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_make_runs() {
        let inputs = ["pixel_values", "pixel_values_other_size", "mask"];
        let expected = ["mid.layer0", "out.logits", "out.logits_other_size"];
        assert_eq!(
            runs(&inputs, &expected),
            [
                (String::new(), vec!["mid.layer0", "out.logits"]),
                ("other_size".to_string(), vec!["out.logits_other_size"])
            ]
        );
        assert_eq!(strip("out.logits_other_size", "other_size"), "out.logits");
        assert_eq!(strip("out.logits", ""), "out.logits");
    }

    #[test]
    fn a_longer_name_is_no_suffix_unless_something_is_expected_of_it() {
        let names = ["sample", "sample_odd", "timestep", "timestep_cond", "timestep_cond_odd"];
        let suffixes: Vec<String> =
            runs(&names, &["out.sample", "out.sample_odd"]).into_iter().map(|(suffix, _)| suffix).collect();
        let owned = names.map(String::from);
        let all: Vec<&String> = owned.iter().collect();
        let plain = names.map(|name| is_plain(name, &all, &suffixes));
        assert_eq!(plain, [true, false, true, true, false]);
    }

    #[test]
    fn some_integers_may_differ_in_f16_where_a_family_allows_it() {
        let family = Family {
            matches: |_| false,
            nmse: [1e-9; 2],
            equal: 0.75,
            reported: |_| false,
            run: |_| Box::pin(async { Ok(HashMap::new()) }),
        };
        let tensor = |values: &[i32]| Tensor::i32([4], values.to_vec()).unwrap();
        let (name, about) = ("out.indices".to_string(), About::default());
        let expected = Expected { base: name.clone(), name, tensor: tensor(&[1, 2, 3, 4]), about };
        let passes = |precision, values: &[i32]| {
            let options =
                Options { device: Device::Cpu, precision, gates: Default::default(), layers: false };
            let computed = HashMap::from([("indices".to_string(), tensor(values))]);
            judge(&expected, &computed, &family, &options).unwrap().verdict == Verdict::Passed
        };
        assert!(passes(Precision::F32, &[1, 2, 3, 4]));
        assert!(!passes(Precision::F32, &[1, 2, 3, 5]));
        assert!(passes(Precision::F16, &[1, 2, 3, 5]));
        assert!(!passes(Precision::F16, &[1, 2, 5, 5]));
    }

    #[test]
    fn shared_inputs_are_cut_to_the_batch() {
        let x = Tensor::i32([3, 2], vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(cut(&x, Some(1)).unwrap().as_i32(), Some(&[1, 2][..]));
        assert_eq!(cut(&x, Some(5)).unwrap(), x);
        assert_eq!(cut(&Tensor::scalar(1.0), Some(1)).unwrap(), Tensor::scalar(1.0));
    }
}
