//! Models and ops against the numbers of the libraries that they come from (`tests/oracle` writes them).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::Tensor;
use kiln_models::SegmentOptions;
use kiln_models::detect::Masks;
use kiln_models::verify::{Device, Gates, Options, Verdict, verify};
use kiln_models::weights::{Files, Folder, SafeTensors};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Verifies a folder with its hidden layers, of which `count` tensors are compared.
fn passes(case: &str, precision: Precision, count: usize) {
    let options = Options { device: Device::Cpu, precision, gates: Gates::default(), layers: true };
    let mut seen = 0;
    let files = Arc::new(Folder::new(fixtures().join(case)));
    let each = &mut |row: kiln_models::verify::Row| {
        assert_eq!(row.verdict, Verdict::Passed, "{}", row.name);
        seen += 1;
    };
    pollster::block_on(verify(files, &options, each)).unwrap();
    assert_eq!(seen, count);
}

#[test]
fn the_head_for_masks() {
    passes("detr/segmentation", Precision::F32, 7);
    passes("detr/segmentation", Precision::F16, 7);
}

#[test]
fn three_stages_and_learned_positions() {
    passes("detr/three_stages", Precision::F32, 6);
    passes("detr/three_stages", Precision::F16, 6);
}

#[test]
fn transformers_that_write_tokens() {
    for case in ["gpt/gpt2", "gpt/mingpt", "gpt/untied"] {
        passes(case, Precision::F32, 9);
        passes(case, Precision::F16, 9);
    }
}

#[test]
fn prompts_whose_largest_id_ends_them() {
    passes("clip_text/quick_gelu", Precision::F32, 20);
    passes("clip_text/quick_gelu", Precision::F16, 20);
}

#[test]
fn prompts_with_a_projection() {
    passes("clip_text/gelu_projection", Precision::F32, 18);
    passes("clip_text/gelu_projection", Precision::F16, 18);
}

#[test]
fn unets_with_linear_projections_and_odd_sides() {
    passes("unet/linear", Precision::F32, 16);
    passes("unet/linear", Precision::F16, 16);
}

#[test]
fn unets_for_inpainting_with_every_option() {
    passes("unet/inpainting", Precision::F32, 10);
    passes("unet/inpainting", Precision::F16, 10);
}

#[test]
fn unets_with_classes_of_every_kind() {
    for kind in ["timestep", "identity", "projection", "simple_projection"] {
        passes(&format!("unet/class_{kind}"), Precision::F32, 3);
        passes(&format!("unet/class_{kind}"), Precision::F16, 3);
    }
}

#[test]
fn autoencoders() {
    for (case, count) in [("kl", 34), ("kl_no_quant", 11), ("tiny", 2), ("tiny_two_stages", 2)] {
        let case = format!("autoencoder/{case}");
        passes(&case, Precision::F32, count);
        passes(&case, Precision::F16, count);
    }
}

#[test]
fn autoencoders_with_a_codebook() {
    for (case, count) in
        [("codes", 4), ("diffusers", 30), ("gumbel", 13), ("no_attention", 10), ("original", 15)]
    {
        let case = format!("vq_model/{case}");
        passes(&case, Precision::F32, count);
        passes(&case, Precision::F16, count);
    }
}

#[test]
fn generators() {
    for (case, count) in [("example", 8), ("no_norms", 5), ("wgan", 6)] {
        let case = format!("dcgan/{case}");
        passes(&case, Precision::F32, count);
        passes(&case, Precision::F16, count);
    }
}

#[test]
fn transformers_of_codes() {
    for (case, count) in [("flat", 28), ("halved", 11)] {
        let case = format!("uvit2d/{case}");
        passes(&case, Precision::F32, count);
        passes(&case, Precision::F16, count);
    }
}

#[test]
fn random_touching_identical_and_degenerate_boxes() {
    passes("boxes", Precision::F32, 68);
}

#[test]
fn masks_merge_into_the_same_segments() {
    let files: Arc<dyn Files> = Arc::new(Folder::new(fixtures()));
    let file = SafeTensors::open(files, "detr/segments.safetensors").unwrap();
    for i in 0..3 {
        let load = |name: &str| -> Tensor { file.load(&format!("{i}.{name}")).unwrap() };
        let (logits, masks, labels) = (load("logits"), load("masks"), load("labels"));
        let (&[_, rows, columns], &[height, width]) = (masks.shape(), labels.shape()) else { unreachable!() };
        let fuse = load("fuse").to_f64().into_iter().filter(|&label| label >= 0.0);
        let options = SegmentOptions {
            threshold: load("threshold").to_f32()[0],
            fuse: fuse.map(|label| label as usize).collect(),
            ..SegmentOptions::default()
        };
        let (logits, masks) = (logits.to_f32(), masks.to_f32());
        let said = Masks { logits: &logits, classes: 3, masks: &masks, size: [rows, columns] };
        let found = said.segments(width, height, &options);
        let label = |&id: &u32| match id {
            0 => -1.0,
            id => found.segments[id as usize - 1].label as f64,
        };
        assert_eq!(found.ids.iter().map(label).collect::<Vec<_>>(), labels.to_f64(), "case {i}");
        let areas: HashMap<u32, usize> = found.ids.iter().fold(HashMap::new(), |mut areas, &id| {
            *areas.entry(id).or_default() += 1;
            areas
        });
        for (segment, id) in found.segments.iter().zip(1..) {
            assert_eq!(segment.area, areas[&id]);
        }
        if options.fuse.is_empty() {
            let ids: Vec<f64> = found.ids.iter().map(|&id| f64::from(id)).collect();
            assert_eq!(ids, load("segmentation").to_f64(), "case {i}");
            let scores = load("scores").to_f64();
            assert_eq!(found.segments.len(), scores.len());
            for (segment, score) in found.segments.iter().zip(scores) {
                assert!((f64::from(segment.score) - score).abs() < 1e-5);
            }
        }
    }
}
