//! Convolutions next to a matrix product of 1024^3 in one run: the ratio of their rates says how much of what the device
//! does for products a convolution gets.
//!
//! `cargo bench -p kiln-tests --bench conv`. A throughput of 1 Gelem/s is 1 GFLOP/s, a multiply-add counted as two. Every run reads
//! the result back.

use std::collections::HashMap;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln::engine::{CompileOptions, Gpu, GpuOptions, Session};
use kiln::graph::ops::{Conv2d, ConvTranspose2d};
use kiln::graph::random::SplitMix64;
use kiln::graph::{Builder, DType, Graph, Tensor};

fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let sequence = SplitMix64::new(seed);
    let values = (0..shape.iter().product::<usize>()).map(|i| sequence.unit(i as u64) * 2.0 - 1.0);
    Ok(Tensor::f32(shape, values.collect())?)
}

/// What is measured: a name, the graph and its input's shape.
fn workloads() -> Result<Vec<(&'static str, Graph, Vec<usize>)>> {
    let mut found = Vec::new();
    let mut add = |name, x: &[usize], weight: &[usize], build: &dyn Fn(&mut Builder, _, _) -> Result<_>| {
        let mut builder = Builder::new();
        let input = builder.input("x", x, DType::F32)?;
        let weight = builder.constant(random(weight, 1)?);
        let y = build(&mut builder, input, weight)?;
        builder.output("y", y)?;
        found.push((name, builder.finish(), x.to_vec()));
        anyhow::Ok(())
    };
    let conv = Conv2d::default().padding(1);
    add("matmul 1024x1024x1024", &[1024, 1024], &[1024, 1024], &|b, x, w| Ok(b.linear(x, w, None)?))?;
    // Stable Diffusion's UNet at its first level, and going down from it.
    add("conv 3x3 320->320 at 64x64", &[1, 64, 64, 320], &[320, 320, 3, 3], &|b, x, w| {
        Ok(b.conv2d(x, w, None, conv)?)
    })?;
    add("conv 3x3 stride 2 320->320 at 64x64", &[1, 64, 64, 320], &[320, 320, 3, 3], &|b, x, w| {
        Ok(b.conv2d(x, w, None, conv.stride(2))?)
    })?;
    // The last layer of an image decoder, a ResNet's first, a depthwise layer, and a decoder's upsampling.
    add("conv 3x3 128->3 at 128x128", &[1, 128, 128, 128], &[3, 128, 3, 3], &|b, x, w| {
        Ok(b.conv2d(x, w, None, conv)?)
    })?;
    add("conv 7x7 stride 2 3->64 at 224x224", &[1, 224, 224, 3], &[64, 3, 7, 7], &|b, x, w| {
        Ok(b.conv2d(x, w, None, conv.padding(3).stride(2))?)
    })?;
    add("depthwise 3x3 256 at 64x64", &[1, 64, 64, 256], &[256, 1, 3, 3], &|b, x, w| {
        Ok(b.conv2d(x, w, None, conv.groups(256))?)
    })?;
    add("transposed 4x4 stride 2 128->64 at 32x32", &[1, 32, 32, 128], &[128, 64, 4, 4], &|b, x, w| {
        Ok(b.conv_transpose2d(x, w, None, ConvTranspose2d::default().stride(2).padding(1))?)
    })?;
    Ok(found)
}

fn convolutions(criterion: &mut Criterion) -> Result<()> {
    let gpu = Gpu::open_blocking(&GpuOptions::default())?;
    println!("{}", gpu.describe());
    let mut group = criterion.benchmark_group("conv");
    group.sample_size(10);
    for (name, graph, shape) in workloads()? {
        let session = Session::compile_blocking(&gpu, &graph, &HashMap::new(), &CompileOptions::default())?;
        let x = random(&shape, 2)?;
        session.run_blocking(&[("x", x.clone())])?;
        group.throughput(Throughput::Elements(graph.flops()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| session.run_blocking(&[("x", x.clone())]));
        });
    }
    group.finish();
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    if let Err(error) = convolutions(criterion) {
        eprintln!("conv: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
