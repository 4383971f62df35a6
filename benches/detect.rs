//! Whole detections: scenes of 128x128 pixels through the bundled detector, from pictures to boxes.
//!
//! `cargo bench -p kiln-tests --bench detect`. A throughput of 1 elem/s is a picture a second. Every run processes its
//! pictures, uploads them and reads the boxes back, once.

use std::path::Path;

use anyhow::Result;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::models::image::Picture;
use kiln::models::{Detector, Device};

fn detections(criterion: &mut Criterion) -> Result<()> {
    let gpu = Gpu::open_blocking(&GpuOptions::default())?;
    println!("{}", gpu.describe());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/scenes-detr");
    let scene = |i: usize| -> Result<Picture> {
        Ok(Picture::decode(&std::fs::read(folder.join(format!("samples/scene-000{i}.png")))?)?)
    };
    let scenes: Vec<Picture> = (0..8).map(scene).collect::<Result<_>>()?;
    for (name, precision) in [("f32", Precision::F32), ("f16", Precision::F16)] {
        if precision == Precision::F16 && !gpu.tier().f16 {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("detect {name}"));
        for batch in [1, 8] {
            let mut detector = Detector::from_folder(&folder, Device::Gpu(gpu.clone()), precision)?;
            detector.detect_blocking(&scenes[..batch])?;
            group.throughput(Throughput::Elements(batch as u64)).sample_size(10);
            group.bench_function(format!("batch {batch}"), |bencher| {
                bencher.iter(|| detector.detect_blocking(&scenes[..batch]));
            });
        }
        group.finish();
    }
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    if let Err(error) = detections(criterion) {
        eprintln!("detect: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
