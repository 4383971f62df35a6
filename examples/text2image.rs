//! A picture of a prompt, by Stable Diffusion.
//!
//! `cargo run --release -p kiln-tests --example text2image examples/models/scenes-ldm "a red 3 left of a blue 7" scene.png`, or
//! with any pipeline of Stable Diffusion 1.x or 2.x as diffusers saves it.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::models::Device;
use kiln::models::diffusion::{Progress, Watch};
use kiln::models::stable_diffusion::{Request, StableDiffusion};

/// Prints each step.
struct Steps;

impl Watch for Steps {
    fn wants(&self, _: usize) -> bool {
        false
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        println!("step {} of {}", progress.step + 1, progress.steps);
        ControlFlow::Continue(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, prompt, file] = &arguments[..] else { bail!("usage: text2image FOLDER PROMPT FILE.png") };
    let device = match Gpu::open_blocking(&GpuOptions::default()) {
        Ok(gpu) => Device::Gpu(gpu),
        Err(error) => {
            println!("{error}; using the CPU reference");
            Device::Cpu
        }
    };
    let mut pipeline = StableDiffusion::from_folder(folder, device, Precision::F32)?;
    let request = Request { prompt: prompt.clone(), steps: 20, seeds: vec![42], ..Request::default() };
    for picture in pipeline.generate_blocking(&request, &mut Steps)? {
        std::fs::write(file, picture.to_png()?)?;
    }
    Ok(())
}
