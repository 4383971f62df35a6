//! Pictures of Stable Diffusion's pipeline against diffusers' own.

use std::ops::ControlFlow;

use kiln::engine::{Gpu, Precision};
use kiln::models::Device;
use kiln::models::diffusion::{Progress, Watch};
use kiln::models::stable_diffusion::{Request, StableDiffusion};
use libtest_mimic::{Failed, Trial};

#[path = "../../crates/models/tests/stable_diffusion/requests.rs"]
mod requests;

use kiln::models;

/// The largest difference of a byte, and the largest share of bytes that differ.
fn compare(gpu: &Gpu, precision: Precision, limit: (u8, f64)) -> Result<(), Failed> {
    for (folder, names) in requests::REQUESTS {
        let path = requests::folder().join(folder);
        let mut pipeline = StableDiffusion::from_folder(path, Device::Gpu(gpu.clone()), precision)?;
        for name in names {
            let (largest, share) = requests::difference(&mut pipeline, folder, name);
            println!("{folder}/{name}: off by {largest}, in {share:.4} of the bytes");
            if largest > limit.0 || share > limit.1 {
                return Err(format!("{folder}/{name} is off by {largest}, in {share} of the bytes").into());
            }
        }
    }
    Ok(())
}

/// Destroys a device behind a step, and counts the steps that it hears of.
struct Breaker {
    gpu: Option<(Gpu, usize)>,
    steps: Vec<usize>,
}

impl Watch for Breaker {
    fn wants(&self, _: usize) -> bool {
        false
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        self.steps.push(progress.step);
        if let Some((gpu, step)) = &self.gpu
            && *step == progress.step
        {
            gpu.device().destroy();
        }
        ControlFlow::Continue(())
    }
}

/// Pictures whose device is lost on the way go on, on another, behind the last finished step, and become what they would
/// have been.
fn lost(gpu: &Gpu) -> Result<(), Failed> {
    const BROKEN_AT: usize = 5;
    let folder = requests::folder().join("plain");
    let request = Request {
        prompt: "a red 3 left of a blue 7".into(),
        steps: 10,
        seeds: vec![1, 2],
        scheduler: Some("EulerAncestralDiscreteScheduler".into()),
        ..Request::default()
    };
    let open =
        |gpu: &Gpu| StableDiffusion::from_folder(folder.clone(), Device::Gpu(gpu.clone()), Precision::F32);
    let wanted = open(gpu)?.generate_blocking(&request, &mut ())?;
    let broken = Gpu::open_blocking(&crate::options())?;
    let mut pipeline = open(&broken)?;
    let mut breaker = Breaker { gpu: Some((broken, BROKEN_AT)), steps: Vec::new() };
    match pipeline.generate_blocking(&request, &mut breaker) {
        Err(models::Error::Engine(error)) if error.is_device_lost() => {}
        Err(error) => return Err(format!("another error: {error}").into()),
        Ok(_) => return Err("the loss of the device went unnoticed".into()),
    }
    pipeline.set_device(Device::Gpu(gpu.clone()))?;
    let mut rest = Breaker { gpu: None, steps: Vec::new() };
    let pictures = pipeline.resume_blocking(&mut rest)?;
    println!("lost behind step {BROKEN_AT}, gone on with step {:?}", rest.steps.first());
    if rest.steps.first().is_none_or(|&first| first == 0 || first > BROKEN_AT) {
        return Err(format!("it went on with steps {:?}", rest.steps).into());
    }
    if pictures != wanted {
        return Err("the pictures are others than without the loss".into());
    }
    match pipeline.resume_blocking(&mut ()) {
        Err(models::Error::Input(_)) => Ok(()),
        other => Err(format!("finished pictures were gone on with: {other:?}").into()),
    }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let f32 = crate::trial("pipelines::stable_diffusion_f32".into(), gpu, |gpu| {
        compare(gpu, Precision::F32, (1, 0.001))
    });
    let f16 = crate::trial("pipelines::stable_diffusion_f16".into(), gpu, |gpu| {
        compare(gpu, Precision::F16, (8, 1.0))
    });
    let without = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    let lost = crate::trial("pipelines::lost_device".into(), gpu, lost);
    vec![f32, lost, if without { f16.with_ignored_flag(true) } else { f16 }]
}
