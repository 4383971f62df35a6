//! The part of codes: a VQGAN compresses pictures, and its transformer writes others.

use anyhow::{Context, Result};
use kiln::engine::Precision;
use kiln::graph::sampling::Sampling;
use kiln::models::code_codec::CodeMap;
use kiln::models::image::quality::psnr;
use kiln::models::vqgan::{Condition, Conditions, Request};
use kiln::models::{Device, Vqgan};

use super::reading::{light, shows};
use super::{Demo, say_times, timed};
use crate::bundled::{self, glyph_samples};
use crate::gallery::{Tile, gallery};
use crate::output::say;

/// Pictures of a row.
const COLUMNS: usize = 10;
/// What the transformer draws its codes by.
const SAMPLING: Sampling = Sampling { temperature: 0.8, top_k: Some(100), top_p: None };

pub(super) fn run(demo: &mut Demo) -> Result<()> {
    let mut vqgan = bundled::vqgan("glyphs", demo.device.clone(), Precision::F32)?;
    let mut tiles = compress(demo, &mut vqgan)?;
    tiles.extend(write(demo, &mut vqgan)?);
    if matches!(demo.device, Device::Gpu(_)) {
        compare(&mut vqgan)?;
    }
    let page = gallery(&tiles, COLUMNS, 128);
    demo.write("codes.png", &page)?;
    demo.pages.push(page);
    Ok(())
}

/// Pictures that it was not trained on, and what their codes bring back.
fn compress(demo: &mut Demo, vqgan: &mut Vqgan) -> Result<Vec<Tile>> {
    let mut tiles = Vec::new();
    for (name, picture) in glyph_samples()? {
        let codec = vqgan.codec();
        let bytes = codec.encode_blocking(&picture)?.to_bytes();
        let again = codec.decode_blocking(&CodeMap::from_bytes(&bytes)?)?;
        let quality = psnr(&picture, &again)?;
        say!(
            "  {name:<20} {} bytes of codes for {} of pixels, {quality:.1} dB",
            bytes.len(),
            picture.rgb.len()
        );
        demo.write(&format!("reconstructed-{name}"), &again)?;
        tiles.push(Tile { picture, lines: vec!["original".into()] });
        tiles.push(Tile { picture: again, lines: vec![format!("{} bytes", bytes.len())] });
    }
    Ok(tiles)
}

/// A picture of each digit, in one colour after the other.
fn write(demo: &mut Demo, vqgan: &mut Vqgan) -> Result<Vec<Tile>> {
    let request = request((0..COLUMNS).map(asked).collect());
    let (samples, first) =
        timed("compiling and writing codes", || Ok(vqgan.sample_blocking(&request, &mut ())?))?;
    let (_, again) = timed("writing codes", || Ok(vqgan.sample_blocking(&request, &mut ())?))?;
    let mut classifier = bundled::classifier("digits", demo.device.clone(), Precision::F32)?;
    let read: Vec<_> = samples.iter().map(|sample| light(&sample.picture)).collect();
    let answers = classifier.classify_blocking(&read)?;
    let (mut tiles, mut right) = (Vec::new(), 0);
    for (i, (sample, answer)) in samples.into_iter().zip(&answers).enumerate() {
        let name = class_name(vqgan, asked(i)).context("the class has a name")?;
        let label = answer.top(1).first().map_or("", |&(class, _)| classifier.label(class)).to_string();
        right += usize::from(shows(&sample.picture, &name, &label));
        demo.write(&format!("sampled-{}.png", name.replace(' ', "-")), &sample.picture)?;
        tiles.push(Tile { picture: sample.picture, lines: vec![name] });
    }
    say!(
        "  {right} of {COLUMNS} show the digit and the colour that were asked for, as the bundled ViT reads them"
    );
    say_times(first, again, COLUMNS);
    Ok(tiles)
}

/// The likeliest codes of a class, on the device and by the reference.
fn compare(vqgan: &mut Vqgan) -> Result<()> {
    let request = Request { sampling: Sampling::GREEDY, ..request(vec![asked(3)]) };
    let mut reference = bundled::vqgan("glyphs", Device::Cpu, Precision::F32)?;
    let ours = vqgan.sample_blocking(&request, &mut ())?;
    let (theirs, time) =
        timed("computing the CPU reference", || Ok(reference.sample_blocking(&request, &mut ())?))?;
    let codes = ours.iter().zip(&theirs).flat_map(|(a, b)| a.codes.codes().iter().zip(b.codes.codes()));
    let bytes = ours.iter().zip(&theirs).flat_map(|(a, b)| a.picture.rgb.iter().zip(&b.picture.rgb));
    say!(
        "  against the CPU reference ({:.0} ms): {} codes differ, largest error of a pixel {} of 255",
        time.as_secs_f64() * 1e3,
        codes.filter(|(a, b)| a != b).count(),
        bytes.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    );
    Ok(())
}

/// The class of the `i`-th picture: digit `i`, in the next colour each time.
fn asked(i: usize) -> usize {
    i % 6 * 10 + i % 10
}

fn request(classes: Vec<usize>) -> Request {
    let seeds = (0..classes.len() as u64).collect();
    let conditions = classes.into_iter().map(Condition::Class).collect();
    Request { conditions, seeds, sampling: SAMPLING, ..Request::default() }
}

fn class_name(vqgan: &Vqgan, class: usize) -> Option<String> {
    match vqgan.conditions() {
        Conditions::Classes(names) => names.get(class).cloned(),
        _ => None,
    }
}
