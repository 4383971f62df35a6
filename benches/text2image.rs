//! Whole pictures of 64x64 pixels by the bundled latent diffusion model, from prompt to pixels.
//!
//! `cargo bench -p kiln-tests --bench text2image`. A throughput of 1 elem/s is a step a second, of all pictures of the batch at
//! once, with guidance. Every run encodes the prompt, carries out 20 steps, decodes and reads the pictures back, once.

use std::path::Path;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::models::Device;
use kiln::models::stable_diffusion::{Request, StableDiffusion};

const STEPS: usize = 20;

fn pictures(criterion: &mut Criterion) -> Result<()> {
    let gpu = Gpu::open_blocking(&GpuOptions::default())?;
    println!("{}", gpu.describe());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/scenes-ldm");
    for (name, precision) in [("f32", Precision::F32), ("f16", Precision::F16)] {
        if precision == Precision::F16 && !gpu.tier().f16 {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("text2image {name}"));
        for batch in [1, 4] {
            let mut pipeline = StableDiffusion::from_folder(&folder, Device::Gpu(gpu.clone()), precision)?;
            let request = Request {
                prompt: "a red 3 left of a blue 7".into(),
                steps: STEPS,
                guidance_scale: 3.0,
                seeds: (0..batch).collect(),
                ..Request::default()
            };
            pipeline.generate_blocking(&request, &mut ())?;
            group.throughput(Throughput::Elements(STEPS as u64)).sample_size(10);
            group.bench_function(format!("batch {batch}"), |bencher| {
                bencher.iter(|| pipeline.generate_blocking(&request, &mut ()));
            });
        }
        group.finish();
    }
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    if let Err(error) = pictures(criterion) {
        eprintln!("text2image: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
