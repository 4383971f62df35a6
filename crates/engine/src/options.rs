//! Options of devices and compilations.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::Storage;

/// A part of a device's tier that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// 16-bit floats.
    F16,
    /// Subgroup operations.
    Subgroups,
    /// Cooperative matrices.
    Coop,
    /// Timestamp queries.
    Timestamps,
    /// Knowing that the device is a software rasteriser.
    Software,
}

impl Part {
    /// Every part, with its name on command lines and in `KILN_DISABLE`.
    pub const ALL: [(Part, &'static str); 5] = [
        (Part::F16, "f16"),
        (Part::Subgroups, "subgroups"),
        (Part::Coop, "coop"),
        (Part::Timestamps, "timestamps"),
        (Part::Software, "software"),
    ];

    /// Parts named in a comma-separated list; unknown names are given back.
    pub fn parse_list(list: &str) -> Result<Vec<Part>, String> {
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<&str> = Part::ALL.iter().map(|&(_, name)| name).collect();
        let found = Part::ALL.iter().find(|(_, other)| *other == name);
        found.map(|&(part, _)| part).ok_or_else(|| format!("{name:?} is none of {}", names.join(", ")))
    }
}

/// Which runtime checks stay in Kiln's own shaders. Those of a user's op always keep all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checks {
    /// No bounding of loops, whose counters Kiln's kernels bound themselves; everything else is checked.
    #[default]
    Fast,
    /// Everything is checked.
    All,
}

/// How launches are chosen where an op offers several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// By what was measured on this device before; elsewhere the best guess.
    Cached,
    /// The same, and what was not measured yet is tried out while a graph is compiled, for so long: a candidate that
    /// probably takes longer than what is left is not begun, so that one at most, an unexpectedly slow one, overruns
    /// it. Browsers have no clock, and only look up.
    Budget(Duration),
}

impl Tuning {
    /// A second on GPUs. In software, compiling one candidate costs more than the choice gains: only what is known.
    pub fn default_for(device: wgpu::DeviceType, backend: wgpu::Backend) -> Self {
        if device == wgpu::DeviceType::Cpu || backend == wgpu::Backend::Noop {
            Tuning::Cached
        } else {
            Tuning::Budget(Duration::from_secs(1))
        }
    }
}

/// How a device is opened.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Part of the wanted adapter's name, in any case; the first adapter that fits is taken.
    pub adapter: Option<String>,
    /// Parts of the tier to do without. `KILN_DISABLE` adds to them.
    pub disable: Vec<Part>,
    /// Runtime checks in Kiln's own shaders.
    pub checks: Checks,
    /// How long a run may take before the device is given up.
    pub deadline: Duration,
    /// Limits to ask for instead of the adapter's own, for tests.
    pub limits: Option<wgpu::Limits>,
    /// How compilations choose launches that do not say it themselves; by default [`Tuning::default_for`] the device.
    pub tuning: Option<Tuning>,
    /// Makes every compilation deterministic; see [`CompileOptions::deterministic`].
    pub deterministic: bool,
    /// Where choices are kept; by default a file in the user's folder for caches, and nowhere in browsers.
    pub storage: Option<Arc<dyn Storage>>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            disable: Vec::new(),
            checks: Checks::Fast,
            deadline: Duration::from_secs(120),
            limits: None,
            tuning: None,
            deterministic: false,
            storage: None,
        }
    }
}

/// In which type weights and activations are stored. Sums, norms and softmax are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f16.
    F16,
}

/// How a graph is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Storage type.
    pub precision: Precision,
    /// Paths of nodes that run in f32 where the precision is f16, because a tensor of theirs leaves f16's range.
    pub keep_f32: BTreeSet<String>,
    /// Whether passes may fuse and fold nodes.
    pub fuse: bool,
    /// Which of an op's launches to take, by name; the best guess where there is none of it. Nothing is tuned.
    pub launch: Option<String>,
    /// How launches are chosen; by default as the device was opened with.
    pub tuning: Option<Tuning>,
    /// Takes the best guess everywhere. Launches differ in the order of sums: with measured choices, the last bits of
    /// results depend on what a machine measured; without, runs repeat bit for bit on a device, in every process.
    pub deterministic: bool,
    /// Debugging: fill every buffer with NaN before a run and put sentinels around it, which [`crate::Session::run`]
    /// checks afterwards.
    pub guard: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            keep_f32: BTreeSet::new(),
            fuse: true,
            launch: None,
            tuning: None,
            deterministic: false,
            guard: false,
        }
    }
}
