//! What a device reaches at best: a kernel of multiply-adds, and a copy.

use anyhow::Result;
use kiln::engine::{Gpu, Precision};
use kiln::graph::{
    Builder, DType, Dispatch, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier, Unit,
    params, shaders,
};

use super::measure;

/// The fastest that was seen.
pub struct Peak {
    /// f32 multiply-adds, counted as two.
    pub gflops: f64,
    /// Bytes read and written.
    pub gbytes: f64,
}

/// Multiply-adds of a loop's body: eight chains of four lanes, so that none waits for the one before.
const CHAINS: u64 = 8 * 4;

/// `y = f(x)` by `steps` rounds of multiply-adds a vector; a copy where there are none.
#[derive(Debug)]
struct Work {
    steps: u32,
}

params! {
    struct WorkParams { vectors: u32, steps: u32 }
}

const WGSL: &str = r"
struct Params {
    first_group: u32,
    groups: u32,
    vectors: u32,
    steps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * 64u + lane;
    if i >= params.vectors {
        return;
    }
    let v = x[i];
    if params.steps == 0u {
        y[i] = v;
        return;
    }
    let factor = v * 0.25;
    var a = v;
    var b = v + 1.0;
    var c = v + 2.0;
    var d = v + 3.0;
    var e = v + 4.0;
    var f = v + 5.0;
    var g = v + 6.0;
    var h = v + 7.0;
    for (var step = 0u; step < params.steps; step++) {
        a = fma(a, factor, v);
        b = fma(b, factor, v);
        c = fma(c, factor, v);
        d = fma(d, factor, v);
        e = fma(e, factor, v);
        f = fma(f, factor, v);
        g = fma(g, factor, v);
        h = fma(h, factor, v);
    }
    y[i] = a + b + c + d + e + f + g + h;
}
";

impl Op for Work {
    fn name(&self) -> &'static str {
        "peak"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        match inputs {
            [x] if x.dtype == DType::F32 && x.len().is_multiple_of(4) => Ok(vec![x.clone()]),
            _ => Err(OpError::new(self.name(), inputs, "wants whole vectors of f32")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let values = inputs.iter().flat_map(|x| x.to_f64()).map(|v| {
            let mut chains: Vec<f64> = (0..8).map(|i| v + f64::from(i)).collect();
            if self.steps == 0 {
                return v;
            }
            for _ in 0..self.steps {
                chains.iter_mut().for_each(|chain| *chain = *chain * v * 0.25 + v);
            }
            chains.iter().sum()
        });
        let values: Vec<f64> = values.collect();
        let shape = inputs.first().map(|x| x.shape().to_vec()).unwrap_or_default();
        Ok(vec![Tensor::from_f64(shape, DType::F32, &values)?])
    }

    fn launches(&self, io: &Io, _tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let vectors = io.outputs.iter().map(TensorDesc::len).sum::<usize>() as u32 / 4;
        let kernel = Kernel::new([shaders::GRID, Unit::custom("peak", WGSL)]);
        let params = WorkParams { vectors, steps: self.steps, ..Default::default() };
        let dispatch = Dispatch::new(kernel, params, u64::from(vectors.div_ceil(64)))
            .bind("x", Source::Input(0))
            .bind("y", Source::Output(0));
        Ok(vec![Launch::one("lanes", dispatch)])
    }

    fn flops(&self, io: &Io) -> u64 {
        let vectors = io.outputs.iter().map(TensorDesc::len).sum::<usize>() as u64 / 4;
        2 * CHAINS * vectors * u64::from(self.steps)
    }
}

impl Peak {
    /// Measures both; about a second.
    pub fn measure(gpu: &Gpu) -> Result<Self> {
        let work = |elements: usize, steps: u32| {
            let mut b = Builder::new();
            let x = b.input("x", [elements], DType::F32)?;
            let y = b.op(Work { steps }, &[x])?;
            b.output("y", y)?;
            measure(gpu, &b.finish(), Precision::F32, None)
        };
        // Software needs no more threads than it has cores; a GPU wants many.
        let threads = if gpu.tier().software { 1 << 12 } else { 1 << 20 };
        let mut steps = 256;
        let mut gflops: f64 = 0.0;
        loop {
            let found = work(threads * 4, steps)?;
            gflops = gflops.max(found.gflops());
            // Long enough that starting costs nothing beside it.
            if found.seconds > 0.02 || steps >= 1 << 16 {
                break;
            }
            steps *= 4;
        }
        // Larger than any cache that a copy could stay in.
        let sizes = if gpu.tier().software { [1 << 20, 4 << 20] } else { [32 << 20; 2] };
        let mut gbytes: f64 = 0.0;
        for elements in sizes {
            gbytes = gbytes.max(work(elements, 0)?.gbytes());
        }
        Ok(Self { gflops, gbytes })
    }
}
