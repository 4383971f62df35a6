//! Pictures that a GAN's generator makes of noise.

use std::sync::Arc;

use anyhow::Result;
use kiln::engine::Precision;
use kiln::models::dcgan::Sampler;
use kiln::models::weights::Files;

use super::Args;
use super::batches::{Batches, Label};
use crate::classify::open;
use crate::device::DeviceArgs;
use crate::output::spinner;

pub fn run(args: &Args, files: &Arc<dyn Files>, device: &DeviceArgs) -> Result<()> {
    let mut sampler = Sampler::open(files, open(device)?, Precision::from(args.precision))?;
    let seeds = args.seeds(args.count as usize);
    let labels = seeds.iter().map(|&seed| Label { class: None, seed }).collect();
    Batches::open(args, sampler.device(), labels)?.make(|range, _| {
        let working = spinner("pictures are made");
        let (begun, count) = (std::time::Instant::now(), range.len());
        let pictures = sampler.sample_blocking(&seeds[range]);
        working.finish_and_clear();
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        Ok((pictures?, format!(", {rate:.1} pictures/s")))
    })
}
