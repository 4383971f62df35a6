//! Options of devices and compilations.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

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
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            disable: Vec::new(),
            checks: Checks::Fast,
            deadline: Duration::from_secs(120),
            limits: None,
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
    /// Which of an op's launches to take, by name; the first where there is none of it.
    pub launch: Option<String>,
    /// Debugging: fill every buffer with NaN before a run and put sentinels around it, which [`crate::Session::run`]
    /// checks afterwards.
    pub guard: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { precision: Precision::F32, keep_f32: BTreeSet::new(), fuse: true, launch: None, guard: false }
    }
}
