//! Masked decoding against diffusers.

use kiln::engine::{Gpu, Precision};
use kiln::models;
use kiln::models::Device;
use kiln::models::amused::Amused;
use libtest_mimic::{Failed, Trial};

#[path = "../../crates/models/tests/amused/requests.rs"]
mod requests;

/// The largest share of codes that differ behind the first step, whose codes say how near the numbers are: behind the others
/// one code that is off leads to more.
fn compare(gpu: &Gpu, precision: Precision, limit: f64) -> Result<(), Failed> {
    let mut pipeline = Amused::from_folder(requests::folder(), Device::Gpu(gpu.clone()), precision)?;
    for name in requests::REQUESTS {
        let difference = requests::difference(&mut pipeline, name);
        println!("{name}: {difference:?}");
        if difference.codes.first().is_none_or(|&share| share > limit) {
            return Err(format!("{name}: {difference:?}").into());
        }
        if precision == Precision::F32
            && (difference.codes.iter().any(|&share| share > 0.0) || difference.bytes > 1)
        {
            return Err(format!("{name}: {difference:?}").into());
        }
    }
    Ok(())
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let f32 = crate::trial("amused::codes_f32".into(), gpu, |gpu| compare(gpu, Precision::F32, 0.0));
    let f16 = crate::trial("amused::codes_f16".into(), gpu, |gpu| compare(gpu, Precision::F16, 0.1));
    let without = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    vec![f32, if without { f16.with_ignored_flag(true) } else { f16 }]
}
