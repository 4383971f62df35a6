//! Matrix products: the naive kernel and the launch that Kiln chooses, in one run, since only their ratio says much.
//!
//! `cargo bench -p kiln-tests --bench matmul`. A throughput of 1 Gelem/s is 1 GFLOP/s, a multiply-add counted as two. Every run reads
//! the result back, which is the same for both.

use std::collections::HashMap;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln::engine::{CompileOptions, Gpu, GpuOptions, Session};
use kiln::graph::random::SplitMix64;
use kiln::graph::{Builder, DType, Tensor};

/// A square product, and those of ViT-B/16 over one picture.
const SHAPES: [[usize; 3]; 4] = [[1024, 1024, 1024], [197, 768, 3072], [197, 768, 768], [197, 3072, 768]];

fn random(shape: [usize; 2], seed: u64) -> Result<Tensor> {
    let sequence = SplitMix64::new(seed);
    let values = (0..shape[0] * shape[1]).map(|i| sequence.unit(i as u64) * 2.0 - 1.0);
    Ok(Tensor::f32(shape, values.collect())?)
}

/// A linear layer of `rows` rows from `depth` to `columns` features.
fn session(gpu: &Gpu, [rows, columns, depth]: [usize; 3], launch: Option<&str>) -> Result<Session> {
    let mut builder = Builder::new();
    let x = builder.input("x", [rows, depth], DType::F32)?;
    let weight = builder.constant(random([columns, depth], 1)?);
    let y = builder.linear(x, weight, None)?;
    builder.output("y", y)?;
    let options = CompileOptions { launch: launch.map(str::to_string), ..Default::default() };
    Ok(Session::compile_blocking(gpu, &builder.finish(), &HashMap::new(), &options)?)
}

fn products(criterion: &mut Criterion) -> Result<()> {
    let gpu = Gpu::open_blocking(&GpuOptions::default())?;
    println!("{}", gpu.describe());
    for shape in SHAPES {
        let [rows, columns, depth] = shape;
        let mut group = criterion.benchmark_group(format!("matmul {rows}x{columns}x{depth}"));
        group.throughput(Throughput::Elements((2 * rows * columns * depth) as u64)).sample_size(10);
        let x = random([rows, depth], 2)?;
        for launch in [Some("naive"), None] {
            let session = session(&gpu, shape, launch)?;
            session.run_blocking(&[("x", x.clone())])?;
            group.bench_function(launch.unwrap_or("chosen"), |bencher| {
                bencher.iter(|| session.run_blocking(&[("x", x.clone())]));
            });
        }
        group.finish();
    }
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    if let Err(error) = products(criterion) {
        eprintln!("matmul: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
