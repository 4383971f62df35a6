//! What a picture shows, by a ViT.
//!
//! `cargo run --release -p kiln-tests --example classify [FOLDER PICTURE]`; without arguments the bundled digits model looks at a seven.

use anyhow::Result;
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::models::image::Picture;
use kiln::models::{Classifier, Device};

fn main() -> Result<()> {
    let digits = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/digits-vit");
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| digits.to_string());
    let picture = arguments.next().unwrap_or_else(|| format!("{digits}/samples/digit-1622-seven.png"));

    let device = match Gpu::open_blocking(&GpuOptions::default()) {
        Ok(gpu) => Device::Gpu(gpu),
        Err(error) => {
            println!("{error}; using the CPU reference");
            Device::Cpu
        }
    };
    let mut classifier = Classifier::from_folder(folder, device, Precision::F32)?;
    let picture = Picture::decode(&std::fs::read(picture)?)?;
    for answer in classifier.classify_blocking(&[picture])? {
        for (class, probability) in answer.top(3) {
            println!("{:5.1} %  {}", probability * 100.0, classifier.label(class));
        }
    }
    Ok(())
}
