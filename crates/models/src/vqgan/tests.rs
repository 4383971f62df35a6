use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use kiln_engine::Precision;
use kiln_graph::sampling::Sampling;
use kiln_graph::{Interpreter, Tensor};
use serde_json::json;

use super::*;
use crate::gpt;
use crate::image::Picture;
use crate::{Device, Taps};

/// Codes of the first stage, and those along a side of its pictures.
const CODES: usize = 37;
const SIDE: usize = 8;

/// A small model of two stages on the CPU reference: the first is a fixture, the second has random numbers.
fn model(condition: Json, positions: usize) -> Vqgan {
    let (config, weights) = parts(condition, positions);
    Vqgan::new(&config, Arc::new(weights), Device::Cpu, Precision::F32).unwrap()
}

fn parts(condition: Json, positions: usize) -> (Json, HashMap<String, Tensor>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vq_model/original");
    let files = folder::open(folder).unwrap();
    let first = folder::config(&files).unwrap();
    let made = weights::open(&files).unwrap();
    let mut all = HashMap::new();
    for name in made.names() {
        let tensor = made.load(&name).unwrap();
        all.insert(format!("cond_stage_model.{name}"), tensor.clone());
        all.insert(format!("first_stage_model.{name}"), tensor);
    }
    let sizes = second(positions);
    for (name, tensor) in gpt::tests::mingpt(&sizes) {
        all.insert(format!("transformer.{name}"), tensor);
    }
    let transformer = json!({
        "vocab_size": CODES, "block_size": positions, "n_layer": 2, "n_head": sizes.n_head, "n_embd": sizes.n_embd
    });
    let config = json!({"model": {
        "target": "taming.models.cond_transformer.Net2NetTransformer",
        "params": {
            "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": transformer},
            "first_stage_config": first["model"],
            "cond_stage_config": condition
        }
    }});
    (config, all)
}

fn second(positions: usize) -> gpt::Config {
    gpt::Config { vocab_size: CODES, n_positions: positions, n_layer: 2, n_inner: 48, ..gpt::tests::tiny() }
}

fn classes() -> Json {
    json!({"target": "taming.modules.util.Labelator", "params": {"n_classes": 6}})
}

fn maps() -> Json {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vq_model/original");
    folder::config(&folder::open(folder).unwrap()).unwrap()["model"].clone()
}

fn sample(vqgan: &mut Vqgan, request: &Request) -> Vec<Vec<u32>> {
    let samples = vqgan.sample_blocking(request, &mut ()).unwrap();
    samples.iter().map(|sample| sample.codes.codes().to_vec()).collect()
}

fn picture(width: usize, height: usize) -> Picture {
    let rgb = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
    Picture::new(width, height, rgb).unwrap()
}

const GREEDY: Sampling = Sampling::GREEDY;

/// What the likeliest code is behind these tokens, by the graph of whole texts.
fn likeliest(positions: usize, tokens: &[u32]) -> u32 {
    let weights = gpt::tests::mingpt(&second(positions));
    let gpt = Gpt::new(second(positions), &weights).unwrap();
    let ids = Tensor::i32([1, tokens.len()], tokens.iter().map(|&token| token as i32).collect()).unwrap();
    let graph = gpt.graph(1, tokens.len(), &Taps::none()).unwrap();
    let logits = Interpreter::new(graph, &weights).unwrap().run(&[("input_ids", ids)]).unwrap()[0].to_f64();
    let last = &logits[logits.len() - CODES..];
    let best = (0..CODES).fold(0, |best, code| if last[code] > last[best] { code } else { best });
    best as u32
}

#[test]
fn a_cache_gives_the_codes_that_whole_texts_give() {
    let mut vqgan = model(classes(), 64);
    assert_eq!(vqgan.grid(), [SIDE; 2]);
    let request = Request { conditions: vec![Condition::Class(4)], sampling: GREEDY, ..Request::default() };
    let codes = sample(&mut vqgan, &request).remove(0);
    let mut tokens = vec![4];
    for &code in &codes {
        assert_eq!(code, likeliest(64, &tokens));
        tokens.push(code);
    }
    // Again from the same cache.
    assert_eq!(sample(&mut vqgan, &request), [codes]);
}

#[test]
fn checkpoints_of_trainers_are_read() {
    let (config, weights) = parts(classes(), 64);
    let weights: HashMap<String, Tensor> =
        weights.into_iter().map(|(name, tensor)| (format!("state_dict.{name}"), tensor)).collect();
    let mut theirs = Vqgan::new(&config, Arc::new(weights), Device::Cpu, Precision::F32).unwrap();
    let request = Request { conditions: vec![Condition::Class(2)], ..Request::default() };
    assert_eq!(sample(&mut theirs, &request), sample(&mut model(classes(), 64), &request));
}

#[test]
fn a_batch_is_its_members() {
    let mut vqgan = model(classes(), 64);
    let conditions: Vec<Condition> = [0, 3, 5].map(Condition::Class).to_vec();
    let all = [
        Sampling { top_k: Some(9), ..Sampling::default() },
        Sampling { top_p: Some(0.8), temperature: 0.7, ..Sampling::default() },
    ];
    for sampling in all {
        let request =
            Request { conditions: conditions.clone(), seeds: vec![7, 8, 9], sampling, ..Request::default() };
        let together = sample(&mut vqgan, &request);
        assert_ne!(together[0], together[1]);
        for (i, codes) in together.into_iter().enumerate() {
            let (conditions, seeds) = (vec![conditions[i].clone()], vec![request.seeds[i]]);
            let alone = Request { conditions, seeds, ..request.clone() };
            assert_eq!(sample(&mut vqgan, &alone), [codes]);
        }
    }
}

#[test]
fn larger_pictures_are_written_through_a_window() {
    let mut vqgan = model(json!("__is_unconditional__"), 64);
    let (height, width) = (9, 11);
    let request = Request { grid: Some([height, width]), sampling: GREEDY, ..Request::default() };
    let codes = sample(&mut vqgan, &request).remove(0);
    for i in 0..height * width {
        let [top, left] = window::place([i / width, i % width], [height, width], [SIDE; 2]);
        let seen = (top..height).flat_map(|y| (left..left + SIDE).map(move |x| y * width + x));
        let tokens: Vec<u32> = [0].into_iter().chain(seen.filter(|&at| at < i).map(|at| codes[at])).collect();
        assert_eq!(codes[i], likeliest(64, &tokens), "{i}");
    }
}

#[test]
fn maps_stand_before_codes() {
    let positions = 2 * SIDE * SIDE;
    let map = picture(40, 24);
    let request =
        Request { conditions: vec![Condition::Map(map.clone())], sampling: GREEDY, ..Request::default() };
    let mut found = Vec::new();
    for condition in [json!("__is_first_stage__"), maps()] {
        let mut vqgan = model(condition, positions);
        assert_eq!(*vqgan.conditions(), Conditions::Maps { channels: 3 });
        let resized = crate::image::resize(&map, 32, 32, crate::image::Filter::Lanczos);
        let mut tokens = vqgan.codec().encode_blocking(&resized).unwrap().codes().to_vec();
        let codes = sample(&mut vqgan, &request).remove(0);
        for &code in &codes[..5] {
            assert_eq!(code, likeliest(positions, &tokens));
            tokens.push(code);
        }
        let mut larger = Request { grid: Some([8, 9]), ..request.clone() };
        assert_eq!(sample(&mut vqgan, &larger)[0].len(), 72);
        larger.conditions = vec![Condition::None];
        assert!(vqgan.admit(&larger).unwrap_err().to_string().contains("map"));
        found.push(codes);
    }
    // The autoencoder of maps is the same.
    assert_eq!(found[0], found[1]);
}

#[test]
fn the_upper_part_of_a_picture_stays() {
    let mut vqgan = model(classes(), 64);
    let original = picture(32, 32);
    let codes = vqgan.codec().encode_blocking(&original).unwrap().codes().to_vec();
    for (grid, rows) in [([8, 8], 3), ([8, 8], 8), ([8, 8], 0)] {
        let completion = Some(Completion { picture: original.clone(), rows });
        let request = Request {
            conditions: vec![Condition::Class(1)],
            sampling: GREEDY,
            grid: Some(grid),
            completion,
            ..Request::default()
        };
        let completed = sample(&mut vqgan, &request).remove(0);
        assert_eq!(completed[..rows * 8], codes[..rows * 8]);
        assert_eq!(completed.len(), 64);
        if rows == 3 {
            let tokens: Vec<u32> = [1].iter().chain(&codes[..24]).copied().collect();
            assert_eq!(completed[24], likeliest(64, &tokens));
        }
    }
    let wide = Request {
        conditions: vec![Condition::Class(1)],
        grid: Some([10, 8]),
        completion: Some(Completion { picture: picture(70, 50), rows: 9 }),
        ..Request::default()
    };
    assert_eq!(sample(&mut vqgan, &wide)[0].len(), 80);
}

#[test]
fn whoever_watches_sees_rows_and_may_stop() {
    struct Seen(Vec<usize>, usize);
    impl Watch for Seen {
        fn wants(&self, rows: usize) -> bool {
            rows == 2
        }
        fn see(&mut self, progress: Progress) -> ControlFlow<()> {
            assert_eq!(progress.codes, 64);
            if let Some(pictures) = progress.pictures {
                assert_eq!((progress.done, pictures.len()), (16, 1));
                let rows: Vec<&[u8]> = pictures[0].rgb.chunks(32 * 3).collect();
                assert!(rows[7].iter().any(|&value| value > 0) && rows[8].iter().all(|&value| value == 0));
            }
            self.0.push(progress.done);
            if progress.done == self.1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let mut vqgan = model(classes(), 64);
    let request = Request { conditions: vec![Condition::Class(0)], ..Request::default() };
    let mut seen = Seen(Vec::new(), 0);
    vqgan.sample_blocking(&request, &mut seen).unwrap();
    assert_eq!(seen.0, (1..=64).collect::<Vec<_>>());
    let error = vqgan.sample_blocking(&request, &mut Seen(Vec::new(), 5)).unwrap_err();
    assert!(matches!(error, Error::Engine(kiln_engine::Error::Cancelled)));
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let vqgan = model(classes(), 64);
    let fine = Request { conditions: vec![Condition::Class(0)], ..Request::default() };
    vqgan.admit(&fine).unwrap();
    let (none, sampling) = (Vec::new(), Sampling::default());
    let refused = [
        (Request { conditions: vec![Condition::Class(6)], ..fine.clone() }, "class 6"),
        (Request { conditions: vec![Condition::None], ..fine.clone() }, "6 classes"),
        (Request { conditions: vec![Condition::Map(picture(8, 8))], ..fine.clone() }, "6 classes"),
        (Request { conditions: none, ..fine.clone() }, "conditions"),
        (Request { seeds: Vec::new(), ..fine.clone() }, "conditions"),
        (Request { conditions: vec![Condition::Class(0); 2], ..fine.clone() }, "conditions"),
        (Request { grid: Some([7, 8]), ..fine.clone() }, "smaller"),
        (Request { grid: Some([1 << 40, 1 << 40]), ..fine.clone() }, "more than"),
        (Request { sampling: Sampling { temperature: f32::NAN, ..sampling }, ..fine.clone() }, "temperature"),
        (Request { sampling: Sampling { temperature: -1.0, ..sampling }, ..fine.clone() }, "temperature"),
        (Request { sampling: Sampling { top_p: Some(1.5), ..sampling }, ..fine.clone() }, "top-p"),
        (
            Request { completion: Some(Completion { picture: picture(8, 8), rows: 9 }), ..fine.clone() },
            "cannot stay",
        ),
    ];
    for (request, part) in refused {
        let error = vqgan.admit(&request).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn stages_that_do_not_fit_are_refused() {
    let open = |condition: Json, positions: usize, edit: &dyn Fn(&mut Json, &mut HashMap<String, Tensor>)| {
        let (mut config, mut weights) = parts(condition, positions);
        edit(&mut config, &mut weights);
        let opened = Vqgan::new(&config, Arc::new(weights), Device::Cpu, Precision::F32);
        opened.err().unwrap().to_string()
    };
    assert!(open(classes(), 63, &|_, _| {}).contains("64 tokens"));
    let many = json!({"target": "taming.modules.util.Labelator", "params": {"n_classes": 38}});
    assert!(open(many, 64, &|_, _| {}).contains("38 classes"));
    let error = open(classes(), 64, &|_, weights| {
        weights.remove("transformer.head.weight");
    });
    assert!(error.contains("transformer.head.weight"), "{error}");
    let error = open(classes(), 64, &|config, _| {
        config["model"]["params"]["first_stage_config"]["params"]["n_embed"] = json!(40)
    });
    assert!(error.contains("40"), "{error}");
}
