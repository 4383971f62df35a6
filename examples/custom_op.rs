//! An op of one's own, with its own WGSL, from outside of Kiln's crates: the Mandelbrot set as a tensor.
//!
//! `cargo run --release -p kiln-tests --example custom_op`

use std::collections::HashMap;

use kiln::engine::{CompileOptions, Gpu, GpuOptions, Session};
use kiln::graph::{
    Builder, DType, Dispatch, Interpreter, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier,
    Unit, params, shaders,
};

/// Steps that z = z^2 + c takes to leave the circle of radius 2, at most `limit`. Input: points c, `[n, 2]` as (real,
/// imaginary). Output: `[n]`.
#[derive(Debug)]
struct EscapeTime {
    limit: u32,
}

params! {
    struct EscapeParams { points: u32, limit: u32 }
}

/// Kiln's unit gives the workgroup's place in the run of groups; the rest is this file's.
const WGSL: &str = r"
struct Params {
    first_group: u32,
    groups: u32,
    points: u32,
    limit: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> steps: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) counts: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, counts) * 64u + lane;
    if i >= params.points {
        return;
    }
    let c = points[i];
    var z = vec2<f32>(0.0);
    var n = 0u;
    for (; n < params.limit && dot(z, z) <= 4.0; n++) {
        z = vec2<f32>(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + c;
    }
    steps[i] = f32(n);
}
";

impl Op for EscapeTime {
    fn name(&self) -> &'static str {
        "escape_time"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        match inputs {
            [points] if points.dtype == DType::F32 && points.rank() == 2 && points.last() == 2 => {
                Ok(vec![TensorDesc::new([points.shape[0]], DType::F32)])
            }
            _ => Err(OpError::new(self.name(), inputs, "wants points of shape [n, 2]")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let points = inputs[0].to_f64();
        let steps = points.chunks_exact(2).map(|c| {
            let (mut x, mut y, mut n) = (0.0, 0.0, 0);
            while n < self.limit && x * x + y * y <= 4.0 {
                (x, y) = (x * x - y * y + c[0], 2.0 * x * y + c[1]);
                n += 1;
            }
            f64::from(n)
        });
        Ok(vec![Tensor::from_f64([points.len() / 2], DType::F32, &steps.collect::<Vec<_>>())?])
    }

    fn launches(&self, io: &Io, _tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let points = io.outputs[0].len() as u32;
        let kernel = Kernel::new([shaders::GRID, Unit::custom("escape_time", WGSL)]);
        let params = EscapeParams { points, limit: self.limit, ..Default::default() };
        let dispatch = Dispatch::new(kernel, params, u64::from(points.div_ceil(64)))
            .bind("points", Source::Input(0))
            .bind("steps", Source::Output(0));
        Ok(vec![Launch::one("direct", dispatch)])
    }
}

fn main() -> anyhow::Result<()> {
    let (width, height) = (72, 24);
    let points = (0..width * height).flat_map(|i| {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        [x / width as f32 * 3.0 - 2.2, y / height as f32 * 2.4 - 1.2]
    });
    let points = Tensor::f32([width * height, 2], points.collect())?;

    let mut builder = Builder::new();
    let c = builder.input("points", [width * height, 2], DType::F32)?;
    let steps = builder.op(EscapeTime { limit: 12 }, &[c])?;
    builder.output("steps", steps)?;
    let graph = builder.finish();

    let inputs = [("points", points)];
    let none = HashMap::new();
    let expected = Interpreter::new(graph.clone(), &none)?.run(&inputs)?;
    let (steps, device) = match Gpu::open_blocking(&GpuOptions::default()) {
        Ok(gpu) => {
            let session = Session::compile_blocking(&gpu, &graph, &none, &CompileOptions::default())?;
            (session.run_blocking(&inputs)?, gpu.describe())
        }
        Err(error) => {
            println!("{error}; showing the CPU reference");
            (expected.clone(), "the CPU reference".to_string())
        }
    };
    let (steps, expected) = (steps[0].to_f64(), expected[0].to_f64());
    for row in steps.chunks(width) {
        println!("{}", row.iter().map(|&n| b" .:-=+*#%@"[(n as usize).min(9)] as char).collect::<String>());
    }
    let same = steps.iter().zip(&expected).filter(|(a, b)| a == b).count();
    println!("{device}: {same} of {} points as the reference has them", steps.len());
    anyhow::ensure!(same * 100 >= steps.len() * 99, "the device disagrees with the reference");
    Ok(())
}
