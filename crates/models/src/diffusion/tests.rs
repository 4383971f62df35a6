use std::collections::HashMap;
use std::sync::Arc;

use kiln_graph::Interpreter;
use kiln_graph::random::SplitMix64;
use serde_json::json;

use super::*;
use crate::Taps;
use crate::schedulers::{Options, Scheduler, Slot};
use crate::unet;

const SIZE: [usize; 2] = [4, 4];
const TOKENS: usize = 3;
const WIDTH: usize = 6;

/// A UNet of so many channels in, with its weights.
fn tiny(in_channels: usize) -> (UNet, HashMap<String, Tensor>) {
    let json = json!({
        "_class_name": "UNet2DConditionModel", "block_out_channels": [4, 8], "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "in_channels": in_channels, "out_channels": 2,
        "attention_head_dim": 2, "cross_attention_dim": WIDTH, "norm_num_groups": 2,
    });
    let config = unet::Config::from_json(&json).unwrap();
    let weights: HashMap<String, Tensor> = unet::tests::weights(&config);
    (UNet::new(config, &weights).unwrap(), weights)
}

fn numbers(name: &str, shape: &[usize]) -> Tensor {
    let random = SplitMix64::named(name);
    let len: usize = shape.iter().product();
    Tensor::f32(shape, (0..len).map(|i| random.affine(i as u64, 1.0, 0.0)).collect()).unwrap()
}

/// What the UNet makes of latents with a prompt, all of it computed anew.
fn output(
    unet: &UNet,
    weights: &HashMap<String, Tensor>,
    sample: Tensor,
    timestep: f64,
    prompt: &Tensor,
) -> Vec<f32> {
    let batch = sample.shape()[0];
    let graph = unet.graph(unet::Shape { batch, size: SIZE, tokens: TOKENS }, &Taps::none()).unwrap();
    let timestep = Tensor::f32([batch], vec![timestep as f32; batch]).unwrap();
    let inputs = [("sample", sample), ("timestep", timestep), ("encoder_hidden_states", prompt.clone())];
    Interpreter::new(graph, weights).unwrap().run(&inputs).unwrap().remove(0).to_f32().into_owned()
}

/// The latents behind every step, by a loop over the schedule as diffusers' pipelines have it.
fn plain(
    unet: &UNet,
    weights: &HashMap<String, Tensor>,
    sampling: &Sampling,
    noise: &[f32],
) -> Vec<Vec<f32>> {
    let shape = sampling.latents.shape().to_vec();
    let mut latents = sampling.latents.to_f32().into_owned();
    let mut walk = sampling.schedule.walk(latents.len());
    let mut seen = Vec::new();
    while let Some(step) = walk.next() {
        let scaled: Vec<f32> = latents.iter().map(|v| v * step.input_scale as f32).collect();
        let sample = match &sampling.condition {
            None => Tensor::f32(shape.clone(), scaled).unwrap(),
            Some(more) => {
                let width = more.desc().last();
                let more = more.to_f32();
                let pixels = scaled.chunks(2).zip(more.chunks(width));
                let data = pixels.flat_map(|(a, b)| [a, b].concat()).collect();
                Tensor::f32([shape[0], shape[1], shape[2], 2 + width], data).unwrap()
            }
        };
        let mut model = output(unet, weights, sample.clone(), step.timestep, &sampling.prompt);
        if let Some(guidance) = &sampling.guidance {
            let negative = output(unet, weights, sample, step.timestep, &guidance.negative);
            let each = model.len() / shape[0];
            for (positive, negative) in model.chunks_mut(each).zip(negative.chunks(each)) {
                let mixed: Vec<f32> =
                    positive.iter().zip(negative).map(|(p, n)| n + guidance.scale * (p - n)).collect();
                let factor = deviation(positive) / deviation(&mixed);
                let factor = guidance.rescale * factor + 1.0 - guidance.rescale;
                positive.iter_mut().zip(mixed).for_each(|(to, value)| *to = value * factor);
            }
        }
        walk.step(&model, Some(noise), &mut latents).unwrap();
        if let Some(mask) = &sampling.mask {
            let first = sampling.schedule.timesteps.len() - sampling.schedule.steps.len();
            let next = sampling.schedule.noised.get(first + seen.len() + 1);
            let (clean, start, open) = (mask.clean.to_f32(), mask.noise.to_f32(), mask.mask.to_f32());
            for (i, value) in latents.iter_mut().enumerate() {
                let known = match next {
                    None => clean[i],
                    Some(sum) => sum
                        .terms()
                        .iter()
                        .map(|&(slot, f)| f as f32 * if slot == Slot::Noise { start[i] } else { clean[i] })
                        .sum(),
                };
                *value = (1.0 - open[i]) * known + open[i] * *value;
            }
        }
        seen.push(latents.clone());
    }
    seen
}

fn deviation(values: &[f32]) -> f32 {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / (values.len() - 1) as f32).sqrt()
}

/// Keeps the latents of every step; breaks behind the last that it wants to see.
struct All(Vec<Vec<f32>>, usize);

impl Watch for All {
    fn wants(&self, _: usize) -> bool {
        true
    }

    fn see(&mut self, progress: Progress) -> ControlFlow<()> {
        assert_eq!(progress.step, self.0.len());
        self.0.push(progress.latents.unwrap().to_f32().into_owned());
        if self.0.len() == self.1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn agrees(
    in_channels: usize,
    change: impl FnOnce(&mut Sampling),
    scheduler: serde_json::Value,
    first: usize,
) {
    let (unet, weights) = tiny(in_channels);
    let options = Options { first, eta: 0.5 };
    let schedule = Scheduler::from_json(&scheduler).unwrap().set_timesteps_with(4, &options).unwrap();
    let shape = [2, SIZE[0], SIZE[1], 2];
    let mut sampling = Sampling {
        schedule: &schedule,
        latents: numbers("latents", &shape),
        prompt: numbers("prompt", &[2, TOKENS, WIDTH]),
        guidance: None,
        condition: None,
        mask: None,
        embedded_guidance: None,
    };
    change(&mut sampling);
    let noise = numbers("noise", &shape).to_f32().into_owned();
    let wanted = plain(&unet, &weights, &sampling, &noise);
    let mut sampler = Sampler::new(Device::Cpu, unet, Arc::new(weights), Precision::F32).unwrap();
    let mut all = All(Vec::new(), usize::MAX);
    let last = pollster::block_on(sampler.sample(&sampling, &mut || Ok(numbers("noise", &shape)), &mut all))
        .unwrap();
    assert_eq!(all.0.len(), wanted.len());
    assert_eq!(last.shape(), shape);
    assert_eq!(all.0.last().map(Vec::as_slice), Some(&*last.to_f32()));
    for (step, (ours, theirs)) in all.0.iter().zip(&wanted).enumerate() {
        let largest = theirs.iter().fold(1.0_f32, |a, b| a.max(b.abs()));
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() <= 2e-5 * largest, "step {step}: {a} instead of {b} of {scheduler}");
        }
    }
}

fn guided(rescale: f32) -> impl FnOnce(&mut Sampling) {
    move |sampling| {
        let negative = numbers("negative", &[2, TOKENS, WIDTH]);
        sampling.guidance = Some(Guidance { negative, scale: 5.0, rescale });
    }
}

#[test]
fn every_kind_of_schedule_is_carried_out() {
    for class in
        ["DDIMScheduler", "PNDMScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler", "LCMScheduler"]
    {
        agrees(2, |_| {}, json!({"_class_name": class, "beta_schedule": "scaled_linear"}), 0);
    }
}

#[test]
fn prompts_lead_away_from_negative_ones() {
    let euler = json!({"_class_name": "EulerAncestralDiscreteScheduler", "beta_schedule": "scaled_linear"});
    agrees(2, guided(0.0), euler.clone(), 0);
    agrees(2, guided(0.7), euler, 0);
}

#[test]
fn a_part_of_a_picture_stays() {
    let mask = |sampling: &mut Sampling| {
        let shape = sampling.latents.shape().to_vec();
        let open = numbers("mask", &shape).to_f32().iter().map(|v| f32::from(u8::from(*v > 0.0))).collect();
        let mask = Tensor::f32(shape.clone(), open).unwrap();
        sampling.mask = Some(Mask { clean: numbers("clean", &shape), noise: numbers("first", &shape), mask });
    };
    for class in ["DDIMScheduler", "DPMSolverMultistepScheduler"] {
        agrees(2, mask, json!({"_class_name": class, "beta_schedule": "scaled_linear"}), 1);
    }
}

#[test]
fn a_condition_goes_with_the_latents() {
    let condition = |sampling: &mut Sampling| {
        sampling.condition = Some(numbers("condition", &[2, SIZE[0], SIZE[1], 3]));
    };
    agrees(5, condition, json!({"_class_name": "EulerDiscreteScheduler"}), 0);
}

#[test]
fn what_does_not_fit_is_refused_and_a_break_ends_it() {
    let (unet, weights) = tiny(2);
    let schedule =
        Scheduler::from_json(&json!({"_class_name": "DDIMScheduler"})).unwrap().set_timesteps(3).unwrap();
    let mut sampler = Sampler::new(Device::Cpu, unet, Arc::new(weights), Precision::F32).unwrap();
    let fine = Sampling {
        schedule: &schedule,
        latents: numbers("latents", &[1, 4, 4, 2]),
        prompt: numbers("prompt", &[1, TOKENS, WIDTH]),
        guidance: None,
        condition: None,
        mask: None,
        embedded_guidance: None,
    };
    let mut refused = |sampling: &Sampling, reason: &str| {
        let error =
            pollster::block_on(sampler.sample(sampling, &mut || unreachable!(), &mut ())).unwrap_err();
        assert!(error.to_string().contains(reason), "{error} does not say {reason:?}");
    };
    refused(&Sampling { latents: numbers("latents", &[1, 4, 4, 3]), ..fine.clone() }, "3 channels");
    refused(&Sampling { prompt: numbers("prompt", &[2, TOKENS, WIDTH]), ..fine.clone() }, "2 prompts for 1");
    refused(
        &Sampling { prompt: numbers("prompt", &[1, TOKENS, 5]), ..fine.clone() },
        "encoder_hidden_states",
    );
    refused(&Sampling { condition: Some(numbers("c", &[1, 4, 4, 1])), ..fine.clone() }, "0 channels besides");
    let negative = numbers("negative", &[1, 2, WIDTH]);
    let guidance = Some(Guidance { negative, scale: 2.0, rescale: 0.0 });
    refused(&Sampling { guidance, ..fine.clone() }, "negative prompts");
    let guidance = Some(Guidance { negative: fine.prompt.clone(), scale: f32::NAN, rescale: 0.0 });
    refused(&Sampling { guidance, ..fine.clone() }, "NaN");
    let mut all = All(Vec::new(), 2);
    let ended = pollster::block_on(sampler.sample(&fine, &mut || unreachable!(), &mut all)).unwrap_err();
    assert!(matches!(ended, Error::Engine(kiln_engine::Error::Cancelled)));
    assert_eq!(all.0.len(), 2);
}

#[test]
fn what_was_cut_short_goes_on_as_if_nothing_had_been() {
    let (unet, weights) = tiny(2);
    let weights = Arc::new(weights);
    for class in ["EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler"] {
        let schedule =
            Scheduler::from_json(&json!({"_class_name": class})).unwrap().set_timesteps(5).unwrap();
        let shape = [1, SIZE[0], SIZE[1], 2];
        let sampling = Sampling {
            schedule: &schedule,
            latents: numbers("latents", &shape),
            prompt: numbers("prompt", &[1, TOKENS, WIDTH]),
            guidance: None,
            condition: None,
            mask: None,
            embedded_guidance: None,
        };
        let new = || Sampler::new(Device::Cpu, unet.clone(), weights.clone(), Precision::F32).unwrap();
        let draws = || {
            let mut number = 0;
            move || {
                number += 1;
                Ok(numbers(&format!("noise {number}"), &shape))
            }
        };
        let mut whole = All(Vec::new(), usize::MAX);
        let wanted = pollster::block_on(new().sample(&sampling, &mut draws(), &mut whole)).unwrap();
        let (mut cut, mut sampler) = (All(Vec::new(), 3), new());
        pollster::block_on(sampler.sample(&sampling, &mut draws(), &mut cut)).unwrap_err();
        let checkpoint = sampler.checkpoint().cloned().unwrap();
        assert_eq!(checkpoint.steps(), 3);
        // By another sampler, as behind the loss of a device.
        let mut sampler = new();
        let mut resume = |sampling: &Sampling, checkpoint: Option<Checkpoint>, watch: &mut dyn Watch| {
            let resumed = pollster::block_on(sampler.resume(sampling, checkpoint, &mut draws(), watch));
            resumed.map(|latents| (latents.to_f32().into_owned(), sampler.checkpoint().cloned()))
        };
        let other = Sampling { latents: numbers("latents", &[2, 4, 4, 2]), ..sampling.clone() };
        let other = Sampling { prompt: numbers("prompt", &[2, TOKENS, WIDTH]), ..other };
        let refused = resume(&other, Some(checkpoint.clone()), &mut ()).unwrap_err();
        assert!(refused.to_string().contains("another sampling"), "{refused}");
        let (latents, done) = resume(&sampling, Some(checkpoint), &mut cut).unwrap();
        assert_eq!(*latents, *wanted.to_f32());
        assert_eq!(cut.0, whole.0);
        // Where nothing is left to do, nothing is done.
        let (latents, _) = resume(&sampling, done, &mut ()).unwrap();
        assert_eq!(*latents, *wanted.to_f32());
    }
}
