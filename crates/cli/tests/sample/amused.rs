//! aMUSEd.

use std::ops::ControlFlow;

use kiln::engine::Precision;
use kiln::models::Device;
use kiln::models::amused::{Amused, Request, Start};
use kiln::models::image::{Filter, Picture, fill};

use super::common::text;
use super::{copy, fixture, names, picture, read, sample, sample_refused};

const PROMPT: [&str; 4] = ["--prompt", "a red three left of a blue seven", "--steps", "4"];

#[test]
fn prompts_are_drawn_in_batches_as_they_are_alone() {
    let out = tempfile::tempdir().unwrap();
    let (all, one) = (out.path().join("all"), out.path().join("one.png"));
    let more = ["--count", "3", "--batch", "2", "--seed", "3", "--preview", "2"];
    let said = sample(&fixture("amused"), &[&PROMPT[..], &more].concat(), &all);
    for part in ["seed 3", "seed 5", "2 pictures in", "it/s behind the first step"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    let wanted = (3..6).flat_map(|seed| [format!("sample-{seed}.png"), format!("sample-{seed}.preview.png")]);
    assert_eq!(names(&all), wanted.collect::<Vec<_>>());
    for seed in ["3", "4", "5"] {
        sample(&fixture("amused"), &[&PROMPT[..], &["--seed", seed]].concat(), &one);
        let picture = read(&one);
        assert_eq!((picture.width, picture.height), (32, 32));
        assert_eq!(picture, read(&all.join(format!("sample-{seed}.png"))));
        // The last preview was behind the last step.
        assert_eq!(picture, read(&all.join(format!("sample-{seed}.preview.png"))));
    }
    assert_ne!(read(&one), read(&all.join("sample-3.png")));
}

#[test]
fn options_are_those_of_the_library() {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("made.png");
    let (_folder, start) = picture(24, 60);
    let options = ["--negative", "blurry blue", "--guidance", "3", "--temperature", "4.5", "--size", "24x40"];
    let more = ["--seed", "8", "--complete", text(&start), "--keep", "0.3"];
    sample(&fixture("amused"), &[&PROMPT[..], &options, &more].concat(), &target);

    let mut pipeline = Amused::from_folder(fixture("amused"), Device::Cpu, Precision::F32).unwrap();
    // Three of ten rows stay.
    let white = |i: usize| if i < 3 * 6 * 3 { 0 } else { 255 };
    let mask = Some(Picture::new(6, 10, (0..10 * 6 * 3).map(white).collect()).unwrap());
    let filled = fill(&read(&start), 24, 40, Filter::Lanczos);
    let request = Request {
        prompt: PROMPT[1].into(),
        negative_prompt: "blurry blue".into(),
        size: Some([40, 24]),
        steps: 4,
        guidance_scale: 3.0,
        temperature: [4.5, 0.0],
        seeds: vec![8],
        start: Some(Start { picture: filled.clone(), mask, strength: 1.0 }),
        ..Request::default()
    };
    let codes = pipeline.generate_codes_blocking(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    let made = pipeline.generate_blocking(&request, &mut |_| ControlFlow::Continue(())).unwrap().remove(0);
    assert_eq!(made, read(&target));
    let kept = kept_codes(&mut pipeline, filled);
    assert_eq!(codes.as_i32().unwrap()[..18], kept[..18]);
    assert_ne!(codes.as_i32().unwrap()[18..], kept[18..]);
}

/// The codes of a picture: those that stay where all but the last row does.
fn kept_codes(pipeline: &mut Amused, picture: Picture) -> Vec<i32> {
    let [rows, columns] = [picture.height / 4, picture.width / 4];
    let white = |i: usize| if i < (rows - 1) * columns * 3 { 0 } else { 255 };
    let mask = Some(Picture::new(columns, rows, (0..rows * columns * 3).map(white).collect()).unwrap());
    let size = Some([picture.height, picture.width]);
    let start = Some(Start { picture, mask, strength: 1.0 });
    let request = Request { size, start, steps: 1, ..Request::default() };
    let codes = pipeline.generate_codes_blocking(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    codes.as_i32().unwrap().to_vec()
}

#[test]
fn what_cannot_be_drawn_is_refused_before_anything_is() {
    let model = fixture("amused");
    let (_folder, start) = picture(8, 8);
    let start = text(&start);
    sample_refused(
        text(&model),
        &[],
        "aMUSEd wants to be told what the pictures are to show (--prompt TEXT)",
    );
    for (options, reason) in [
        (&["--class", "3"][..], "is aMUSEd, which takes no --class"),
        (&["--classes"], "takes no --classes"),
        (&["--map", start, "--top-k", "3"], "takes no --map and no --top-k"),
        (&["--steps", "0"], "0 steps are not 1 to"),
        (&["--size", "30x32"], "multiples of 4"),
        (&["--size", "0x32"], "multiples of 4"),
        (&["--guidance", "inf"], "inf is no scale"),
        (&["--complete", start, "--keep", "nan"], "--keep NaN is no share"),
        (&["--complete", start, "--keep", "1"], "the mask leaves no code"),
        (&["--complete", "no/such.png"], "no/such.png cannot be read"),
    ] {
        sample_refused(text(&model), &[&["--prompt", "a"], options].concat(), reason);
    }
}

#[test]
fn broken_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, whole) = (folder.path(), fixture("amused"));
    let broken = |reason: &str| sample_refused(text(model), &["--prompt", "a"], reason);
    copy(&whole, model);
    std::fs::remove_dir_all(model.join("vqvae")).unwrap();
    broken("holds no vqvae, so it is no pipeline's folder");
    copy(&whole, model);
    std::fs::write(model.join("scheduler/scheduler_config.json"), "{}").unwrap();
    broken("scheduler_config.json: it has no mask_token_id");
    copy(&whole, model);
    let config = std::fs::read_to_string(model.join("vqvae/config.json")).unwrap();
    let other = config.replace("\"num_vq_embeddings\": 60", "\"num_vq_embeddings\": 59");
    std::fs::write(model.join("vqvae/config.json"), other).unwrap();
    broken("59");
    copy(&whole, model);
    std::fs::write(model.join("model_index.json"), "{\"_class_name\": \"AmusedOther\"}").unwrap();
    broken("Kiln has no AmusedOther");
}
