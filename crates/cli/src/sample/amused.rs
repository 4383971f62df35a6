//! Pictures of prompts by aMUSEd.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result};
use kiln::engine::Precision;
use kiln::models::amused::{Amused, CodeDecoder, Progress, Request, Start};
use kiln::models::image::{Filter, Picture, fill};
use kiln::models::weights::Files;

use super::Args;
use super::batches::{Batches, Label};
use crate::bundled::read_picture;
use crate::classify::open;
use crate::device::DeviceArgs;
use crate::watch::{Bar, Unit};

pub fn run(args: &Args, files: &Arc<dyn Files>, device: &DeviceArgs) -> Result<()> {
    let mut pipeline = Amused::open(files, open(device)?, Precision::from(args.precision))?;
    let request = request(args, &pipeline)?;
    for warning in pipeline.warnings(&request)? {
        eprintln!("note: {warning}");
    }
    let seeds = args.seeds(args.count as usize);
    let labels = seeds.iter().map(|&seed| Label { class: None, seed }).collect();
    let mut decoder = args.preview.map(|_| pipeline.decoder().another());
    Batches::open(args, pipeline.device(), labels)?.make(|range, names| {
        let mut bar = Bar::new(Unit::Steps, args.preview, names);
        let request = Request { seeds: seeds[range].to_vec(), ..request.clone() };
        let mut watch = |progress: Progress| see(&mut bar, decoder.as_mut(), progress);
        let pictures = pipeline.generate_blocking(&request, &mut watch);
        let rate = bar.finish()?;
        Ok((pictures?, rate))
    })
}

/// The request, but for its seeds.
fn request(args: &Args, pipeline: &Amused) -> Result<Request> {
    let prompt = args.prompt.clone();
    let usual = Request::default();
    let size = args.size.unwrap_or_else(|| pipeline.default_size());
    let [first, last] = usual.temperature;
    let mut request = Request {
        prompt: prompt.context("aMUSEd wants to be told what the pictures are to show (--prompt TEXT)")?,
        negative_prompt: args.negative.clone().unwrap_or_default(),
        size: Some(size),
        steps: args.steps.unwrap_or(usual.steps),
        guidance_scale: args.guidance.unwrap_or(usual.guidance_scale),
        temperature: [args.temperature.unwrap_or(first), last],
        ..usual
    };
    // A size that cannot be made has no mask.
    pipeline.check(&request)?;
    if let Some(path) = &args.complete {
        let codes = size.map(|side| side / pipeline.decoder().model().spatial_factor());
        let mask = Some(lower(codes, args.kept(codes[0])?)?);
        let [height, width] = size;
        let picture = fill(&read_picture(path)?, width, height, Filter::Lanczos);
        request.start = Some(Start { picture, mask, strength: 1.0 });
        pipeline.check(&request)?;
    }
    Ok(request)
}

/// A mask of codes, white below the rows that stay.
fn lower([height, width]: [usize; 2], rows: usize) -> Result<Picture> {
    let pixels = (0..height * width * 3).map(|i| if i < rows * width * 3 { 0 } else { u8::MAX });
    Ok(Picture::new(width, height, pixels.collect())?)
}

fn see(bar: &mut Bar, decoder: Option<&mut CodeDecoder>, progress: Progress) -> ControlFlow<()> {
    let done = progress.step + 1;
    bar.advance(done, progress.steps);
    match decoder {
        Some(decoder) if bar.shows(done) => {
            bar.show(decoder.pictures_blocking(progress.predicted).map_err(Into::into))
        }
        _ => ControlFlow::Continue(()),
    }
}
