//! Pictures to codes and back, by tiny models.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::{self as graph, Interpreter, Tensor};
use kiln_models::code_codec::CodeMap;
use kiln_models::image::Picture;
use kiln_models::weights::{self, Files, Folder};
use kiln_models::{self as models, CodeCodec, Device, Taps, Tiling, vq_model};

#[path = "vq_model/folders.rs"]
mod folders;

fn codec(case: &str) -> CodeCodec {
    CodeCodec::from_folder(folders::fixture(case), Device::Cpu, Precision::F32).unwrap()
}

fn picture(width: usize, height: usize) -> Picture {
    let byte = |i: usize| ((i * 37 + i / 7 * 11) % 256) as u8;
    Picture::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap()
}

#[test]
fn pictures_of_any_size_keep_it() {
    for (case, factor) in [("diffusers", 4), ("original", 4), ("gumbel", 2)] {
        let mut codec = codec(case);
        for (width, height) in [(4, 4), (5, 4), (4, 7), (16, 11), (33, 20)] {
            let picture = picture(width, height);
            let map = codec.encode_blocking(&picture).unwrap();
            assert_eq!([map.height(), map.width()], [height.div_ceil(factor), width.div_ceil(factor)]);
            assert_eq!((map.picture_size(), map.codebook()), ([height, width], codec.codebook()));
            let again = codec.decode_blocking(&CodeMap::from_bytes(&map.to_bytes()).unwrap()).unwrap();
            assert_eq!((again.width, again.height), (width, height));
        }
        for (width, height) in [(1, 8), (8, 1)] {
            let error = codec.encode_blocking(&picture(width, height)).unwrap_err().to_string();
            let expected = format!(
                "a picture of {width}x{height} pixels cannot be encoded: the model wants {factor}x{factor} at least"
            );
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn codes_and_pictures_are_the_whole_models() {
    for case in ["diffusers", "original", "gumbel"] {
        let mut codec = codec(case);
        let files: Arc<dyn Files> = Arc::new(Folder::new(folders::fixture(case)));
        let weights = vq_model::diffusers_names(weights::open(&files).unwrap());
        // No multiple of either model's squares.
        let padded = picture(24, 16);
        let rows = padded.rgb.chunks(24 * 3).take(15);
        let mut rgb: Vec<u8> = rows.flatten().copied().collect();
        let cut = Picture::new(24, 15, rgb.clone()).unwrap();
        rgb.extend_from_within(14 * 24 * 3..);
        let padded = Picture { rgb, ..padded };

        let map = codec.encode_blocking(&cut).unwrap();
        let graph = codec.model().graph(1, [16, 24], &Taps::none()).unwrap();
        let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
        let image = padded.to_image().unwrap();
        let outputs = Interpreter::new(graph, weights.as_ref()).unwrap().run(&[("image", image)]).unwrap();
        let whole: HashMap<String, Tensor> = names.into_iter().zip(outputs).collect();
        let codes: Vec<f64> = map.codes().iter().map(|&code| code.into()).collect();
        assert!(map.used() > 2, "{case}");
        assert_eq!(codes, whole["codes"].to_f64(), "{case}");
        let decoded = codec.decode_blocking(&map).unwrap();
        let expected = Picture::from_images(&whole["image"]).unwrap();
        assert_eq!(decoded.rgb, expected[0].rgb[..24 * 15 * 3], "{case}");
    }
}

#[test]
fn tiles_leave_most_codes_as_they_are() {
    let mut codec = codec("gumbel");
    let picture = picture(70, 45);
    let whole = codec.encode_blocking(&picture).unwrap();
    assert!(codec.tiles().is_none());
    for (tiling, tiled) in
        [(Tiling::Latents(16), true), (Tiling::ModelSize, true), (Tiling::Within(1 << 30), false)]
    {
        codec.set_tiling(tiling);
        let map = codec.encode_blocking(&picture).unwrap();
        assert_eq!(codec.tiles().is_some(), tiled, "{tiling:?}");
        let same = map.codes().iter().zip(whole.codes()).filter(|(a, b)| a == b).count();
        assert!(if tiled { same * 2 > whole.codes().len() } else { map == whole }, "{tiling:?}: {same}");
        let decoded = codec.decode_blocking(&map).unwrap();
        assert_eq!(codec.tiles().is_some(), tiled, "{tiling:?}");
        assert_eq!((decoded.width, decoded.height), (70, 45));
    }
    codec.set_tiling(Tiling::Latents(12));
    assert!(codec.encode_blocking(&picture).unwrap_err().to_string().contains("multiple of 8"));
    codec.set_tiling(Tiling::Within(1000));
    assert!(codec.encode_blocking(&picture).unwrap_err().to_string().contains("within 1000 bytes"));
}

#[test]
fn codes_of_another_model_are_refused() {
    let mut codec = codec("diffusers");
    let map = codec.encode_blocking(&picture(8, 8)).unwrap();
    // It has as many codes.
    let error = self::codec("original").decode_blocking(&map).unwrap_err().to_string();
    assert_eq!(error, "the code map was made by another model: its codes are of another codebook");
    let coarse = CodeMap::new([1, 2], vec![0; 2], [8, 8], map.codebook()).unwrap();
    let error = codec.decode_blocking(&coarse).unwrap_err().to_string();
    assert_eq!(error, "the code map was made by another model: its codes are not those of 4x4 pixels each");
}

#[test]
fn models_of_other_pictures_are_refused() {
    let path = folders::fixture("no_attention");
    let error = CodeCodec::from_folder(path, Device::Cpu, Precision::F32).err().unwrap().to_string();
    assert_eq!(error, "config.json: the model makes images of 2 channels of such of 4, and pictures have 3");
}

#[test]
fn the_first_of_two_stages_is_the_same_model() {
    let picture = picture(16, 12);
    let mut alone = codec("original");
    let map = alone.encode_blocking(&picture).unwrap();
    for prefix in ["", "state_dict."] {
        let folder = tempfile::tempdir().unwrap();
        folders::write_two_stages(folder.path(), prefix);
        let mut codec = CodeCodec::from_folder(folder.path(), Device::Cpu, Precision::F32).unwrap();
        assert_eq!(codec.encode_blocking(&picture).unwrap(), map);
        assert_eq!(codec.decode_blocking(&map).unwrap(), alone.decode_blocking(&map).unwrap());
        // A configuration that says something else is named.
        let yaml = folder.path().join("2020-11-13-project.yaml");
        let text = std::fs::read_to_string(&yaml).unwrap().replace("double_z: False", "double_z: True");
        std::fs::write(&yaml, text).unwrap();
        let error = CodeCodec::from_folder(folder.path(), Device::Cpu, Precision::F32).err().unwrap();
        assert!(error.to_string().ends_with("project.yaml: double_z is true, which Kiln does not compute"));
    }
}

#[test]
fn halves_in_f16_make_nearly_the_same() {
    let picture = picture(32, 24);
    let mut whole = codec("diffusers");
    let mut half =
        CodeCodec::from_folder(folders::fixture("diffusers"), Device::Cpu, Precision::F16).unwrap();
    let [a, b] = [&mut whole, &mut half].map(|codec| codec.encode_blocking(&picture).unwrap());
    let same = a.codes().iter().zip(b.codes()).filter(|(a, b)| a == b).count();
    assert!(same + 2 >= a.codes().len(), "{same}");
    let [a, b] = [&mut whole, &mut half].map(|codec| codec.decode_blocking(&a).unwrap());
    assert!(a.rgb.iter().zip(&b.rgb).all(|(a, b)| a.abs_diff(*b) <= 2));
}
