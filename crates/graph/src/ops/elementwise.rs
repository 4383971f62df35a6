//! The launch that all elementwise ops share: a chain of functions over a tensor.

use kiln_shaders as shaders;

use crate::launch::{Dispatch, Kernel, Launch, Source};
use crate::ops::{Unary, units};
use crate::{Epilogue, Io, Step, TensorDesc, Tier, params};

params! {
    struct Vec4Params { quads: u32, quads_a_row: u32 }
}

params! {
    struct ScalarParams { len: u32, row: u32 }
}

/// Applies `first`, then the epilogue, to input 0. The operands are inputs 1 and on.
pub(super) fn launch(first: Option<Unary>, io: &Io, tier: &Tier) -> Launch {
    let mut chain = Epilogue { steps: first.map(Step::Unary).into_iter().collect() };
    chain.steps.extend(&io.epilogue.steps);
    Launch::one("elementwise", dispatch(&chain, Source::Input(0), 1, &io.outputs[0], tier))
}

/// A dispatch that applies a chain to `x` and stores output 0, of description `y`. The chain's operands are the inputs
/// from `first` on.
pub(super) fn dispatch(chain: &Epilogue, x: Source, first: usize, y: &TensorDesc, tier: &Tier) -> Dispatch {
    const WORKGROUP: u32 = 64;
    let vec4 = y.last().is_multiple_of(4);
    let file = if vec4 { shaders::ELEMENTWISE_VEC4 } else { shaders::ELEMENTWISE_SCALAR };
    let mut parts = vec![units::elem(y.dtype), shaders::GRID, file];
    parts.extend(chain.units(y, vec4));
    let kernel = Kernel::new(parts).set("WORKGROUP", WORKGROUP.min(tier.limits.max_invocations));
    let dispatch = if vec4 {
        let quads = y.len() / 4;
        let params =
            Vec4Params { quads: quads as u32, quads_a_row: (y.last() / 4) as u32, ..Default::default() };
        Dispatch::new(kernel, params, (quads as u64).div_ceil(u64::from(WORKGROUP)))
    } else {
        let params = ScalarParams { len: y.len() as u32, row: y.last() as u32, ..Default::default() };
        Dispatch::new(kernel, params, (y.len() as u64).div_ceil(u64::from(WORKGROUP)))
    };
    chain.bind(dispatch.bind("x", x).bind("y", Source::Output(0)), first)
}
