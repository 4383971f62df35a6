//! Pictures whose codes VQGAN's transformer writes.

mod ask;

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Result, bail};
use kiln::engine::Precision;
use kiln::graph::sampling::Sampling;
use kiln::models::Vqgan;
use kiln::models::vqgan::{Completion, Progress, Request, Watch};
use kiln::models::weights::Files;

use super::Args;
use super::batches::Batches;
use crate::bundled::{named, read_picture};
use crate::classify::open;
use crate::device::DeviceArgs;
use crate::output::say;
use crate::watch::{Bar, Unit};
use ask::Ask;

pub fn run(args: &Args, files: &Arc<dyn Files>, device: &DeviceArgs) -> Result<()> {
    let precision = Precision::from(args.precision);
    let mut vqgan = named(&args.model, Vqgan::open(files, open(device)?, precision))?;
    if args.classes {
        ask::list(&vqgan);
        return Ok(());
    }
    let asks = ask::all(args, &vqgan)?;
    let request = request(args, &vqgan)?;
    let of = |asks: &[Ask]| Request {
        conditions: asks.iter().map(|ask| ask.condition.clone()).collect(),
        seeds: asks.iter().map(|ask| ask.label.seed).collect(),
        ..request.clone()
    };
    // Everything that can be refused is, before a file is made.
    asks.iter().try_for_each(|ask| vqgan.admit(&of(std::slice::from_ref(ask))))?;
    let labels = asks.iter().map(|ask| ask.label.clone()).collect();
    Batches::open(args, vqgan.device(), labels)?.make(|range, names| {
        let mut bar = Bar::new(Unit::Codes, args.preview, names);
        let samples = vqgan.sample_blocking(&of(&asks[range]), &mut bar);
        let rate = bar.finish()?;
        Ok((samples?.into_iter().map(|sample| sample.picture).collect(), rate))
    })?;
    if let Some(memory) = vqgan.memory() {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (total, weights) = (mib(memory.total()), mib(memory.weights));
        say!("the transformer holds {total:.0} MiB on the device, {weights:.0} of them weights");
    }
    Ok(())
}

/// The request, but for what the pictures are to show and their seeds.
fn request(args: &Args, vqgan: &Vqgan) -> Result<Request> {
    let factor = vqgan.spatial_factor();
    let grid = match args.size {
        None => vqgan.grid(),
        Some(size) if size.iter().all(|side| side.is_multiple_of(factor)) => size.map(|side| side / factor),
        Some([height, width]) => bail!("{width}x{height} pixels are no multiples of {factor}"),
    };
    let completion = match &args.complete {
        None => None,
        Some(path) => Some(Completion { picture: read_picture(path)?, rows: args.kept(grid[0])? }),
    };
    let sampling = Sampling {
        temperature: args.temperature.unwrap_or(1.0),
        top_k: Some(args.top_k.unwrap_or(100)).filter(|&k| k > 0),
        top_p: args.top_p.filter(|&p| p != 1.0),
    };
    Ok(Request { grid: Some(grid), sampling, completion, ..Request::default() })
}

impl Watch for Bar {
    fn wants(&self, rows: usize) -> bool {
        self.shows(rows)
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        self.advance(progress.done, progress.codes);
        progress.pictures.map_or(ControlFlow::Continue(()), |pictures| self.show(Ok(pictures)))
    }
}
