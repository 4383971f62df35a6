//! Devices: which there are, what they offer, and the tier that kernels choose by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kiln_graph::{CoopKind, DeviceLimits, SubgroupSize, Tier};

use crate::faults::Guarded;
use crate::pipeline::Slot;
use crate::tuning::Choices;
use crate::{Checks, CompileOptions, Error, GpuOptions, Part, Storage, Tuning};

/// An adapter and what a device of it would offer.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    /// Name, driver and backend as wgpu gives them.
    pub info: wgpu::AdapterInfo,
    /// The tier.
    pub tier: Tier,
}

impl AdapterReport {
    fn of(adapter: &wgpu::Adapter, disable: &[Part]) -> Self {
        let info = adapter.get_info();
        let tier = tier(&info, adapter.features(), &adapter.limits(), coop_kinds(adapter), disable);
        Self { info, tier }
    }
}

/// An open device. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(crate) guarded: Guarded,
    pub(crate) pipelines: Arc<Mutex<HashMap<PipelineKey, Slot>>>,
    pub(crate) choices: Arc<Choices>,
    info: wgpu::AdapterInfo,
    tier: Tier,
    checks: Checks,
    tuning: Tuning,
    deterministic: bool,
}

pub(crate) type PipelineKey = (kiln_graph::Kernel, Checks);

const FEATURES: [(Part, wgpu::Features); 4] = [
    (Part::F16, wgpu::Features::SHADER_F16),
    (Part::Subgroups, wgpu::Features::SUBGROUP),
    (Part::Coop, wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
    (Part::Timestamps, wgpu::Features::TIMESTAMP_QUERY),
];

/// The features Kiln uses, of those offered and not switched off.
fn wanted_features(offered: wgpu::Features, disable: &[Part]) -> wgpu::Features {
    let wanted = FEATURES.iter().filter(|(part, _)| !disable.contains(part));
    wanted.fold(wgpu::Features::empty(), |all, (_, feature)| all | *feature) & offered
}

fn coop_kinds(adapter: &wgpu::Adapter) -> Vec<CoopKind> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !adapter.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return Vec::new();
    }
    let square = |p: &wgpu::CooperativeMatrixProperties| p.m_size == p.n_size && p.n_size == p.k_size;
    let mut kinds: Vec<CoopKind> = adapter
        .cooperative_matrix_properties()
        .iter()
        .filter(|p| square(p) && matches!(p.ab_type, F16 | F32) && matches!(p.cr_type, F16 | F32))
        .map(|p| CoopKind { size: p.m_size, f16_in: p.ab_type == F16, f32_out: p.cr_type == F32 })
        .collect();
    kinds.dedup();
    kinds
}

fn tier(
    info: &wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    coop: Vec<CoopKind>,
    disable: &[Part],
) -> Tier {
    let has = |part: Part| {
        let feature = FEATURES.iter().find(|(other, _)| *other == part).map(|&(_, feature)| feature);
        !disable.contains(&part) && feature.is_some_and(|feature| features.contains(feature))
    };
    let sizes = SubgroupSize { min: info.subgroup_min_size, max: info.subgroup_max_size };
    Tier {
        f16: has(Part::F16),
        subgroups: (has(Part::Subgroups) && sizes.min > 0).then_some(sizes),
        coop: if has(Part::Coop) { coop } else { Vec::new() },
        timestamps: has(Part::Timestamps),
        software: info.device_type == wgpu::DeviceType::Cpu && !disable.contains(&Part::Software),
        limits: DeviceLimits {
            max_invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            max_shared_bytes: limits.max_compute_workgroup_storage_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            offset_alignment: limits
                .min_storage_buffer_offset_alignment
                .max(limits.min_uniform_buffer_offset_alignment),
            max_groups: limits.max_compute_workgroups_per_dimension,
        },
    }
}

/// The parts to do without: those given and those in `KILN_DISABLE`. Unknown names are warned of.
fn disabled(options: &GpuOptions) -> Vec<Part> {
    let mut parts = options.disable.clone();
    match std::env::var("KILN_DISABLE").map(|list| Part::parse_list(&list)) {
        Ok(Ok(more)) => parts.extend(more),
        Ok(Err(error)) => log::warn!("KILN_DISABLE: {error}"),
        Err(_) => {}
    }
    parts
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env())
}

/// GPUs first, then software rasterisers, then what is not fit for compute.
fn rank(info: &wgpu::AdapterInfo) -> u32 {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    // OpenGL last: it is not fully conforming to WebGPU.
    kind + if info.backend == wgpu::Backend::Gl { 10 } else { 0 }
}

async fn adapters() -> Vec<wgpu::Adapter> {
    let instance = instance();
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    if adapters.is_empty()
        && let Ok(adapter) = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await
    {
        // Browsers do not enumerate.
        adapters.push(adapter);
    }
    adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
    adapters
}

fn describe(info: &wgpu::AdapterInfo) -> String {
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    format!("{} ({:?}, {})", info.name, info.backend, driver.trim())
}

/// Where choices are kept unless the application says otherwise.
fn user_storage() -> Option<Arc<dyn Storage>> {
    #[cfg(not(target_arch = "wasm32"))]
    return crate::FolderStorage::user().map(|storage| Arc::new(storage) as Arc<dyn Storage>);
    #[cfg(target_arch = "wasm32")]
    None
}

impl Gpu {
    /// Every adapter of this machine, best first.
    pub async fn list(options: &GpuOptions) -> Vec<AdapterReport> {
        let disable = disabled(options);
        adapters().await.iter().map(|adapter| AdapterReport::of(adapter, &disable)).collect()
    }

    /// Opens the best adapter that fits the options.
    pub async fn open(options: &GpuOptions) -> Result<Self, Error> {
        let adapters = adapters().await;
        if adapters.is_empty() {
            let reason =
                "no driver offers an adapter (on Linux, a Vulkan driver such as mesa-vulkan-drivers)";
            return Err(Error::NoAdapter(reason.into()));
        }
        let adapter = match &options.adapter {
            None => adapters.first(),
            Some(name) => {
                let name = name.to_lowercase();
                adapters.iter().find(|adapter| adapter.get_info().name.to_lowercase().contains(&name))
            }
        };
        let Some(adapter) = adapter else {
            let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
            let wanted = options.adapter.clone().unwrap_or_default();
            return Err(Error::NoAdapter(format!(
                "no adapter is called {wanted:?}; there is {}",
                names.join(", ")
            )));
        };
        Self::open_adapter(adapter, options).await
    }

    async fn open_adapter(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self, Error> {
        let disable = disabled(options);
        let info = adapter.get_info();
        let features = wanted_features(adapter.features(), &disable);
        let limits = options.limits.clone().unwrap_or_else(|| adapter.limits());
        let experimental = if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            // SAFETY: cooperative matrices may be undefined behaviour where wgpu's validation of them has gaps. Kiln
            // uses them in its own kernels alone, within the shapes that the adapter lists.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("kiln"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        };
        if !limits.check_limits(&adapter.limits()) {
            return Err(Error::Unsupported {
                device: info.name,
                feature: "the limits that were asked for".into(),
            });
        }
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::NoAdapter(format!("{} cannot be opened: {error}", info.name)))?;
        let tier = tier(&info, features, &limits, coop_kinds(adapter), &disable);
        Ok(Self::new(info, tier, Guarded::new(device, queue, true, options.deadline), options))
    }

    fn new(info: wgpu::AdapterInfo, tier: Tier, guarded: Guarded, options: &GpuOptions) -> Self {
        let checks = options.checks;
        let storage = options.storage.clone().or_else(user_storage);
        Self {
            guarded,
            pipelines: Arc::default(),
            choices: Arc::new(Choices::new(describe(&info), &tier, checks, storage)),
            tuning: options.tuning.unwrap_or(Tuning::default_for(info.device_type, info.backend)),
            deterministic: options.deterministic,
            info,
            tier,
            checks,
        }
    }

    /// Shares an application's device. Its error handler and lost callback stay the application's, which should make a
    /// new device when it is told that this one is lost. Features that Kiln can use are those the device was opened with.
    pub fn from_device(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Self {
        let info = adapter.get_info();
        let tier = tier(&info, device.features(), &device.limits(), coop_kinds(adapter), &disabled(options));
        Self::new(info, tier, Guarded::new(device, queue, false, options.deadline), options)
    }

    /// A device that runs nothing: buffers keep what was written to them. For tests of everything around the kernels,
    /// and as their negative control. `None` takes the backend's own, permissive limits.
    pub fn noop(options: &GpuOptions) -> Self {
        let limits = options.limits.clone().unwrap_or_else(|| wgpu::Limits {
            max_storage_buffers_per_shader_stage: 16,
            max_compute_workgroup_storage_size: 32 << 10,
            ..wgpu::Limits::defaults()
        });
        let features = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor {
            label: Some("kiln noop"),
            required_features: features,
            required_limits: limits.clone(),
            ..Default::default()
        });
        let info = device.adapter_info();
        let tier = tier(&info, features, &limits, Vec::new(), &options.disable);
        Self::new(info, tier, Guarded::new(device, queue, true, options.deadline), options)
    }

    /// The adapter's name and driver.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// The adapter's name and driver in one line.
    pub fn describe(&self) -> String {
        describe(&self.info)
    }

    /// How a compilation chooses launches; none takes the best guess everywhere.
    pub(crate) fn tuning(&self, options: &CompileOptions) -> Option<Tuning> {
        let guess = self.deterministic || options.deterministic || options.launch.is_some();
        (!guess).then(|| options.tuning.unwrap_or(self.tuning))
    }

    /// What kernels choose by.
    pub fn tier(&self) -> &Tier {
        &self.tier
    }

    /// Whether the device is gone, so that only a new one helps.
    pub fn is_lost(&self) -> bool {
        self.guarded.is_lost()
    }

    /// Runtime checks in Kiln's own shaders.
    pub fn checks(&self) -> Checks {
        self.checks
    }

    /// The device, for applications that share it.
    pub fn device(&self) -> &wgpu::Device {
        &self.guarded.device
    }

    /// The device's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.guarded.queue
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Gpu {
    /// [`Gpu::list`] for callers without an executor.
    pub fn list_blocking(options: &GpuOptions) -> Vec<AdapterReport> {
        pollster::block_on(Self::list(options))
    }

    /// [`Gpu::open`] for callers without an executor.
    pub fn open_blocking(options: &GpuOptions) -> Result<Self, Error> {
        pollster::block_on(Self::open(options))
    }
}
