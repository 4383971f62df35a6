//! The kernel that looks for numbers beyond a range.

use kiln_shaders as shaders;

use crate::{DType, Dispatch, Kernel, Source, Tier, params};

params! {
    struct ScanParams { len: u32, slot: u32, limit: u32 }
}

/// Looks at `len` elements, f16 or f32, of `x` ([`Source::Input`] 0) and ORs what [`super::Excess::of`] would find into word
/// `slot` of `found` ([`Source::Output`] 0).
pub fn scan(dtype: DType, len: usize, slot: u32, limit: f32, tier: &Tier) -> Dispatch {
    let (elements, per_invocation) =
        if dtype == DType::F16 { (shaders::RANGE_F16, 8) } else { (shaders::RANGE_F32, 4) };
    let workgroup = 64.min(tier.limits.max_invocations);
    let kernel = Kernel::new([elements, shaders::GRID, shaders::RANGE_SCAN]).set("WORKGROUP", workgroup);
    let params = ScanParams { len: len as u32, slot, limit: limit.to_bits(), ..Default::default() };
    let groups = (len as u64).div_ceil(per_invocation * u64::from(workgroup));
    Dispatch::new(kernel, params, groups).bind("x", Source::Input(0)).bind("found", Source::Output(0))
}
