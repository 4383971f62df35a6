//! The noise levels of training: how much of the sample is left at each timestep.

use std::f64::consts::FRAC_PI_2;

use super::SchedulerError;
use super::settings::Settings;

/// Beta at most, where a formula would give more.
const MOST: f64 = 0.999;
/// What is left of the sample's variance at the last timestep where none is: small, so that the noise stays finite.
const ALMOST_NONE: f32 = 1.0 / (1 << 24) as f32;

/// For each timestep of training the product of `1 - beta` up to it: the share of the variance that is the sample's. In f32
/// with PyTorch's roundings.
///
/// `beta_schedule` is `linear`, `scaled_linear` (linear in the root) or `squaredcos_cap_v2` (Nichol and Dhariwal 2021,
/// <https://arxiv.org/abs/2102.09672>); `trained_betas` goes before it.
pub(super) fn alphas_cumprod(
    settings: Settings,
    start: f64,
    end: f64,
    schedule: &'static str,
) -> Result<Vec<f32>, SchedulerError> {
    let mut betas = betas(settings, start, end, schedule)?;
    if settings.flag("rescale_betas_zero_snr", false)? {
        rescale(&mut betas);
        // The last beta is 1 now.
        check(settings, betas.get(..betas.len() - 1).unwrap_or_default())?;
    }
    Ok(products(&betas))
}

/// The same for schedulers that know no `rescale_betas_zero_snr`.
pub(super) fn alphas_cumprod_as_trained(
    settings: Settings,
    start: f64,
    end: f64,
) -> Result<Vec<f32>, SchedulerError> {
    Ok(products(&betas(settings, start, end, "linear")?))
}

/// The same for schedulers that divide by the share of the sample and therefore leave a little of it.
pub(super) fn alphas_cumprod_above_zero(
    settings: Settings,
    start: f64,
    end: f64,
) -> Result<Vec<f32>, SchedulerError> {
    let mut products = alphas_cumprod(settings, start, end, "linear")?;
    if settings.flag("rescale_betas_zero_snr", false)?
        && let Some(last) = products.last_mut()
    {
        *last = ALMOST_NONE;
    }
    Ok(products)
}

fn betas(
    settings: Settings,
    start: f64,
    end: f64,
    schedule: &'static str,
) -> Result<Vec<f32>, SchedulerError> {
    let betas = formula(settings, start, end, schedule)?;
    check(settings, &betas)?;
    Ok(betas)
}

fn formula(
    settings: Settings,
    start: f64,
    end: f64,
    schedule: &'static str,
) -> Result<Vec<f32>, SchedulerError> {
    let training = settings.training()?;
    if let Some(trained) = settings.numbers("trained_betas")? {
        if trained.len() != training {
            let lengths = format!("of length {} for {training} timesteps", trained.len());
            return Err(settings.unsupported("trained_betas", lengths));
        }
        return Ok(trained.into_iter().map(|beta| beta as f32).collect());
    }
    let start = settings.number("beta_start", start)?;
    let end = settings.number("beta_end", end)?;
    match settings.str("beta_schedule", schedule)? {
        "linear" => Ok(linspace(start, end, training)),
        "scaled_linear" => {
            let roots = linspace(start.sqrt(), end.sqrt(), training);
            Ok(roots.into_iter().map(|root| root * root).collect())
        }
        "squaredcos_cap_v2" => {
            let left = |t: usize| {
                let along = (t as f64 / training as f64 + 0.008) / 1.008;
                (along * FRAC_PI_2).cos().powi(2)
            };
            Ok((0..training).map(|t| (1.0 - left(t + 1) / left(t)).min(MOST) as f32).collect())
        }
        other => Err(settings.unsupported("beta_schedule", other)),
    }
}

/// `torch.linspace` in f32, which counts from both ends.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count.max(2) - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 || count == 1 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((count - 1 - i) as f32, end)
            }
        })
        .collect()
}

/// Shifts and scales the betas so that nothing is left of the sample at the last timestep ("Common Diffusion Noise
/// Schedules and Sample Steps are Flawed", Lin et al. 2023, <https://arxiv.org/abs/2305.08891>, algorithm 1).
fn rescale(betas: &mut [f32]) {
    let mut roots: Vec<f32> = products(betas).into_iter().map(f32::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return };
    let scale = first / (first - last);
    for root in &mut roots {
        *root = (*root - last) * scale;
    }
    let mut before = 1.0;
    for (beta, root) in betas.iter_mut().zip(roots) {
        let left = root * root;
        *beta = 1.0 - left / before;
        before = left;
    }
}

/// Products of `1 - beta`; PyTorch multiplies in f64 and stores f32.
fn products(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0;
    betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect()
}

fn check(settings: Settings, betas: &[f32]) -> Result<(), SchedulerError> {
    match betas.iter().enumerate().find(|(_, beta)| !(0.0..1.0).contains(*beta)) {
        None => Ok(()),
        Some((timestep, &value)) => {
            Err(SchedulerError::Beta { class: settings.class.into(), timestep, value })
        }
    }
}
