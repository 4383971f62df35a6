//! A picture of a class, by VQGAN's two stages.
//!
//! `cargo run --release -p kiln-tests --example sample examples/models/digits-vqgan "red 3" digit.png`, or with any model of two
//! stages as taming-transformers saves it, its weights as safetensors. A class is named by its name or its number.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use kiln::engine::{Gpu, GpuOptions, Precision};
use kiln::models::vqgan::{Condition, Conditions, Progress, Request, Watch};
use kiln::models::{Device, Vqgan};

/// Prints how many codes are written, a row at a time.
struct Rows {
    width: usize,
}

impl Watch for Rows {
    fn wants(&self, _: usize) -> bool {
        false
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        if progress.done.is_multiple_of(self.width) {
            println!("{} of {} codes", progress.done, progress.codes);
        }
        ControlFlow::Continue(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, class, file] = &arguments[..] else { bail!("usage: sample FOLDER CLASS FILE.png") };
    let device = match Gpu::open_blocking(&GpuOptions::default()) {
        Ok(gpu) => Device::Gpu(gpu),
        Err(error) => {
            println!("{error}; using the CPU reference");
            Device::Cpu
        }
    };
    let mut vqgan = Vqgan::from_folder(folder, device, Precision::F32)?;
    let Conditions::Classes(names) = vqgan.conditions() else { bail!("{folder} knows no classes") };
    let named = names.iter().position(|name| name == class);
    let class = named.or_else(|| class.parse().ok()).with_context(|| format!("{class} is no class"))?;
    let conditions = vec![Condition::Class(class)];
    let request = Request { conditions, seeds: vec![42], ..Request::default() };
    let mut rows = Rows { width: vqgan.grid()[1] };
    for sample in vqgan.sample_blocking(&request, &mut rows)? {
        std::fs::write(file, sample.picture.to_png()?)?;
    }
    Ok(())
}
