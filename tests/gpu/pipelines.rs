//! Pictures of Stable Diffusion's pipeline against diffusers' own.

use kiln::engine::{Gpu, Precision};
use kiln::models::Device;
use kiln::models::stable_diffusion::StableDiffusion;
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

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let f32 = crate::trial("pipelines::stable_diffusion_f32".into(), gpu, |gpu| {
        compare(gpu, Precision::F32, (1, 0.001))
    });
    let f16 = crate::trial("pipelines::stable_diffusion_f16".into(), gpu, |gpu| {
        compare(gpu, Precision::F16, (8, 1.0))
    });
    let without = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    vec![f32, if without { f16.with_ignored_flag(true) } else { f16 }]
}
