use std::collections::HashMap;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::Tensor;
use kiln_graph::random::SplitMix64;

use super::*;
use crate::Device;
use crate::weights::{Files, Memory};

type Tensors = HashMap<String, Tensor>;

/// Small numbers for tensors of these names and shapes; variances and factors are positive.
fn tensors(shapes: &[(&str, &[usize])]) -> Tensors {
    let tensor = |&(name, shape): &(&str, &[usize])| {
        let positive = name.ends_with("running_var") || (shape.len() == 1 && name.ends_with("weight"));
        let offset = if positive { 1.0 } else { 0.0 };
        let random = SplitMix64::named(name);
        let data = (0..shape.iter().product()).map(|i| random.affine(i as u64, 0.3, offset)).collect();
        (name.to_string(), Tensor::f32(shape, data).unwrap())
    };
    shapes.iter().map(tensor).collect()
}

fn add_norm(tensors: &mut Tensors, module: &str, channels: usize) {
    for name in ["weight", "bias", "running_mean", "running_var"] {
        let name = format!("{module}.{name}");
        tensors.extend(self::tensors(&[(&name, &[channels])]));
    }
}

/// PyTorch's example with three layers: 4 pixels, 8, 16.
fn example() -> Tensors {
    let mut made = tensors(&[
        ("main.0.weight", &[5, 4, 4, 4]),
        ("main.3.weight", &[4, 2, 4, 4]),
        ("main.6.weight", &[2, 3, 4, 4]),
    ]);
    add_norm(&mut made, "main.1", 4);
    add_norm(&mut made, "main.4", 2);
    made
}

fn error(tensors: &Tensors) -> String {
    Dcgan::new(tensors).unwrap_err().to_string()
}

#[test]
fn shapes_tell_all_sizes() {
    let model = Dcgan::new(&example()).unwrap();
    assert_eq!((model.latent_dim(), model.channels(), model.image_size()), (5, 3, 16));
    let mut more = example();
    // What PyTorch counts in training.
    more.insert("main.1.num_batches_tracked".into(), Tensor::scalar(7.0));
    assert!(Dcgan::new(&more).is_ok());
}

#[test]
fn stages_of_wgan_stand_in_forward_order() {
    for dot in [':', '.'] {
        let name = |name: &str| name.replace(':', &dot.to_string());
        let shapes: [(&str, &[usize]); 5] = [
            ("main.extra-layers-0:2:conv.weight", &[2, 2, 3, 3]),
            ("main.final:2-1:convt.weight", &[2, 1, 4, 4]),
            ("main.initial:3-8:convt.weight", &[3, 8, 4, 4]),
            ("main.pyramid:4-2:convt.weight", &[4, 2, 4, 4]),
            ("main.pyramid:8-4:convt.weight", &[8, 4, 4, 4]),
        ];
        let named = shapes.map(|(module, shape)| (name(module), shape));
        let mut made = tensors(&named.each_ref().map(|(module, shape)| (module.as_str(), *shape)));
        add_norm(&mut made, &name("main.pyramid:4:batchnorm"), 4);
        made.extend(tensors(&[(&name("main.final:2-1:convt.bias"), &[1])]));
        let model = Dcgan::new(&made).unwrap();
        let kinds: Vec<Kind> = model.layers().iter().map(|layer| layer.kind).collect();
        assert_eq!(kinds, [Kind::Project, Kind::Double, Kind::Double, Kind::Keep, Kind::Double]);
        let norms: Vec<bool> = model.layers().iter().map(|layer| layer.norm.is_some()).collect();
        assert_eq!(norms, [false, true, false, false, false]);
        assert_eq!((model.image_size(), model.layers()[4].bias), (32, true));
    }
}

#[test]
fn what_is_no_generator_is_refused() {
    assert!(error(&HashMap::new()).contains("0 convolutions"));
    let mut wrong = example();
    wrong.remove("main.3.weight");
    assert!(error(&wrong).contains("takes 2 channels behind 4"));
    // A discriminator's.
    let wrong = tensors(&[("main.0.weight", &[4, 3, 4, 4]), ("main.2.weight", &[8, 4, 4, 4])]);
    assert!(error(&wrong).contains("takes 8 channels behind 3"));
    let mut wrong = example();
    wrong.extend(tensors(&[("encoder.weight", &[1, 1, 3, 3])]));
    assert!(error(&wrong).contains("encoder.weight"));
    let mut wrong = example();
    wrong.extend(tensors(&[("main.1.bias", &[3])]));
    assert!(error(&wrong).contains("main.1.bias [3] instead of [4]"));
}

#[test]
fn norms_vanish_into_the_layers_before_them() {
    let graph = Dcgan::new(&example()).unwrap().graph(2, &Taps::none()).unwrap();
    let optimised = kiln_graph::passes::optimise(graph).unwrap();
    assert!(optimised.nodes().iter().all(|node| node.op.name() != "batch_norm"));
}

/// A folder of the example's weights.
fn folder(tensors: &Tensors) -> Arc<dyn Files> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend(tensor.to_f32().iter().flat_map(|v| v.to_le_bytes()));
        let entry =
            serde_json::json!({"dtype": "F32", "shape": tensor.shape(), "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut memory = Memory::new();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    memory.insert("model.safetensors", bytes);
    Arc::new(memory)
}

#[test]
fn a_picture_depends_on_its_seed_alone() {
    let mut sampler = Sampler::open(&folder(&example()), Device::Cpu, Precision::F32).unwrap();
    let together = sampler.sample_blocking(&[3, 4]).unwrap();
    assert_eq!(sampler.sample_blocking(&[4]).unwrap(), together[1..]);
    assert!(together[0] != together[1]);
    assert!(sampler.sample_blocking(&[]).unwrap().is_empty());
}

#[test]
fn grey_pictures_are_pictures_and_two_channels_are_none() {
    let last = |channels: usize| {
        tensors(&[("main.0.weight", &[5, 4, 4, 4]), ("main.2.weight", &[4, channels, 4, 4])])
    };
    let mut sampler = Sampler::open(&folder(&last(1)), Device::Cpu, Precision::F32).unwrap();
    let picture = &sampler.sample_blocking(&[1]).unwrap()[0];
    assert!(picture.rgb.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    assert!(Sampler::open(&folder(&last(2)), Device::Cpu, Precision::F32).is_err());
    let wrong = Tensor::f32([1, 4], vec![0.0; 4]).unwrap();
    assert!(pollster::block_on(sampler.images(&wrong)).is_err());
}
