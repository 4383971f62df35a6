//! Pictures against diffusers' own, on the CPU reference.

use kiln_engine::Precision;
use kiln_models as models;
use kiln_models::Device;
use kiln_models::stable_diffusion::{Request, StableDiffusion};

#[path = "stable_diffusion/requests.rs"]
mod requests;

fn open(name: &str) -> StableDiffusion {
    StableDiffusion::from_folder(requests::folder().join(name), Device::Cpu, Precision::F32).unwrap()
}

#[test]
fn pictures_are_those_of_diffusers() {
    for (folder, names) in requests::REQUESTS {
        let mut pipeline = open(folder);
        for name in names {
            let (largest, share) = requests::difference(&mut pipeline, folder, name);
            // A value at the border of two bytes may fall to either side.
            assert!(largest <= 1 && share < 0.001, "{folder}/{name}: off by {largest}, {share} of the bytes");
        }
    }
}

#[test]
fn a_batch_gives_what_its_members_give_alone() {
    let mut pipeline = open("plain");
    for name in ["ancestral", "img2img"] {
        let request = requests::request("plain", name);
        let together = pipeline.generate_blocking(&request, &mut ()).unwrap();
        let second = Request { seeds: vec![request.seeds[1]], ..request };
        assert_eq!(pipeline.generate_blocking(&second, &mut ()).unwrap(), together[1..]);
    }
}

#[test]
fn low_memory_changes_no_pixel() {
    let mut pipeline = open("plain");
    let request = requests::request("plain", "inpaint");
    let pictures = pipeline.generate_blocking(&request, &mut ()).unwrap();
    pipeline.set_low_memory(true);
    assert_eq!(pipeline.generate_blocking(&request, &mut ()).unwrap(), pictures);
}

#[test]
fn what_cannot_be_done_is_refused_in_one_sentence() {
    let pipeline = open("plain");
    let refused = |request: Request, reason: &str| {
        let error = pipeline.check(&request).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{error:?} does not say {reason:?}");
    };
    let base = || Request { steps: 4, ..Request::default() };
    refused(Request { size: Some([30, 32]), ..base() }, "multiples of 4");
    refused(Request { size: Some([0, 32]), ..base() }, "multiples of 4");
    refused(Request { steps: 0, ..base() }, "steps");
    refused(Request { steps: 100_000, ..base() }, "steps");
    refused(Request { guidance_scale: f32::NAN, ..base() }, "NaN");
    refused(Request { guidance_rescale: 1.5, ..base() }, "1.5");
    refused(Request { seeds: Vec::new(), ..base() }, "0 pictures");
    refused(Request { clip_skip: 2, ..base() }, "2 are left out");
    refused(Request { scheduler: Some("Best".into()), ..base() }, "Best");
    for strength in [-0.1, 1.1, f64::NAN, 0.1] {
        let mut request = Request { steps: 4, ..requests::request("plain", "img2img") };
        request.start.as_mut().unwrap().strength = strength;
        refused(request, "strength");
    }
    let inpainting = open("inpainting");
    assert!(inpainting.check(&base()).unwrap_err().to_string().contains("a picture and a mask"));
    pipeline.check(&base()).unwrap();
}

#[test]
fn prompts_of_any_kind_make_pictures() {
    let mut pipeline = open("plain");
    let long = "red ".repeat(2500);
    for prompt in ["", "🦀 三 🦀", long.as_str()] {
        let request = Request { prompt: prompt.into(), steps: 1, ..Request::default() };
        assert_eq!(pipeline.generate_blocking(&request, &mut ()).unwrap().len(), 1);
        let cut = pipeline.warnings(&request).unwrap();
        assert_eq!(cut.len(), usize::from(prompt == long));
    }
}
