//! Single ops against expected tensors: one file a family, which turns a case into a graph.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{DType, Tensor};
use serde_json::Value as Json;

use super::case::CaseType;
use super::{Device, OpCase, Options, Row, Verdict, VerifyError};
use crate::weights::{Files, SafeTensors};

mod activation;
mod boxes;
mod cast;
mod conv;
mod embedding;
mod grid_sample;
mod interpolate;
mod matmul;
mod norm;
mod pad;
mod pixel_shuffle;
mod pool;
mod reduce;
mod roi_align;
mod rope;
mod sdpa;
mod selective_scan;
mod sine_position_2d;
mod softmax;
mod timestep_embedding;

/// Makes a case's graph.
pub type Build = fn(&mut OpCase) -> Result<(), VerifyError>;

/// The families that Kiln computes, by the names of their folders.
#[rustfmt::skip]
pub const FAMILIES: &[(&str, Build)] = &[
    ("activation", activation::build),
    ("cast", cast::build),
    ("conv1d", conv::build_1d),
    ("conv2d", conv::build_2d),
    ("conv_transpose2d", conv::build_transpose2d),
    ("grid_sample", grid_sample::build),
    ("interpolate", interpolate::build),
    ("linear", matmul::build_linear),
    ("matmul", matmul::build),
    ("norm", norm::build),
    ("pad", pad::build),
    ("pixel_shuffle", pixel_shuffle::build),
    ("pool", pool::build),
    ("softmax", softmax::build),
    ("reduce", reduce::build),
    ("embedding", embedding::build),
    ("sine_position_2d", sine_position_2d::build),
    ("timestep_embedding", timestep_embedding::build),
    ("rope", rope::build),
    ("box", boxes::build),
    ("roi_align", roi_align::build),
    ("selective_scan", selective_scan::build),
    ("sdpa", sdpa::build),
];

/// Default gates on NMSE.
const NMSE_F32: f64 = 1e-9;
const NMSE_F16: f64 = 1e-5;

/// A case as `config.json` lists it, with its tensors.
struct Stored {
    id: String,
    params: Json,
    inputs: HashMap<String, Tensor>,
    /// Name, tensor, noise.
    expected: Vec<(String, Tensor, Option<f64>)>,
}

/// Compares every case of a family's folder.
pub(super) async fn verify(
    files: Arc<dyn Files>,
    config: &Json,
    options: &Options<'_>,
    each: &mut dyn FnMut(Row),
) -> Result<(), VerifyError> {
    let file = files.display("config.json");
    let wrong = |reason: String| VerifyError::File { file: file.clone(), reason };
    let name = config.get("op").and_then(Json::as_str).ok_or_else(|| wrong("it names no op".into()))?;
    let cases =
        config.get("cases").and_then(Json::as_array).ok_or_else(|| wrong("it lists no cases".into()))?;
    let family = FAMILIES.iter().find(|(other, _)| *other == name);
    let inputs = SafeTensors::open(files.clone(), "inputs.safetensors")?;
    let expected = SafeTensors::open(files, "expected.safetensors")?;
    for case in cases {
        let stored = read(case, &inputs, &expected).map_err(|error| wrong(error.to_string()))?;
        let rows = match family {
            Some(&(_, build)) => compare(&stored, build, options).await,
            None => all(&stored, &Verdict::NotCompared(format!("Kiln has no op {name:?}"))),
        };
        rows.into_iter().for_each(&mut *each);
    }
    Ok(())
}

fn read(case: &Json, inputs: &SafeTensors, expected: &SafeTensors) -> Result<Stored, VerifyError> {
    let wrong = |reason: &str| VerifyError::Param { name: "cases".into(), reason: reason.into() };
    let id = case.get("id").and_then(Json::as_str).ok_or_else(|| wrong("has a case without id"))?;
    let list = |key: &str| {
        let object = case.get(key).and_then(Json::as_object);
        object.ok_or_else(|| wrong(&format!("has a case {id:?} without {key}")))
    };
    let mut given = HashMap::new();
    for name in list("inputs")?.keys() {
        given.insert(name.clone(), inputs.load(&format!("{id}.{name}"))?);
    }
    let mut wanted = Vec::new();
    for (name, about) in list("outputs")? {
        let noise = about.get("f32_vs_f64_max_abs").and_then(Json::as_f64);
        wanted.push((name.clone(), expected.load(&format!("{id}.{name}"))?, noise));
    }
    let params = case.get("params").cloned().unwrap_or(Json::Null);
    Ok(Stored { id: id.to_string(), params, inputs: given, expected: wanted })
}

/// The same verdict for every output.
fn all(stored: &Stored, verdict: &Verdict) -> Vec<Row> {
    let row = |(name, tensor, _): &(String, Tensor, _)| {
        Row::without(format!("{}.{name}", stored.id), tensor, verdict.clone())
    };
    stored.expected.iter().map(row).collect()
}

async fn compare(stored: &Stored, build: Build, options: &Options<'_>) -> Vec<Row> {
    let failed = |error: VerifyError| match error {
        VerifyError::Unsupported(reason) => Verdict::NotCompared(reason),
        other => Verdict::Failed(other.to_string()),
    };
    let half = options.precision == Precision::F16;
    if half {
        match out_of_range(stored, build, options).await {
            Ok(None) => {}
            Ok(Some(reason)) => return all(stored, &Verdict::OutOfRange(reason)),
            Err(error) => return all(stored, &failed(error)),
        }
    }
    let kind = if half { CaseType::F16 } else { CaseType::F32 };
    let computed = match run(stored, build, kind, options.device).await {
        Ok(computed) => computed,
        Err(error) => return all(stored, &failed(error)),
    };
    let row = |(name, expected, noise): &(String, Tensor, Option<f64>)| {
        let full = format!("{}.{name}", stored.id);
        match computed.get(name) {
            Some(actual) => {
                let nmse = if half { NMSE_F16 } else { NMSE_F32 };
                Row::compare(full, expected, actual, *noise, &options.gates, nmse)
            }
            None => Row::without(full, expected, Verdict::NotCompared("Kiln does not compute it".into())),
        }
    };
    stored.expected.iter().map(row).collect()
}

async fn run(
    stored: &Stored,
    build: Build,
    kind: CaseType,
    device: Device<'_>,
) -> Result<HashMap<String, Tensor>, VerifyError> {
    let mut case = OpCase::new(&stored.id, &stored.params, &stored.inputs, kind);
    build(&mut case)?;
    let (graph, feeds, finish) = case.finish();
    let feeds: Vec<(&str, Tensor)> =
        feeds.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    // The case's graph has its own types already.
    let weights = Arc::new(HashMap::<String, Tensor>::new());
    let outputs = device.run(&graph, weights, Precision::F32, BTreeSet::new(), &feeds).await?;
    finish.outputs(outputs)
}

/// Why a case cannot be compared in f16: a tensor leaves its range, or the definition itself changes by more than the
/// gate when its inputs are rounded.
async fn out_of_range(
    stored: &Stored,
    build: Build,
    options: &Options<'_>,
) -> Result<Option<String>, VerifyError> {
    let overflows = |tensor: &Tensor| {
        let rounded = tensor.cast(DType::F16).to_f64();
        tensor.dtype().is_float()
            && tensor.to_f64().iter().zip(rounded).any(|(v, r)| v.is_finite() && !r.is_finite())
    };
    let expected = stored.expected.iter().map(|(name, tensor, _)| (name, tensor));
    for (name, tensor) in stored.inputs.iter().chain(expected) {
        if overflows(tensor) {
            return Ok(Some(format!("{name:?} leaves f16's range")));
        }
    }
    let exact = run(stored, build, CaseType::F32, Device::Cpu).await?;
    let rounded = run(stored, build, CaseType::Rounded, Device::Cpu).await?;
    for (name, exact) in &exact {
        let Some(rounded) = rounded.get(name) else { continue };
        let row = Row::compare(name, exact, rounded, None, &options.gates, NMSE_F16);
        if let Verdict::Failed(reason) = row.verdict {
            return Ok(Some(format!("rounding the inputs alone changes {name:?}: {reason}")));
        }
    }
    Ok(None)
}
