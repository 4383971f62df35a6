//! What is refused, and schedules without a reference.

use serde_json::json;

use super::*;

fn error(config: Json) -> String {
    Scheduler::from_json(&config).unwrap_err().to_string()
}

#[test]
fn what_is_not_supported_is_named() {
    assert!(error(json!({"_class_name": "EDMEulerScheduler"})).contains("\"EDMEulerScheduler\""));
    assert!(error(json!([])).contains("\"\" is not one"));
    let ddim = |key: &str, value: Json| error(json!({"_class_name": "DDIMScheduler", key: value}));
    assert_eq!(ddim("thresholding", json!(true)), "DDIMScheduler: thresholding true is not supported");
    assert!(ddim("beta_schedule", json!("sigmoid")).contains("beta_schedule sigmoid"));
    assert!(ddim("prediction_type", json!("flow_prediction")).contains("prediction_type flow_prediction"));
    assert!(ddim("timestep_spacing", json!("even")).contains("timestep_spacing even"));
    assert!(ddim("clip_sample_range", json!(-1.0)).contains("clip_sample_range -1"));
    assert!(ddim("clip_sample", json!(1)).contains("clip_sample is 1, not true or false"));
    assert!(ddim("num_train_timesteps", json!(0)).contains("num_train_timesteps 0"));
    assert!(ddim("num_train_timesteps", json!(1e9)).contains("not a count"));
    assert!(ddim("steps_offset", json!(-1)).contains("steps_offset is -1, not a count"));
    let euler = |key: &str, value: Json| error(json!({"_class_name": "EulerDiscreteScheduler", key: value}));
    assert!(euler("use_beta_sigmas", json!(true)).contains("use_beta_sigmas true"));
    assert!(euler("interpolation_type", json!("log_linear")).contains("interpolation_type log_linear"));
    assert!(euler("sigma_min", json!(0.0)).contains("sigma_min is 0.0, not a number above 0"));
}

#[test]
fn betas_that_are_no_shares_are_refused() {
    let betas = |value: Json| error(json!({"_class_name": "PNDMScheduler", "beta_end": value}));
    assert!(betas(json!(1.5)).contains("the beta of training timestep"));
    assert!(betas(json!("NaN")).contains("beta_end is \"NaN\", not a number"));
    assert!(betas(json!(1e300)).contains("is NaN") || betas(json!(1e300)).contains("is inf"));
    let trained = |betas: Json| {
        error(json!({"_class_name": "PNDMScheduler", "trained_betas": betas, "num_train_timesteps": 2}))
    };
    assert!(trained(json!([0.1, -0.1])).contains("timestep 1 is -0.1"));
    assert!(trained(json!([0.1])).contains("of length 1 for 2 timesteps"));
}

#[test]
fn numbers_of_steps_are_checked() {
    let scheduler = |config: Json| Scheduler::from_json(&config).unwrap();
    let ddim = scheduler(json!({"_class_name": "DDIMScheduler"}));
    let steps = |steps| ddim.set_timesteps(steps).unwrap_err().to_string();
    assert_eq!(steps(0), "DDIMScheduler takes from 1 to 1000 steps, not 0");
    assert_eq!(steps(1001), "DDIMScheduler takes from 1 to 1000 steps, not 1001");
    assert_eq!(ddim.set_timesteps(1000).unwrap().steps.len(), 1000);
    let start = ddim.set_timesteps_with(4, &Options { first: 4, eta: 0.0 }).unwrap_err().to_string();
    assert_eq!(start, "DDIMScheduler cannot start at evaluation 4 of 4");
    let offset = scheduler(json!({"_class_name": "DDIMScheduler", "steps_offset": 1}));
    assert!(offset.set_timesteps(1000).unwrap_err().to_string().contains("timestep 1000 is not below"));
    let runge_kutta = scheduler(json!({"_class_name": "PNDMScheduler"}));
    assert!(runge_kutta.set_timesteps(3).unwrap_err().to_string().contains("from 4 to 1000"));
}

#[test]
fn noise_cannot_be_predicted_where_nothing_is_left_of_the_sample() {
    let config = json!({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true,
        "timestep_spacing": "trailing"});
    let error = Scheduler::from_json(&config).unwrap().set_timesteps(4).unwrap_err();
    assert_eq!(error.to_string(), "DDIMScheduler has no finite step from timestep 999");
}

#[test]
fn a_file_as_python_writes_it() {
    let text = r#"{"_class_name": "DDIMScheduler", "lambda_min_clipped": -Infinity}"#;
    assert!(Scheduler::from_text(text).is_ok());
    assert!(matches!(Scheduler::from_text("{"), Err(SchedulerError::Json(_))));
}

#[test]
fn a_walk_takes_tensors_of_its_length_until_it_ends() {
    let config = json!({"_class_name": "EulerAncestralDiscreteScheduler"});
    let schedule = Scheduler::from_json(&config).unwrap().set_timesteps(2).unwrap();
    let mut walk = schedule.walk(2);
    let (mut latents, noise) = ([1.0, 2.0], [0.0; 2]);
    assert!(matches!(walk.step(&[0.0; 2], None, &mut latents), Err(SchedulerError::Noise(_))));
    let short = walk.step(&[0.0; 1], Some(&noise), &mut latents).unwrap_err();
    assert_eq!(short.to_string(), "the output has 1 elements, not 2");
    walk.step(&[0.0; 2], Some(&noise), &mut latents).unwrap();
    assert!(!walk.next().unwrap().needs_noise());
    walk.step(&[0.0; 2], None, &mut latents).unwrap();
    assert!(walk.next().is_none());
    assert_eq!(walk.step(&[0.0; 2], None, &mut latents), Err(SchedulerError::Ended));
}

#[test]
fn a_schedule_can_start_late() {
    let config = json!({"_class_name": "EulerDiscreteScheduler"});
    let scheduler = Scheduler::from_json(&config).unwrap();
    let whole = scheduler.set_timesteps(8).unwrap();
    let late = scheduler.set_timesteps_with(8, &Options { first: 5, ..Options::default() }).unwrap();
    assert_eq!(late.steps, whole.steps[5..]);
    assert_eq!(late.noised[5].terms()[1], (Slot::Noise, whole.sigmas[5]));
}

#[test]
fn strange_settings_give_a_schedule_or_an_error() {
    let classes =
        ["DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"];
    let solvers = ["DPMSolverMultistep", "DPMSolverSDE", "UniPCMultistep", "LCM"];
    let strange = [
        json!({"num_train_timesteps": 1}),
        json!({"num_train_timesteps": 1, "rescale_betas_zero_snr": true}),
        json!({"num_train_timesteps": 3, "trained_betas": [0.0, 0.0, 0.0], "original_inference_steps": 2}),
        json!({"num_train_timesteps": 3, "trained_betas": [0.9999999, 0.9999999, 0.9999999]}),
        json!({"beta_start": 0.99, "beta_end": 0.999}),
        json!({"steps_offset": 5000, "timestep_spacing": "leading"}),
        json!({"lambda_min_clipped": 100.0}),
        json!({"lambda_min_clipped": 100.0, "timestep_spacing": "trailing"}),
        json!({"use_karras_sigmas": true, "sigma_min": 1e-300, "sigma_max": 1e300}),
        json!({"solver_order": 3, "lower_order_final": false, "timestep_scaling": 0.0}),
    ];
    for class in classes.iter().chain(&solvers).map(|name| format!("{name}Scheduler")) {
        for config in &strange {
            let Ok(scheduler) = Scheduler::from_json_as(&class, config) else { continue };
            for steps in [0, 1, 2, 3, 50, 999, 1000] {
                let options = Options { first: steps / 2, eta: 0.5 };
                let Ok(schedule) = scheduler.set_timesteps_with(steps, &options) else { continue };
                let finite = |sum: &Sum| sum.terms().iter().all(|(_, factor)| factor.is_finite());
                assert!(schedule.steps.iter().flat_map(|step| &step.updates).all(|u| finite(&u.sum)));
            }
        }
    }
}
