//! "UniPC: A Unified Predictor-Corrector Framework" (Zhao et al. 2023, <https://arxiv.org/abs/2302.04867>): each output of
//! the model corrects the step that led to it and predicts the next.

use super::betas::alphas_cumprod_above_zero;
use super::convert::{clean, noise};
use super::dpm_multistep::Level;
use super::plan::{Slot, Step, Sum, Update};
use super::settings::{Prediction, Settings};
use super::sigmas::{Curve, Last, Levels, rounded};
use super::spacing::Timesteps;
use super::{Method, Options, SchedulerError, Table};

/// Highest order of the method here.
const MOST: usize = 4;

/// `UniPCMultistepScheduler`.
#[derive(Clone, Debug)]
pub(super) struct UniPc {
    levels: Levels,
    timesteps: Timesteps,
    curve: Curve,
    last: Last,
    prediction: Prediction,
    /// The equation is that of the clean sample, not of the noise.
    clean: bool,
    order: usize,
    /// B(h) is h, else exp(h) - 1.
    linear: bool,
    lower_order_final: bool,
    /// Steps that are not corrected.
    uncorrected: Vec<usize>,
}

impl UniPc {
    pub fn read(settings: Settings) -> Result<Self, SchedulerError> {
        settings.refuse(&["thresholding", "use_flow_sigmas", "use_dynamic_shifting"])?;
        if settings.json.get("solver_p").is_some_and(|solver| !solver.is_null()) {
            return Err(settings.unsupported("solver_p", "another scheduler"));
        }
        let order = settings.count("solver_order", 2)?;
        if !(1..=MOST).contains(&order) {
            return Err(settings.unsupported("solver_order", order));
        }
        let linear = match settings.str("solver_type", "bh2")? {
            "bh1" => true,
            "bh2" | "midpoint" | "heun" | "logrho" => false,
            other => return Err(settings.unsupported("solver_type", other)),
        };
        Ok(Self {
            levels: Levels::new(&alphas_cumprod_above_zero(settings, 0.0001, 0.02)?),
            timesteps: Timesteps::read(settings, "linspace")?,
            curve: Curve::read(settings)?,
            last: Last::read(settings)?,
            prediction: settings.prediction(&Prediction::ALL)?,
            clean: settings.flag("predict_x0", true)?,
            order,
            linear,
            lower_order_final: settings.flag("lower_order_final", true)?,
            uncorrected: settings.counts("disable_corrector")?,
        })
    }

    /// The order of the step that follows an evaluation.
    fn order(&self, index: usize, count: usize, evaluations: usize) -> usize {
        let left = if self.lower_order_final { evaluations - index } else { self.order };
        self.order.min(left).min(count + 1)
    }

    fn step(&self, table: &Table, index: usize, first: usize) -> Step {
        let (count, evaluations) = (index - first, table.timesteps.len());
        // Predictions from this one back take turns; behind them is the sample that the last step started from.
        let turns = self.order + 1;
        let kept = |back: usize| Slot::Kept((count + turns - back) % turns);
        let start = Slot::Kept(turns);
        let level = Level::new(table.sigma(index));
        let convert = if self.clean { clean } else { noise };
        let mut updates = vec![Update::new(kept(0), convert(self.prediction, level.alpha, level.sigma))];
        if count > 0 && !self.uncorrected.contains(&(index - 1)) {
            let order = self.order(index - 1, count - 1, evaluations);
            let earlier: Vec<Slot> = (1..=order).map(kept).collect();
            updates
                .push(Update::new(Slot::Latents, self.sum(table, index - 1, start, &earlier, Some(kept(0)))));
        }
        updates.push(Update::new(start, Sum::of(Slot::Latents, 1.0)));
        let order = self.order(index, count, evaluations);
        let own: Vec<Slot> = (0..order).map(kept).collect();
        updates.push(Update::new(Slot::Latents, self.sum(table, index, Slot::Latents, &own, None)));
        Step { timestep: table.timesteps.get(index).copied().unwrap_or(f64::NAN), input_scale: 1.0, updates }
    }

    /// The step from an evaluation's level to the next, from `start`, with the predictions from that evaluation back and,
    /// in the corrector, that of its end.
    fn sum(&self, table: &Table, index: usize, start: Slot, predictions: &[Slot], end: Option<Slot>) -> Sum {
        let (from, to) = (Level::new(table.sigma(index)), Level::new(table.sigma(index + 1)));
        let h = to.lambda - from.lambda;
        let (own, keep, signed) = if self.clean {
            (to.alpha, to.sigma / from.sigma, -h)
        } else {
            (to.sigma, to.alpha / from.alpha, h)
        };
        let Some((&newest, older)) = predictions.split_first() else { return Sum::default() };
        let growth = signed.exp_m1();
        let scale = if self.linear { signed } else { growth };
        let sum = Sum::of(start, keep).and(newest, -own * growth);
        let ratios: Vec<f64> = (1..=older.len())
            .map(|back| {
                let sigma = index.checked_sub(back).map_or(f64::NAN, |i| table.sigma(i));
                (Level::new(sigma).lambda - from.lambda) / h
            })
            .collect();
        let weights = weights(&ratios, signed, scale, end.is_some());
        let others = older.iter().copied().zip(ratios).chain(end.map(|slot| (slot, 1.0)));
        others.zip(weights).fold(sum, |sum, ((slot, ratio), weight)| {
            let factor = -own * scale * weight / ratio;
            sum.and(slot, factor).and(newest, -factor)
        })
    }
}

impl Method for UniPc {
    fn table(&self, steps: usize) -> Table {
        let timesteps = self.timesteps.without_last(steps, self.timesteps.training);
        let round = self.curve == Curve::Karras;
        let (timesteps, mut sigmas) = self.levels.curved(self.curve, timesteps, steps, round);
        sigmas.push(match (self.last, self.curve) {
            (Last::Zero, _) => 0.0,
            (Last::Least, Curve::Training) => self.levels.least(),
            (Last::Least, _) => sigmas.last().copied().unwrap_or(0.0),
        });
        Table { sigmas: sigmas.into_iter().map(rounded).collect(), ..Table::plain(timesteps) }
    }

    fn steps(&self, table: &Table, options: &Options) -> Vec<Step> {
        (options.first..table.timesteps.len()).map(|index| self.step(table, index, options.first)).collect()
    }

    fn noised(&self, table: &Table, index: usize) -> Sum {
        let level = Level::new(table.sigma(index));
        Sum::of(Slot::Latents, level.alpha).and(Slot::Noise, level.sigma)
    }
}

/// What the differences of the predictions are multiplied by: the solution of the paper's equation (5), in the corrector
/// with one more row. The two lowest orders have an accepted approximation instead.
fn weights(ratios: &[f64], h: f64, scale: f64, corrector: bool) -> Vec<f64> {
    let rows = ratios.len() + usize::from(corrector);
    if rows == 1 {
        return vec![0.5];
    }
    let ends = corrector.then_some(1.0);
    let (mut phi, mut factorial) = (h.exp_m1() / h - 1.0, 1.0);
    let mut equations = Vec::new();
    for power in 0..rows {
        let mut row: Vec<f64> = ratios.iter().copied().chain(ends).map(|r| r.powi(power as i32)).collect();
        row.push(phi * factorial / scale);
        equations.push(row);
        factorial *= (power + 2) as f64;
        phi = phi / h - 1.0 / factorial;
    }
    solve(equations)
}

/// The solution of linear equations, each a row of coefficients and the right side, by elimination.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let count = rows.len();
    for column in 0..count {
        let best = (column..count).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()));
        rows.swap(column, best.unwrap_or(column));
        let pivot = rows[column].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            if i != column {
                let factor = row[column] / pivot[column];
                row.iter_mut().zip(&pivot).for_each(|(value, from)| *value -= factor * from);
            }
        }
    }
    rows.iter().enumerate().map(|(i, row)| row[count] / row[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved_also_where_the_first_coefficient_is_zero() {
        let found = solve(vec![vec![0.0, 2.0, 4.0], vec![1.0, 1.0, 5.0]]);
        assert_eq!(found, [3.0, 2.0]);
    }
}
