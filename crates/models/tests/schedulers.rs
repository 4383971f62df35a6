//! Schedulers against diffusers': timesteps, noise levels and the latents after every step
//! (`tests/oracle/schedulers.py` writes them).

use kiln_models::schedulers::{Options, Schedule, Scheduler, Slot};
use serde_json::Value as Json;

const START: [f32; 3] = [-1.25, 0.5, 2.0];
/// Largest difference over the largest latent so far: diffusers computes in f32, and where a step takes most of a high
/// noise level away, what is left has the error of what was there.
const TOLERANCE: f64 = 1e-5;
/// Largest relative difference of noise levels. PyTorch's roots are off by a step of f32 here and there, which the least
/// levels of rescaled betas make sixty times as large.
const SIGMA: f64 = 5e-6;

/// The model: a recipe of sums, products and quotients, which the reference repeats.
fn model(input: f32, timestep: f64) -> f32 {
    input / (1.0 + input.abs()) * (0.5 + timestep / 2048.0) as f32
}

fn noise(evaluation: usize) -> [f32; 3] {
    std::array::from_fn(|i| (((37 * evaluation + 11 * i + 5) % 64) as f32 - 31.5) / 32.0)
}

fn numbers(value: &Json) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |most, value| f64::max(most, value.abs()))
}

/// The largest difference of any step of a run.
fn compare(name: &str, schedule: &Schedule, first: usize, run: &Json) -> f64 {
    let wanted = numbers(&run["timesteps"]);
    assert_eq!(schedule.timesteps.len(), wanted.len(), "{name}");
    let difference = largest(schedule.timesteps.iter().zip(&wanted).map(|(found, wanted)| found - wanted));
    assert!(difference < 1e-3, "{name}: timesteps {:?}", schedule.timesteps);
    let wanted = numbers(&run["sigmas"]);
    // Some classes keep those of training in this place although they do not use them.
    if !schedule.sigmas.is_empty() {
        for (i, (found, wanted)) in schedule.sigmas.iter().zip(&wanted).enumerate() {
            assert!(
                (found - wanted).abs() <= SIGMA * wanted,
                "{name}: sigma {i} is {found} instead of {wanted}"
            );
        }
        assert_eq!(schedule.sigmas.len(), wanted.len(), "{name}");
    }
    let initial = run["initial_sigma"].as_f64().unwrap();
    assert!((schedule.initial_sigma - initial).abs() <= 2e-6 * initial, "{name}: {}", schedule.initial_sigma);
    let mut latents = START.map(|v| v * schedule.initial_sigma as f32);
    if first > 0 {
        latents = [0.0; 3];
        for &(slot, factor) in schedule.noised[first].terms() {
            let from = if slot == Slot::Noise { noise(99) } else { START };
            latents.iter_mut().zip(from).for_each(|(sum, value)| *sum += factor as f32 * value);
        }
    }
    let mut walk = schedule.walk(latents.len());
    let (wanted, mut worst) = (numbers(&run["latents"]), 0.0);
    assert_eq!(schedule.steps.len() * latents.len(), wanted.len(), "{name}");
    let mut scale = 1.0;
    for (i, wanted) in wanted.chunks(latents.len()).enumerate() {
        scale = largest(latents.map(f64::from)).max(largest(wanted.iter().copied())).max(scale);
        let step = walk.next().unwrap();
        let output = latents.map(|v| model(v * step.input_scale as f32, step.timestep));
        walk.step(&output, Some(&noise(i)), &mut latents).unwrap();
        let difference =
            largest(latents.iter().zip(wanted).map(|(&v, wanted)| f64::from(v) - wanted)) / scale;
        assert!(difference < TOLERANCE, "{name}: {latents:?} instead of {wanted:?} after step {i}");
        worst = f64::max(worst, difference);
    }
    worst
}

/// Every configuration and number of steps of a class.
fn check(class: &str) {
    let path = format!("{}/../../tests/fixtures/schedulers/{class}.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut runs, mut worst) = (0, 0.0);
    for case in cases.as_array().unwrap() {
        let scheduler = Scheduler::from_json(&case["config"]).unwrap();
        let first = case["first"].as_u64().unwrap() as usize;
        let options = Options { eta: case["eta"].as_f64().unwrap(), first };
        for (steps, run) in case["runs"].as_object().unwrap() {
            let name = format!("{} with {options:?} in {steps} steps", case["config"]);
            let count = steps.parse().unwrap();
            match scheduler.set_timesteps_with(count, &options) {
                Ok(schedule) => worst = f64::max(worst, compare(&name, &schedule, first, run)),
                Err(error) => panic!("{name}: {error}"),
            }
            runs += 1;
        }
    }
    println!("{class}: {runs} runs, largest difference {worst:.1e}");
    assert!(runs > 0);
}

#[test]
fn ddim() {
    check("DDIMScheduler");
}

#[test]
fn pndm() {
    check("PNDMScheduler");
}

#[test]
fn euler() {
    check("EulerDiscreteScheduler");
}

#[test]
fn euler_ancestral() {
    check("EulerAncestralDiscreteScheduler");
}

#[test]
fn dpm_solver_multistep() {
    check("DPMSolverMultistepScheduler");
}

#[test]
fn heun() {
    check("HeunDiscreteScheduler");
}

#[test]
fn lms() {
    check("LMSDiscreteScheduler");
}

#[test]
fn ddpm() {
    check("DDPMScheduler");
}

#[test]
fn unipc() {
    check("UniPCMultistepScheduler");
}

#[test]
fn lcm() {
    check("LCMScheduler");
}

#[test]
fn dpm_solver_sde() {
    check("DPMSolverSDEScheduler");
}
