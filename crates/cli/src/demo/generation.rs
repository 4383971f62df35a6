//! The part of generation: latent diffusion makes pictures of prompts.

use anyhow::{Context, Result};
use kiln::engine::Precision;
use kiln::models::stable_diffusion::Request;
use kiln::models::{Device, image::Picture};

use super::judge::Asked;
use super::{Demo, say_times, timed};
use crate::bundled;
use crate::gallery::{Tile, gallery};
use crate::output::say;

/// What the pictures are to show, each with its number as the seed: the first of the captions that were not trained on.
const PROMPTS: [&str; 8] = [
    "a red 8 right of a white 4",
    "a green 7 below a white 7",
    "a red 8 right of a blue 1",
    "a red 4 left of a yellow 8",
    "a yellow 8",
    "a purple 3 below a blue 2",
    "a green 8 above a blue 5",
    "a red 2 below a red 9",
];
const STEPS: usize = 20;
const GUIDANCE: f32 = 3.0;
/// What is also computed by the CPU reference, which takes its time.
const COMPARED_STEPS: usize = 2;

pub(super) fn run(demo: &mut Demo) -> Result<()> {
    // The reference has the patience for a few.
    let prompts = match demo.device {
        Device::Gpu(_) => &PROMPTS[..],
        Device::Cpu => &PROMPTS[..3],
    };
    let mut pipeline = bundled::pipeline("captions", demo.device.clone(), Precision::F32)?;
    let mut detector = bundled::detector("scenes", demo.device.clone(), Precision::F32)?;
    let request = |prompt: &str, steps: usize, seed: usize| Request {
        prompt: prompt.into(),
        steps,
        guidance_scale: GUIDANCE,
        seeds: vec![seed as u64],
        ..Request::default()
    };
    let mut make = |prompt: &str, seed: usize| -> Result<(Picture, std::time::Duration)> {
        let request = request(prompt, STEPS, seed);
        let (pictures, time) = timed(prompt, || Ok(pipeline.generate_blocking(&request, &mut ())?))?;
        Ok((pictures.into_iter().next().context("there is no picture")?, time))
    };
    let (mut tiles, mut times, mut right) = (Vec::new(), Vec::new(), 0);
    for (seed, prompt) in prompts.iter().enumerate() {
        let (picture, time) = make(prompt, seed)?;
        times.push(time);
        let found = detector.detect_blocking(std::slice::from_ref(&picture))?;
        let asked = Asked::parse(prompt).context("the prompt is read")?;
        let verdict = asked.judge(&picture, found.first().map_or(&[][..], Vec::as_slice), &detector)?;
        right += usize::from(verdict.all);
        let seen = if verdict.all { "" } else { "   (the detector sees something else)" };
        say!("  {prompt}{seen}");
        demo.write(&format!("generated-{}.png", prompt.replace(' ', "-")), &picture)?;
        let lines = match prompt.rsplit_once(" a ") {
            Some((first, second)) => vec![first.to_string(), format!("a {second}")],
            None => vec![prompt.to_string()],
        };
        tiles.push(Tile { picture, lines });
    }
    say!("  {right} of {} show what is asked for, by what the bundled DETR finds in them", prompts.len());
    if let [first, rest @ ..] = times.as_slice()
        && let Some(again) = rest.iter().min()
    {
        say_times(*first, *again, 1);
    }
    if matches!(demo.device, Device::Gpu(_)) {
        let mut reference = bundled::pipeline("captions", Device::Cpu, Precision::F32)?;
        let request = request(PROMPTS[0], COMPARED_STEPS, 0);
        let ours = pipeline.generate_blocking(&request, &mut ())?;
        let (theirs, time) =
            timed("computing the CPU reference", || Ok(reference.generate_blocking(&request, &mut ())?))?;
        let bytes = |pictures: &[Picture]| pictures.iter().flat_map(|p| p.rgb.clone()).collect::<Vec<u8>>();
        let differences = bytes(&ours).into_iter().zip(bytes(&theirs)).map(|(a, b)| a.abs_diff(b));
        say!(
            "  against the CPU reference ({:.0} ms for {COMPARED_STEPS} steps): largest error of a pixel {} of 255",
            time.as_secs_f64() * 1e3,
            differences.max().unwrap_or(0)
        );
    }
    let page = gallery(&tiles, 4, 320);
    demo.write("generated.png", &page)?;
    demo.pages.push(page);
    Ok(())
}
