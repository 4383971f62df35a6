//! Codes and pictures against diffusers' own, on the CPU reference.

use std::ops::ControlFlow;

use kiln_engine::Precision;
use kiln_graph::Tensor;
use kiln_models as models;
use kiln_models::amused::{Amused, Request};
use kiln_models::{Device, Error};

#[path = "amused/requests.rs"]
mod requests;

fn open() -> Amused {
    Amused::from_folder(requests::folder(), Device::Cpu, Precision::F32).unwrap()
}

#[test]
fn codes_behind_every_step_are_those_of_diffusers() {
    let mut pipeline = open();
    for name in requests::REQUESTS {
        let difference = requests::difference(&mut pipeline, name);
        assert!(difference.codes.iter().all(|&share| share == 0.0), "{name}: {difference:?}");
        // A value at the border of two bytes may fall to either side.
        assert!(difference.bytes <= 1, "{name}: {difference:?}");
    }
}

#[test]
fn previews_have_a_code_everywhere() {
    let mut pipeline = open();
    let mut decoder = pipeline.decoder().another();
    let request = Request { seeds: vec![3], ..requests::request("text2image") };
    let mut previews = 0;
    let mut watch = |progress: models::amused::Progress| {
        assert!(progress.step + 1 == progress.steps || decoder.pictures_blocking(progress.codes).is_err());
        previews += decoder.pictures_blocking(progress.predicted).unwrap().len();
        if progress.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let ended = pipeline.generate_blocking(&request, &mut watch);
    assert!(matches!(ended, Err(Error::Engine(kiln_engine::Error::Cancelled))));
    assert_eq!(previews, 3);
}

#[test]
fn codes_that_are_no_grid_are_refused() {
    let mut decoder = open().decoder().another();
    for shape in [vec![], vec![4], vec![0, 8, 8], vec![1, 0, 8], vec![1, 2, 2, 1]] {
        let codes = Tensor::i32(shape.clone(), vec![0; shape.iter().product()]).unwrap();
        assert!(decoder.pictures_blocking(&codes).is_err(), "{shape:?}");
    }
    let floats = Tensor::f32([1, 8, 8], vec![0.0; 64]).unwrap();
    assert!(decoder.pictures_blocking(&floats).is_err());
}

#[test]
fn a_batch_gives_what_its_members_give_alone() {
    let mut pipeline = open();
    let request = requests::request("text2image");
    let watch = &mut |_: models::amused::Progress| ControlFlow::Continue(());
    let together = pipeline.generate_blocking(&request, watch).unwrap();
    let second = Request { seeds: vec![request.seeds[1]], ..request };
    assert_eq!(pipeline.generate_blocking(&second, watch).unwrap(), together[1..]);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let pipeline = open();
    let base = || requests::request("text2image");
    assert_eq!(pipeline.default_size(), [32, 32]);
    let refused = |request: Request, reason: &str| {
        let error = pipeline.check(&request).unwrap_err();
        assert!(matches!(&error, Error::Input(said) if said.contains(reason)), "{error}");
    };
    refused(Request { size: Some([30, 32]), ..base() }, "multiples of 4");
    refused(Request { steps: 0, ..base() }, "0 steps");
    refused(Request { seeds: Vec::new(), ..base() }, "0 pictures");
    refused(Request { temperature: [f32::NAN, 0.0], ..base() }, "NaN");
    let with = |strength: f64, white: bool| {
        let mut request = requests::request("inpaint");
        let start = request.start.as_mut().unwrap();
        start.strength = strength;
        if !white {
            start.mask.as_mut().unwrap().rgb.fill(0);
        }
        request
    };
    refused(with(1.5, true), "strength");
    refused(with(0.1, true), "leaves none");
    refused(with(1.0, false), "mask");
}
