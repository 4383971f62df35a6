//! LoRAs against diffusers and PEFT, on the CPU reference.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::WeightSource;
use kiln_models as models;
use kiln_models::Device;
use kiln_models::lora::{Lora, Merged};
use kiln_models::stable_diffusion::{Additions, Request, StableDiffusion};
use kiln_models::weights::{Files, Folder, SafeTensors, open_part};

#[path = "stable_diffusion/requests.rs"]
#[allow(dead_code)]
mod requests;

fn fixtures() -> PathBuf {
    requests::folder().join("../lora")
}

fn plain() -> Arc<dyn Files> {
    Arc::new(Folder::new(requests::folder().join("plain")))
}

fn lora(name: &str, scale: f32) -> Lora {
    let files: Arc<dyn Files> = Arc::new(Folder::new(fixtures()));
    Lora::open(&files, &format!("{name}.safetensors"), scale).unwrap()
}

fn expected() -> SafeTensors {
    SafeTensors::open(Arc::new(Folder::new(fixtures())), "expected.safetensors").unwrap()
}

#[test]
fn every_layout_makes_the_pictures_of_diffusers() {
    let request = Request { steps: 4, seeds: vec![3], ..requests::request("plain", "text2image") };
    let both = [("kohya", 0.6), ("peft", 0.4)];
    for (name, loras) in [
        ("none", &[][..]),
        ("kohya", &[("kohya", 0.7)]),
        ("numbered", &[("numbered", 0.7)]),
        ("processors", &[("processors", 1.0)]),
        ("layers", &[("layers", -0.5)]),
        ("peft", &[("peft", 0.7)]),
        ("both", &both),
    ] {
        let loras = loras.iter().map(|(name, scale)| lora(name, *scale)).collect();
        let additions = Additions { loras, ..Additions::default() };
        let mut pipeline = StableDiffusion::open(&plain(), Device::Cpu, Precision::F32, &additions).unwrap();
        let pictures = pipeline.generate_blocking(&request, &mut ()).unwrap();
        let wanted = expected().load(name).unwrap();
        let pairs = pictures[0].rgb.iter().zip(wanted.as_i32().unwrap());
        let differences: Vec<u8> = pairs.map(|(&ours, &theirs)| ours.abs_diff(theirs as u8)).collect();
        let largest = differences.iter().max().copied().unwrap();
        let share = differences.iter().filter(|&&d| d > 0).count() as f64 / differences.len() as f64;
        // A value at the border of two bytes may fall to either side.
        assert!(largest <= 1 && share < 0.002, "{name}: off by {largest}, {share} of the bytes");
    }
}

#[test]
fn merged_weights_are_those_that_diffusers_fuses() {
    let loras = [lora("kohya", 0.7)];
    let unet = Merged::unet(open_part(&plain(), "unet").unwrap(), &loras).unwrap();
    let text = Merged::text(open_part(&plain(), "text_encoder").unwrap(), &loras).unwrap();
    let expected = expected();
    let mut seen = 0;
    for name in expected.entries().keys() {
        let Some((part, weight)) = name.split_once('/') else { continue };
        let merged: &dyn WeightSource = if part == "unet" { &unet } else { &text };
        let (ours, theirs) = (merged.load(weight).unwrap(), expected.load(name).unwrap());
        assert_eq!(ours.shape(), theirs.shape());
        for (ours, theirs) in ours.to_f64().iter().zip(theirs.to_f64()) {
            assert!((ours - theirs).abs() < 1e-6, "{name}: {ours} instead of {theirs}");
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
    assert_eq!((unet.changed(), text.changed()), (10, 6));
}

#[test]
fn the_same_twice_is_twice_as_much_and_its_opposite_is_nothing() {
    let inner = open_part(&plain(), "unet").unwrap();
    let name = "down_blocks.0.resnets.0.conv1.weight";
    let merged = |scales: &[f32]| {
        let loras: Vec<Lora> = scales.iter().map(|&scale| lora("kohya", scale)).collect();
        Merged::unet(inner.clone(), &loras).unwrap().load(name).unwrap().to_f64()
    };
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(&merged(&[0.5, 0.5]), &merged(&[1.0])));
    assert!(near(&merged(&[0.5, -0.5]), &inner.load(name).unwrap().to_f64()));
    assert!(near(&merged(&[0.0]), &inner.load(name).unwrap().to_f64()));
    assert!(!near(&merged(&[0.5]), &inner.load(name).unwrap().to_f64()));
}
