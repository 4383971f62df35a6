//! Attention next to a matrix product of 1024^3 in the same run, since only their ratio says much.
//!
//! `cargo bench -p kiln-tests --bench attention`. A throughput of 1 Gelem/s is 1 GFLOP/s, a multiply-add counted as two. Every run reads
//! the result back.

use std::collections::HashMap;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln::engine::{CompileOptions, Gpu, GpuOptions, Session};
use kiln::graph::ops::AttentionOptions;
use kiln::graph::random::SplitMix64;
use kiln::graph::{Builder, DType, Graph, Tensor};

/// Heads, queries, keys and head size: ViT-B/16, Stable Diffusion 1.5's self-attention at three depths and cross-attention,
/// DETR's encoder, the middle of its autoencoder (fewer queries than there), a decoding step.
const SHAPES: [(&str, [usize; 4]); 8] = [
    ("vit", [12, 197, 197, 64]),
    ("unet 64x64", [8, 4096, 4096, 40]),
    ("unet 32x32", [8, 1024, 1024, 80]),
    ("unet 16x16", [8, 256, 256, 160]),
    ("unet cross", [8, 4096, 77, 40]),
    ("detr", [8, 850, 850, 32]),
    ("vae", [1, 512, 4096, 512]),
    ("decode", [12, 1, 1024, 64]),
];

fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let sequence = SplitMix64::new(seed);
    let len: usize = shape.iter().product();
    Ok(Tensor::f32(shape, (0..len).map(|i| sequence.affine(i as u64, 1.0, 0.0)).collect())?)
}

/// Times a graph by the launch of this name, or the one that Kiln chooses.
fn time(
    criterion: &mut Criterion,
    gpu: &Gpu,
    name: &str,
    graph: &Graph,
    inputs: &[(&str, Tensor)],
    launch: Option<&str>,
) -> Result<()> {
    let options = CompileOptions { launch: launch.map(str::to_string), ..Default::default() };
    let session = Session::compile_blocking(gpu, graph, &HashMap::new(), &options)?;
    session.run_blocking(inputs)?;
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(graph.flops())).sample_size(10);
    group.bench_function(launch.unwrap_or("chosen"), |bencher| {
        bencher.iter(|| session.run_blocking(inputs));
    });
    group.finish();
    Ok(())
}

fn attentions(criterion: &mut Criterion) -> Result<()> {
    let gpu = Gpu::open_blocking(&GpuOptions::default())?;
    println!("{}", gpu.describe());
    let mut builder = Builder::new();
    let x = builder.input("x", [1024, 1024], DType::F32)?;
    let weight = builder.constant(random(&[1024, 1024], 1)?);
    let y = builder.linear(x, weight, None)?;
    builder.output("y", y)?;
    let inputs = [("x", random(&[1024, 1024], 2)?)];
    time(criterion, &gpu, "matmul 1024x1024x1024", &builder.finish(), &inputs, None)?;
    for (name, [heads, queries, keys, dim]) in SHAPES {
        let mut builder = Builder::new();
        let (rows, columns) = ([1, queries, heads * dim], [1, keys, heads * dim]);
        let q = builder.input("q", rows, DType::F32)?;
        let k = builder.input("k", columns, DType::F32)?;
        let v = builder.input("v", columns, DType::F32)?;
        let y = builder.scaled_dot_product_attention(q, k, v, &AttentionOptions::heads(heads))?;
        builder.output("y", y)?;
        let inputs = [("q", random(&rows, 3)?), ("k", random(&columns, 4)?), ("v", random(&columns, 5)?)];
        time(criterion, &gpu, &format!("attention {name}"), &builder.finish(), &inputs, None)?;
    }
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    if let Err(error) = attentions(criterion) {
        eprintln!("attention: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
