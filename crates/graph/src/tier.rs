//! What a device offers, as plain data: kernels choose by it, tests make it up.

/// Sizes of the subgroups (waves, warps) that a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubgroupSize {
    /// Smallest size a pipeline may get.
    pub min: u32,
    /// Largest size a pipeline may get.
    pub max: u32,
}

/// A product that the device's matrix units compute: `M x K` by `K x N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoopKind {
    /// Rows, columns and depth of the fragment (8 or 16, all equal in WGSL).
    pub size: u32,
    /// Whether the operands are f16 (else f32).
    pub f16_in: bool,
    /// Whether the accumulator is f32 (else f16).
    pub f32_out: bool,
}

/// Limits that shape launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceLimits {
    /// Invocations a workgroup may have.
    pub max_invocations: u32,
    /// Bytes of `var<workgroup>` a workgroup may have.
    pub max_shared_bytes: u32,
    /// Storage buffers a shader stage may bind.
    pub max_storage_buffers: u32,
    /// Bytes a storage binding may cover.
    pub max_binding_bytes: u64,
    /// Bytes a buffer may have.
    pub max_buffer_bytes: u64,
    /// Alignment of a storage binding's offset, in bytes.
    pub offset_alignment: u32,
    /// Workgroups a dispatch may have along each dimension.
    pub max_groups: u32,
}

impl DeviceLimits {
    /// WebGPU's default limits, which every conforming device meets.
    pub const WEBGPU: Self = Self {
        max_invocations: 256,
        max_shared_bytes: 16 << 10,
        max_storage_buffers: 8,
        max_binding_bytes: 128 << 20,
        max_buffer_bytes: 256 << 20,
        offset_alignment: 256,
        max_groups: 65_535,
    };
}

/// Everything about a device that decides which kernels run on it. Fixed when the device is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tier {
    /// 16-bit floats in shaders and storage.
    pub f16: bool,
    /// Subgroup operations, with the sizes that occur.
    pub subgroups: Option<SubgroupSize>,
    /// Cooperative matrix products.
    pub coop: Vec<CoopKind>,
    /// Timestamp queries.
    pub timestamps: bool,
    /// A software rasteriser: shared memory is ordinary memory and a barrier suspends every lane.
    pub software: bool,
    /// Limits.
    pub limits: DeviceLimits,
}

impl Tier {
    /// What every WebGPU device has, and nothing more.
    pub fn webgpu() -> Self {
        Self {
            f16: false,
            subgroups: None,
            coop: Vec::new(),
            timestamps: false,
            software: false,
            limits: DeviceLimits::WEBGPU,
        }
    }

    /// The size of every subgroup, where it is fixed.
    pub fn fixed_subgroup(&self) -> Option<u32> {
        self.subgroups.filter(|size| size.min == size.max).map(|size| size.min)
    }
}
