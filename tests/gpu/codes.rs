//! Pictures to codes and back: those of the CPU reference.

use std::path::Path;

use kiln::engine::{Gpu, Precision};
use kiln::models::image::Picture;
use kiln::models::{CodeCodec, Device};
use libtest_mimic::{Failed, Trial};

/// Encodes and decodes with either device: nearly all codes are equal, of which ties may go either way, and pictures of the
/// same codes differ by no more than `limit`.
fn compare(gpu: &Gpu, precision: Precision, limit: u8) -> Result<(), Failed> {
    let byte = |i: usize| ((i * 5 + i / 7 * 11) % 256) as u8;
    let picture = Picture::new(61, 47, (0..61 * 47 * 3).map(byte).collect())?;
    for case in ["diffusers", "original", "gumbel"] {
        let open = |device: Device| {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vq_model");
            CodeCodec::from_folder(fixtures.join(case), device, precision)
        };
        let (mut own, mut reference) = (open(Device::Gpu(gpu.clone()))?, open(Device::Cpu)?);
        let [map, expected] = [own.encode_blocking(&picture)?, reference.encode_blocking(&picture)?];
        let same = map.codes().iter().zip(expected.codes()).filter(|(a, b)| a == b).count();
        let [decoded, wanted] = [own.decode_blocking(&map)?, reference.decode_blocking(&map)?];
        let off = decoded.rgb.iter().zip(&wanted.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
        println!("{case}: {same} of {} codes are equal, pixels are off by {off}", map.codes().len());
        if same * 100 < map.codes().len() * 98 || off > limit {
            return Err(format!("{case}: {same} of {} codes, off by {off}", map.codes().len()).into());
        }
    }
    Ok(())
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let f32 = crate::trial("codes::f32".into(), gpu, |gpu| compare(gpu, Precision::F32, 1));
    let f16 = crate::trial("codes::f16".into(), gpu, |gpu| compare(gpu, Precision::F16, 3));
    let without = gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
    vec![f32, if without { f16.with_ignored_flag(true) } else { f16 }]
}
