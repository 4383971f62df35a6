//! What is where in a picture, by a DETR.
//!
//! `cargo run --release -p kiln-tests --example detect examples/models/scenes-detr examples/models/scenes-detr/samples/scene-0003.png`,
//! or with any model as transformers saves it.

use anyhow::{Result, bail};
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::models::image::Picture;
use kiln::models::{Detector, Device};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, picture] = &arguments[..] else { bail!("usage: detect FOLDER PICTURE") };
    let device = match Gpu::open_blocking(&GpuOptions::default()) {
        Ok(gpu) => Device::Gpu(gpu),
        Err(error) => {
            println!("{error}; using the CPU reference");
            Device::Cpu
        }
    };
    let mut detector = Detector::from_folder(folder, device, Precision::F32)?;
    let picture = Picture::decode(&std::fs::read(picture)?)?;
    for found in detector.detect_blocking(&[picture])?.iter().flatten().filter(|found| found.score > 0.5) {
        println!("{:5.1} %  {}  {:?}", found.score * 100.0, detector.label(found.label), found.corners);
    }
    Ok(())
}
