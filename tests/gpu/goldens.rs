//! Boxes and tiny models on the device against the numbers of the libraries that they come from.

use std::path::Path;
use std::sync::Arc;

use kiln::engine::{Gpu, Precision};
use kiln::models::verify::{Device, Gates, Options, Row, Verdict, verify};
use kiln::models::weights::Folder;
use libtest_mimic::{Failed, Trial};

/// Folders of `tests/fixtures`, and whether f16 holds their inputs.
const CASES: [(&str, bool); 28] = [
    ("autoencoder/kl", true),
    ("autoencoder/kl_no_quant", true),
    ("autoencoder/tiny", true),
    ("autoencoder/tiny_two_stages", true),
    ("boxes", false),
    ("clip_text/gelu_projection", true),
    ("clip_text/quick_gelu", true),
    ("dcgan/example", true),
    ("dcgan/no_norms", true),
    ("dcgan/wgan", true),
    ("detr/segmentation", true),
    ("detr/three_stages", true),
    ("gpt/gpt2", true),
    ("gpt/mingpt", true),
    ("gpt/untied", true),
    ("unet/class_identity", true),
    ("unet/class_projection", true),
    ("unet/class_simple_projection", true),
    ("unet/class_timestep", true),
    ("unet/inpainting", true),
    ("unet/linear", true),
    ("uvit2d/flat", true),
    ("uvit2d/halved", true),
    ("vq_model/codes", true),
    ("vq_model/diffusers", true),
    ("vq_model/gumbel", true),
    ("vq_model/no_attention", true),
    ("vq_model/original", true),
];

fn compare(gpu: &Gpu, case: &str, precision: Precision) -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(case);
    let options = Options { device: Device::Gpu(gpu), precision, gates: Gates::default(), layers: true };
    let mut rows: Vec<Row> = Vec::new();
    pollster::block_on(verify(Arc::new(Folder::new(folder)), &options, &mut |row| rows.push(row)))?;
    let wrong: Vec<&str> =
        rows.iter().filter(|row| row.verdict != Verdict::Passed).map(|row| row.name.as_str()).collect();
    match &wrong[..] {
        [] if !rows.is_empty() => Ok(()),
        [] => Err("nothing was compared".into()),
        wrong => Err(wrong.join(", ").into()),
    }
}

pub fn trials(gpu: &Result<Gpu, String>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (case, half) in CASES {
        let both = [("f32", Precision::F32), ("f16", Precision::F16)];
        for (name, precision) in both.into_iter().take(if half { 2 } else { 1 }) {
            let trial = crate::trial(format!("goldens::{case}_{name}"), gpu, move |gpu| {
                compare(gpu, case, precision)
            });
            let without = precision == Precision::F16 && gpu.as_ref().is_ok_and(|gpu| !gpu.tier().f16);
            trials.push(if without { trial.with_ignored_flag(true) } else { trial });
        }
    }
    trials
}
