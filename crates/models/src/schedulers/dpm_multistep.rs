//! DPM-Solver and DPM-Solver++ in several steps (Lu et al. 2022, <https://arxiv.org/abs/2206.00927> and
//! <https://arxiv.org/abs/2211.01095>), as an ordinary differential equation or with noise.

use super::betas::alphas_cumprod_above_zero;
use super::convert::{clean, noise};
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Curve, Last, Levels, rounded};
use super::spacing::Timesteps;
use super::{Method, Options, SchedulerError, Table};

/// Schedules shorter than this end with steps of lower order, where that is wanted.
const SHORT: usize = 15;

/// Which equation is solved: for the clean sample (`++`) or for the noise, and with or without fresh noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    PlusPlus,
    Plain,
    NoisyPlusPlus,
    NoisyPlain,
}

/// `DPMSolverMultistepScheduler`.
#[derive(Clone, Debug)]
pub(super) struct DpmMultistep {
    levels: Levels,
    timesteps: Timesteps,
    /// Timesteps of training whose noise is not above `lambda_min_clipped`.
    visible: usize,
    curve: Curve,
    /// Timesteps of a curve are rounded, else cut off.
    round: bool,
    last: Last,
    prediction: Prediction,
    algorithm: Algorithm,
    order: usize,
    heun: bool,
    lower_order_final: bool,
    euler_at_final: bool,
}

impl DpmMultistep {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        settings.refuse(&["thresholding", "use_flow_sigmas", "use_dynamic_shifting"])?;
        let variance = settings.str("variance_type", "")?;
        if !variance.is_empty() {
            return Err(settings.unsupported("variance_type", variance));
        }
        let algorithm = match settings.str("algorithm_type", "dpmsolver++")? {
            "dpmsolver++" | "deis" => Algorithm::PlusPlus,
            "dpmsolver" => Algorithm::Plain,
            "sde-dpmsolver++" => Algorithm::NoisyPlusPlus,
            "sde-dpmsolver" => Algorithm::NoisyPlain,
            other => return Err(settings.unsupported("algorithm_type", other)),
        };
        let last = Last::read(settings)?;
        if last == Last::Zero && matches!(algorithm, Algorithm::Plain | Algorithm::NoisyPlain) {
            return Err(settings.unsupported("final_sigmas_type", "zero without dpmsolver++"));
        }
        let order = settings.count("solver_order", 2)?;
        if !(1..=3).contains(&order) || (order == 3 && algorithm == Algorithm::NoisyPlain) {
            return Err(settings.unsupported("solver_order", order));
        }
        let heun = match settings.str("solver_type", "midpoint")? {
            "midpoint" | "logrho" | "bh1" | "bh2" => false,
            "heun" => true,
            other => return Err(settings.unsupported("solver_type", other)),
        };
        let alphas_cumprod = alphas_cumprod_above_zero(settings, 0.0001, 0.02)?;
        let lu = settings.flag("use_lu_lambdas", false)?;
        let curve = match Curve::read(settings)? {
            // Lu's steps are even in the logarithm, too.
            Curve::Training | Curve::Exponential if lu => Curve::Exponential,
            other => other,
        };
        let cosine = settings.str("beta_schedule", "linear")? == "squaredcos_cap_v2";
        let least = lambda_min(settings)?;
        Ok(Self {
            visible: alphas_cumprod.iter().filter(|&&alpha| lambda(alpha) >= least).count(),
            levels: Levels::new(&alphas_cumprod),
            timesteps: Timesteps::read(settings, "linspace")?,
            round: !cosine && (lu || curve == Curve::Karras),
            curve,
            last,
            prediction: settings.prediction(&Prediction::ALL)?,
            algorithm,
            order,
            heun,
            lower_order_final: settings.flag("lower_order_final", true)?,
            euler_at_final: settings.flag("euler_at_final", false)?,
        })
    }

    /// The order of an evaluation before which `count` were made.
    fn order(&self, index: usize, count: usize, evaluations: usize) -> usize {
        let short = self.lower_order_final && evaluations < SHORT;
        let lower_last = self.euler_at_final || short || self.last == Last::Zero;
        let most = match evaluations - index {
            1 if lower_last => 1,
            2 if short => 2,
            _ => 3,
        };
        self.order.min(count + 1).min(most)
    }

    fn step(&self, table: &Table, index: usize, count: usize) -> Step {
        let sigma = |back: usize| index.checked_sub(back).map_or(f64::NAN, |i| table.sigma(i));
        let (from, to) = (Level::new(sigma(0)), Level::new(table.sigma(index + 1)));
        let predicted = match self.algorithm {
            Algorithm::PlusPlus | Algorithm::NoisyPlusPlus => clean(self.prediction, from.alpha, from.sigma),
            Algorithm::Plain | Algorithm::NoisyPlain => noise(self.prediction, from.alpha, from.sigma),
        };
        let kept = |back: usize| Slot::Kept((count + self.order - back) % self.order);
        let difference =
            |back: usize, over: f64| Sum::of(kept(back), 1.0 / over).and(kept(back + 1), -1.0 / over);
        let h = to.lambda - from.lambda;
        let ratio = |back: usize| (Level::new(sigma(back)).lambda - Level::new(sigma(back + 1)).lambda) / h;
        let factors = self.factors(&from, &to, h);
        let own = Sum::of(Slot::Latents, factors.latents)
            .and(kept(0), factors.zeroth)
            .and(Slot::Noise, factors.noise);
        let latents = match self.order(index, count, table.timesteps.len()) {
            1 => own,
            2 => {
                let factor = if self.heun { factors.first } else { factors.zeroth / 2.0 };
                own.plus(factor, &difference(0, ratio(0)))
            }
            _ => {
                let (near, far) = (ratio(0), ratio(1));
                let (recent, earlier) = (difference(0, near), difference(1, far));
                let bend = recent.clone().plus(-1.0, &earlier).times(1.0 / (near + far));
                own.plus(factors.first, &recent).plus(factors.first * near + factors.second, &bend)
            }
        };
        let updates = vec![Update::new(kept(0), predicted), Update::new(Slot::Latents, latents)];
        Step { timestep: table.timesteps.get(index).copied().unwrap_or(f64::NAN), input_scale: 1.0, updates }
    }

    fn factors(&self, from: &Level, to: &Level, h: f64) -> Factors {
        let doubled = 2.0 * h;
        match self.algorithm {
            Algorithm::PlusPlus => Factors {
                latents: to.sigma / from.sigma,
                zeroth: -to.alpha * (-h).exp_m1(),
                first: to.alpha * ((-h).exp_m1() / h + 1.0),
                second: -to.alpha * (((-h).exp_m1() + h) / (h * h) - 0.5),
                noise: 0.0,
            },
            Algorithm::Plain => Factors {
                latents: to.alpha / from.alpha,
                zeroth: -to.sigma * h.exp_m1(),
                first: -to.sigma * (h.exp_m1() / h - 1.0),
                second: -to.sigma * ((h.exp_m1() - h) / (h * h) - 0.5),
                noise: 0.0,
            },
            Algorithm::NoisyPlusPlus => Factors {
                latents: to.sigma / from.sigma * (-h).exp(),
                zeroth: -to.alpha * (-doubled).exp_m1(),
                first: to.alpha * ((-doubled).exp_m1() / doubled + 1.0),
                second: to.alpha * ((-(-doubled).exp_m1() - doubled) / (doubled * doubled) - 0.5),
                noise: to.sigma * (-(-doubled).exp_m1()).sqrt(),
            },
            Algorithm::NoisyPlain => Factors {
                latents: to.alpha / from.alpha,
                zeroth: -2.0 * to.sigma * h.exp_m1(),
                first: -2.0 * to.sigma * (h.exp_m1() / h - 1.0),
                second: f64::NAN,
                noise: to.sigma * doubled.exp_m1().sqrt(),
            },
        }
    }
}

impl Method for DpmMultistep {
    fn table(&self, steps: usize) -> Table {
        let timesteps = self.timesteps.without_last(steps, self.visible);
        let (timesteps, mut sigmas) = self.levels.curved(self.curve, timesteps, steps, self.round);
        sigmas.push(if self.last == Last::Zero { 0.0 } else { self.levels.least() });
        Table { sigmas: sigmas.into_iter().map(rounded).collect(), ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        let evaluations = options.first..table.timesteps.len();
        evaluations.map(|index| self.step(table, index, index - options.first)).collect()
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        let level = Level::new(table.sigma(index));
        Sum::of(Slot::Latents, level.alpha).and(Slot::Noise, level.sigma)
    }
}

/// What the latents, the prediction, its first and second differences and fresh noise are multiplied by.
struct Factors {
    latents: f64,
    zeroth: f64,
    first: f64,
    second: f64,
    noise: f64,
}

/// A noise level as the factors of sample and noise, whose squares add up to 1, and the logarithm of their ratio.
pub(super) struct Level {
    pub alpha: f64,
    pub sigma: f64,
    pub lambda: f64,
}

impl Level {
    pub fn new(sigma: f64) -> Self {
        let alpha = super::sigmas::input_scale(sigma);
        Self { alpha, sigma: sigma * alpha, lambda: -sigma.ln() }
    }
}

fn lambda(alpha_cumprod: f32) -> f64 {
    f64::from(alpha_cumprod.sqrt().ln() - (1.0 - alpha_cumprod).sqrt().ln())
}

/// The least `lambda`, minus infinity where none is named.
fn lambda_min(settings: Settings) -> Result<f64, SchedulerError> {
    const KEY: &str = "lambda_min_clipped";
    if settings.json.get(KEY).and_then(serde_json::Value::as_str) == Some("-Infinity") {
        return Ok(f64::NEG_INFINITY);
    }
    settings.number(KEY, f64::NEG_INFINITY)
}
