//! The tuner: what is kept, what is found again, and what switches it off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln::engine::{CompileOptions, FolderStorage, Gpu, GpuOptions, Session, Storage, Tuning};
use kiln::graph::ops::{AttentionOptions, Conv2d};
use kiln::graph::{
    Builder, DType, Dispatch, Graph, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier, Unit,
    params, shaders,
};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value as Json, json};

/// `y = 2x`, by two launches of which the second may be wrong.
#[derive(Debug)]
struct Doubled {
    second_is_wrong: bool,
}

params! {
    struct DoubledParams { len: u32, factor: f32 }
}

const WGSL: &str = r"
struct Params {
    first_group: u32,
    groups: u32,
    len: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * 64u + lane;
    if i < params.len {
        y[i] = x[i] * params.factor;
    }
}
";

impl Op for Doubled {
    fn name(&self) -> &'static str {
        "doubled"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        Ok(inputs.to_vec())
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let twice = |x: &&Tensor| {
            let values: Vec<f64> = x.to_f64().iter().map(|value| value * 2.0).collect();
            Ok(Tensor::from_f64(x.shape(), x.dtype(), &values)?)
        };
        inputs.iter().map(twice).collect()
    }

    fn launches(&self, io: &Io, _tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let len = io.outputs.iter().map(TensorDesc::len).sum::<usize>() as u32;
        let launch = |name, factor| {
            let kernel = Kernel::new([shaders::GRID, Unit::custom("doubled", WGSL)]);
            let params = DoubledParams { len, factor, ..Default::default() };
            let dispatch = Dispatch::new(kernel, params, u64::from(len.div_ceil(64)))
                .bind("x", Source::Input(0))
                .bind("y", Source::Output(0));
            Launch::one(name, dispatch)
        };
        Ok(vec![launch("first", 2.0), launch("second", if self.second_is_wrong { 3.0 } else { 2.0 })])
    }
}

fn doubled(second_is_wrong: bool) -> Result<Graph, Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [100], DType::F32)?;
    let y = b.op(Doubled { second_is_wrong }, &[x])?;
    b.output("y", y)?;
    Ok(b.finish())
}

/// Texts in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<String, String>>);

impl Memory {
    /// The one table that is kept.
    fn table(&self) -> Result<Json, Failed> {
        let texts = self.0.lock().map_err(|error| error.to_string())?;
        let [text] = &texts.values().collect::<Vec<_>>()[..] else {
            return Err(format!("one table is expected: {texts:?}").into());
        };
        Ok(serde_json::from_str(text)?)
    }

    /// Replaces the times of every key.
    fn set_times(&self, times: &Json) -> Result<(), Failed> {
        let mut table = self.table()?;
        for (_, entry) in table["choices"].as_object_mut().into_iter().flatten() {
            *entry = times.clone();
        }
        self.set(&table.to_string())
    }

    fn set(&self, text: &str) -> Result<(), Failed> {
        let mut texts = self.0.lock().map_err(|error| error.to_string())?;
        texts.values_mut().for_each(|old| *old = text.to_string());
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_ok_and(|texts| texts.is_empty())
    }
}

impl Storage for Memory {
    fn load(&self, name: &str) -> Result<Option<String>, String> {
        Ok(self.0.lock().map_err(|error| error.to_string())?.get(name).cloned())
    }

    fn save(&self, name: &str, text: &str) -> Result<(), String> {
        self.0.lock().map_err(|error| error.to_string())?.insert(name.into(), text.into());
        Ok(())
    }
}

/// More than every trial here takes.
const ENOUGH: Tuning = Tuning::Budget(Duration::from_secs(3600));

fn open(storage: &Arc<impl Storage + 'static>, tuning: Tuning) -> Result<Gpu, Failed> {
    let storage: Arc<dyn Storage> = storage.clone();
    let options = GpuOptions { tuning: Some(tuning), storage: Some(storage), ..Default::default() };
    Ok(Gpu::open_blocking(&options)?)
}

/// The launch that a graph of one node takes.
fn taken(gpu: &Gpu, graph: &Graph, options: &CompileOptions) -> Result<&'static str, Failed> {
    let session = Session::compile_blocking(gpu, graph, &HashMap::new(), options)?;
    let profile = session.profile_blocking(&[("x", Tensor::f32([100], vec![1.0; 100])?)])?;
    match &profile.rows[..] {
        [row] => Ok(row.launch),
        rows => Err(format!("one node is expected: {rows:?}").into()),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), Failed> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}").into()) }
}

/// Storage in which a graph's times are on record, the second launch's the shorter.
fn second_is_faster(graph: &Graph) -> Result<Arc<Memory>, Failed> {
    let storage = Arc::new(Memory::default());
    taken(&open(&storage, ENOUGH)?, graph, &CompileOptions::default())?;
    storage.set_times(&json!({ "first": 2.0, "second": 1.0 }))?;
    Ok(storage)
}

fn a_choice_is_found_again_by_another_gpu(_: &Gpu) -> Result<(), Failed> {
    let (graph, storage) = (doubled(false)?, Arc::new(Memory::default()));
    taken(&open(&storage, ENOUGH)?, &graph, &CompileOptions::default())?;
    let table = storage.table()?;
    for (key, entry) in table["choices"].as_object().into_iter().flatten() {
        if !["first", "second"].iter().all(|launch| entry[launch].as_f64().is_some_and(|s| s >= 0.0)) {
            return Err(format!("both launches of {key} are to be timed: {entry}").into());
        }
    }
    for (first, second, wanted) in [(2.0, 1.0, "second"), (1.0, 2.0, "first")] {
        storage.set_times(&json!({ "first": first, "second": second }))?;
        for tuning in [Tuning::Cached, ENOUGH] {
            let found = taken(&open(&storage, tuning)?, &graph, &CompileOptions::default())?;
            expect("the launch on record as the faster", found, wanted)?;
        }
    }
    Ok(())
}

fn deterministic_and_named_launches_ignore_what_was_measured(_: &Gpu) -> Result<(), Failed> {
    let graph = doubled(false)?;
    let storage = second_is_faster(&graph)?;
    let gpu = open(&storage, Tuning::Cached)?;
    expect("measured", taken(&gpu, &graph, &CompileOptions::default())?, "second")?;
    let deterministic = CompileOptions { deterministic: true, ..Default::default() };
    expect("deterministic", taken(&gpu, &graph, &deterministic)?, "first")?;
    let named = |name: &str| CompileOptions { launch: Some(name.into()), ..Default::default() };
    expect("named", taken(&gpu, &graph, &named("first"))?, "first")?;
    let both = CompileOptions { deterministic: true, ..named("second") };
    expect("named and deterministic", taken(&gpu, &graph, &both)?, "second")?;
    let storage: Arc<dyn Storage> = storage;
    let options = GpuOptions { deterministic: true, storage: Some(storage), ..Default::default() };
    let gpu = Gpu::open_blocking(&options)?;
    expect("a deterministic device", taken(&gpu, &graph, &CompileOptions::default())?, "first")
}

fn nothing_is_tried_without_a_budget(_: &Gpu) -> Result<(), Failed> {
    for tuning in [Tuning::Cached, Tuning::Budget(Duration::ZERO)] {
        let storage = Arc::new(Memory::default());
        let found = taken(&open(&storage, tuning)?, &doubled(false)?, &CompileOptions::default())?;
        expect("the best guess", found, "first")?;
        expect("nothing is stored", storage.is_empty(), true)?;
    }
    Ok(())
}

fn a_launch_with_other_numbers_is_rejected(_: &Gpu) -> Result<(), Failed> {
    let storage = Arc::new(Memory::default());
    let graph = doubled(true)?;
    let found = taken(&open(&storage, ENOUGH)?, &graph, &CompileOptions::default())?;
    expect("the launch", found, "first")?;
    let table = storage.table()?;
    let rejected = table["choices"].as_object().into_iter().flatten().all(|(_, e)| e["second"].is_null());
    expect("the rejection is on record", rejected, true)?;
    expect("with the other's time", table.to_string().contains("\"first\""), true)
}

/// Files cut short, of other programs and of other versions are replaced by what is measured.
fn broken_files_are_replaced(_: &Gpu) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let storage = Arc::new(FolderStorage::new(folder.path().join("made")));
    let graph = doubled(false)?;
    let tune = || taken(&open(&storage, ENOUGH)?, &graph, &CompileOptions::default());
    let files = || -> Result<Vec<_>, Failed> {
        let entries = std::fs::read_dir(folder.path().join("made"))?;
        Ok(entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?)
    };
    tune()?;
    let [file] = &files()?[..] else { return Err(format!("one file is expected: {:?}", files()?).into()) };
    let good = std::fs::read_to_string(file)?;
    let mut other: Json = serde_json::from_str(&good)?;
    other["kiln"] = json!("0.0.0-other");
    for (_, entry) in other["choices"].as_object_mut().into_iter().flatten() {
        *entry = json!({ "first": 2.0, "second": 1.0, "others": 0.5 });
    }
    for text in ["", "{", "[1, 2]", &good[..good.len() - 9], &other.to_string()] {
        std::fs::write(file, text)?;
        tune()?;
        let table: Json = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        let found = table["choices"].as_object().map(|choices| choices.len());
        expect("what was measured is there", found, Some(1))?;
        expect("nothing of the other is left", table.to_string().contains("others"), false)?;
    }
    std::fs::write(file, [0xFF, 0xFE, 0x00])?;
    tune()?;
    expect("no temporary file is left", files()?, vec![file.clone()])
}

/// The launches of real ops give the same numbers on made-up inputs, by the tuner's own gate.
fn launches_of_real_ops_are_not_rejected(_: &Gpu) -> Result<(), Failed> {
    let mut b = Builder::new();
    let x = b.input("x", [1, 12, 12, 64], DType::F32)?;
    let constant = |shape: &[usize]| {
        let len: usize = shape.iter().product();
        Tensor::f32(shape, (0..len).map(|i| (i as f32 * 0.37).sin() * 0.1).collect::<Vec<_>>())
    };
    let weight = b.constant(constant(&[64, 64, 3, 3])?);
    let y = b.conv2d(x, weight, None, Conv2d::default().padding(1))?;
    let (scale, shift) = (b.constant(constant(&[64])?), b.constant(constant(&[64])?));
    let y = b.group_norm(y, 8, Some(scale), Some(shift), 1e-5)?;
    let y = b.reshape(y, [1, 144, 64])?;
    let y = b.layer_norm(y, Some(scale), Some(shift), 1e-5)?;
    let projection = b.constant(constant(&[64, 64])?);
    let y = b.linear(y, projection, None)?;
    let y = b.scaled_dot_product_attention(y, y, y, &AttentionOptions::heads(2))?;
    let y = b.softmax(y, -1)?;
    b.output("y", y)?;
    let storage = Arc::new(Memory::default());
    let gpu = open(&storage, ENOUGH)?;
    Session::compile_blocking(&gpu, &b.finish(), &HashMap::new(), &CompileOptions::default())?;
    let table = storage.table()?;
    let entries = table["choices"].as_object().into_iter().flatten();
    let mut tried = 0;
    for (key, entry) in entries {
        for (launch, seconds) in entry.as_object().into_iter().flatten() {
            tried += 1;
            if seconds.as_f64().is_none() {
                return Err(format!("{launch} of {key} was rejected").into());
            }
        }
    }
    if tried < 4 { Err(format!("only {tried} launches were tried").into()) } else { Ok(()) }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let tests: [(&str, fn(&Gpu) -> Result<(), Failed>); 6] = [
        ("a_choice_is_found_again_by_another_gpu", a_choice_is_found_again_by_another_gpu),
        (
            "deterministic_and_named_launches_ignore_what_was_measured",
            deterministic_and_named_launches_ignore_what_was_measured,
        ),
        ("nothing_is_tried_without_a_budget", nothing_is_tried_without_a_budget),
        ("a_launch_with_other_numbers_is_rejected", a_launch_with_other_numbers_is_rejected),
        ("broken_files_are_replaced", broken_files_are_replaced),
        ("launches_of_real_ops_are_not_rejected", launches_of_real_ops_are_not_rejected),
    ];
    tests.into_iter().map(|(name, test)| crate::trial(format!("tuning::{name}"), gpu, test)).collect()
}
