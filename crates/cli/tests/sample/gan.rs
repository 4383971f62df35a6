//! Generators of GANs.

use super::common::text;
use super::{copy, fixture, names, read, sample, sample_refused};

#[test]
fn seeds_make_pictures_in_batches_as_they_do_alone() {
    let out = tempfile::tempdir().unwrap();
    let (all, one) = (out.path().join("all"), out.path().join("one.png"));
    for model in ["example", "no_norms", "wgan"].map(|name| fixture("dcgan").join(name)) {
        let said = sample(&model, &["--count", "5", "--batch", "2", "--seed", "9"], &all);
        let mut wanted: Vec<String> = (9..14).map(|seed| format!("sample-{seed}.png")).collect();
        wanted.sort();
        assert_eq!(names(&all), wanted);
        assert!(
            said.contains("2 pictures in") && said.contains("pictures/s") && said.contains("seed 13"),
            "{said}"
        );
        sample(&model, &["--seed", "12"], &one);
        assert_eq!(read(&one), read(&all.join("sample-12.png")));
        assert_ne!(read(&one), read(&all.join("sample-13.png")));
    }
}

#[test]
fn weights_alone_tell_a_generator() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (model, target) = (folder.path(), out.path().join("made.png"));
    copy(&fixture("dcgan/wgan"), model);
    std::fs::remove_file(model.join("config.json")).unwrap();
    sample(model, &["--seed", "1"], &target);
    assert!(read(&target).width > 1);
    // Names of layers that no generator has.
    let manifest = std::fs::read_to_string(model.join("manifest.json")).unwrap();
    std::fs::write(model.join("manifest.json"), manifest.replace("main.initial", "main.other")).unwrap();
    sample_refused(text(model), &[], "holds no generator");
    std::fs::write(model.join("manifest.json"), manifest.replace("main.", "other.")).unwrap();
    sample_refused(text(model), &[], "holds no config.json and no YAML file");
    std::fs::write(model.join("config.json"), "{\"model_type\": \"dcgan\"}").unwrap();
    sample_refused(text(model), &[], "holds no generator");
}

#[test]
fn options_of_others_are_refused() {
    let model = fixture("dcgan/example");
    for (options, reason) in [
        (&["--size", "64x64"][..], "is a GAN's generator, which takes no --size"),
        (&["--class", "3", "--prompt", "a"], "takes no --class and no --prompt"),
        (&["--preview"], "takes no --preview"),
        (&["--complete", "no/such.png"], "takes no --complete"),
        (&["--temperature", "1"], "takes no --temperature"),
    ] {
        sample_refused(text(&model), options, reason);
    }
}
