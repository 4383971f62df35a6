//! Latents of pictures and pictures of latents, whole and in tiles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::Tensor;
use kiln_models::latent_codec::AnyAutoencoder;
use kiln_models::weights::{Files, Folder, SafeTensors};
use kiln_models::{Device, LatentCodec, Tiling};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/autoencoder").join(case)
}

fn codec(case: &str) -> LatentCodec {
    LatentCodec::from_folder(folder(case), Device::Cpu, Precision::F32).unwrap()
}

/// What diffusers made of an image and of latents in tiles, with channels last.
struct Golden {
    file: SafeTensors,
}

impl Golden {
    fn open(case: &str) -> Self {
        let files: Arc<dyn Files> = Arc::new(Folder::new(folder(case)));
        Self { file: SafeTensors::open(files, "tiled.safetensors").unwrap() }
    }

    fn side(&self) -> usize {
        self.file.load("side").unwrap().to_f64()[0] as usize
    }

    fn image(&self, name: &str) -> Tensor {
        let tensor = self.file.load(name).unwrap();
        let &[batch, channels, height, width] = tensor.shape() else { unreachable!() };
        let pixels = height * width;
        let from = (0..tensor.len()).map(|i| {
            let (pixel, channel) = (i / channels, i % channels);
            Some(((pixel / pixels) * channels + channel) * pixels + pixel % pixels)
        });
        tensor.pick([batch, height, width, channels], from).unwrap()
    }
}

fn assert_close(actual: &Tensor, expected: &Tensor) {
    assert_eq!(actual.shape(), expected.shape());
    for (i, (actual, expected)) in actual.to_f64().iter().zip(expected.to_f64()).enumerate() {
        assert!((actual - expected).abs() < 2e-5 * expected.abs().max(1.0), "{i}: {actual} {expected}");
    }
}

#[test]
fn tiles_are_diffusers() {
    for case in ["kl_no_quant", "tiny_two_stages"] {
        let (mut codec, golden) = (codec(case), Golden::open(case));
        let whole = codec.decode_blocking(&golden.image("latents")).unwrap();
        assert_eq!(codec.tiles(), None);
        codec.set_tiling(Tiling::Latents(golden.side()));
        let decoded = codec.decode_blocking(&golden.image("latents")).unwrap();
        assert_close(&decoded, &golden.image("decoded"));
        assert!(codec.tiles().is_some_and(|tiles| tiles.side() == golden.side()));
        let far = |(a, b): (&f64, f64)| (a - b).abs() > 1e-3;
        assert!(decoded.to_f64().iter().zip(whole.to_f64()).any(far), "tiles change nothing");

        let encoded = codec.encode_blocking(&golden.image("image")).unwrap();
        let expected = golden.image("encoded");
        let latent = codec.model().latent_channels();
        match encoded.logvar() {
            None => assert_close(encoded.mean(), &expected),
            Some(logvar) => {
                let both = [encoded.mean().to_f32(), logvar.to_f32()];
                let pixels = both[0].chunks(latent).zip(both[1].chunks(latent));
                let moments: Vec<f32> = pixels.flat_map(|(mean, logvar)| [mean, logvar].concat()).collect();
                assert_close(&Tensor::f32(expected.shape(), moments).unwrap(), &expected);
            }
        }
    }
}

#[test]
fn images_that_fit_are_left_whole() {
    let (mut codec, golden) = (codec("kl_no_quant"), Golden::open("kl_no_quant"));
    let whole = codec.decode_blocking(&golden.image("latents")).unwrap();
    // The model's own images have 16 pixels a side, 8 latents.
    for (tiling, tiled) in [
        (Tiling::Latents(16), false),
        (Tiling::Within(1 << 30), false),
        (Tiling::ModelSize, true),
        (Tiling::Latents(8), true),
    ] {
        codec.set_tiling(tiling);
        let decoded = codec.decode_blocking(&golden.image("latents")).unwrap();
        assert_eq!((codec.tiles().is_some(), decoded == whole), (tiled, !tiled), "{tiling:?}");
    }
}

#[test]
fn memory_that_is_short_makes_tiles() {
    let (mut codec, golden) = (codec("kl_no_quant"), Golden::open("kl_no_quant"));
    codec.set_tiling(Tiling::Latents(8));
    let tiled = codec.decode_blocking(&golden.image("latents")).unwrap();
    // Weights of the decoder are about 45 kB; the whole image needs some 20 kB more than a tile of it.
    codec.set_tiling(Tiling::Within(80_000));
    let decoded = codec.decode_blocking(&golden.image("latents")).unwrap();
    assert_eq!(codec.tiles().map(|tiles| (tiles.side(), tiles.count())), Some((8, 9)));
    assert_close(&decoded, &tiled);
    codec.set_tiling(Tiling::Within(20_000));
    let error = codec.decode_blocking(&golden.image("latents")).unwrap_err().to_string();
    assert!(
        error.contains("15x13 cannot be worked on within 20000 bytes: even the smallest tiles need"),
        "{error}"
    );
}

#[test]
fn scaling_is_the_configurations() {
    let codec = codec("kl_no_quant");
    let AnyAutoencoder::Kl(model) = codec.model() else { unreachable!() };
    let latents = Tensor::f32([1, 3], vec![1.0, 1.0, 1.0]).unwrap();
    let scaled = model.scaling().scale(&latents).unwrap();
    let expected = Tensor::f32([1, 3], vec![0.25 * 0.18215, 1.25 * 0.18215, 2.0 * 0.18215]).unwrap();
    assert_close(&scaled, &expected);
    assert_close(&model.scaling().unscale(&scaled).unwrap(), &latents);
}

#[test]
fn what_is_no_image_is_refused() {
    let mut codec = codec("kl_no_quant");
    for (shape, reason) in [
        (vec![1, 4, 4], "are no images [batch, height, width, channels]"),
        (vec![1, 4, 4, 4], "images have 4 channels, and the model wants 3"),
        (vec![1, 0, 4, 3], "hold nothing"),
    ] {
        let latents = Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]).unwrap();
        let error = codec.decode_blocking(&latents).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    codec.set_tiling(Tiling::Latents(12));
    let latents = Tensor::f32([1, 20, 20, 3], vec![0.0; 1200]).unwrap();
    assert!(codec.decode_blocking(&latents).unwrap_err().to_string().contains("not a multiple of 8"));
    let config = serde_json::json!({"_class_name": "VQModel"});
    let weights = std::collections::HashMap::new();
    let error = AnyAutoencoder::new(&config, &weights).unwrap_err().to_string();
    assert!(error.contains("VQModel"), "{error}");
}
