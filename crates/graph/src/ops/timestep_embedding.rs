//! Sinusoidal embeddings of diffusion time steps.

use kiln_shaders as shaders;

use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// Sines and cosines of time steps (Ho et al. 2020), as diffusers' `get_timestep_embedding`: from `t` of shape `[...]`,
/// floats or i32, to `[..., dim]`. Frequency `i` of `dim / 2` is `max_period^(-i / (dim / 2 - downscale_freq_shift))`;
/// an odd last column is zero. The result has `t`'s type where that is a float, else `dtype`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimestepEmbedding {
    /// Length of an embedding.
    pub dim: usize,
    /// Whether the cosines come before the sines.
    pub flip_sin_to_cos: bool,
    /// Stretches the frequencies: 0 in Stable Diffusion, 1 in DDPM.
    pub downscale_freq_shift: f32,
    /// Factor of the angles.
    pub scale: f32,
    /// Ratio of the longest period to the shortest.
    pub max_period: f32,
    /// The result's type where `t` is of integers.
    pub dtype: DType,
}

params! {
    struct TimestepParams { len: u32, dim: u32, flip: u32, scale: f32 }
}

impl TimestepEmbedding {
    /// Stable Diffusion's settings.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            flip_sin_to_cos: true,
            downscale_freq_shift: 0.0,
            scale: 1.0,
            max_period: 10_000.0,
            dtype: DType::F32,
        }
    }

    /// The frequencies, rounded to f32 step by step as PyTorch has them: at time step 1000 the last bit counts.
    fn frequencies(&self) -> Vec<f32> {
        let half = self.dim / 2;
        let factor = -f64::from(self.max_period).ln() as f32;
        let exponent = |i: usize| factor * i as f32 / (half as f32 - self.downscale_freq_shift);
        (0..half).map(|i| f64::from(exponent(i)).exp() as f32).collect()
    }
}

impl Op for TimestepEmbedding {
    fn name(&self) -> &'static str {
        "timestep_embedding"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [t] = inputs else { return Err(wrong("wants time steps")) };
        if !t.dtype.is_float() && t.dtype != DType::I32 {
            return Err(wrong("wants time steps of type f32, f16 or i32"));
        }
        if !self.dtype.is_float() {
            return Err(wrong("gives floating-point numbers"));
        }
        if self.dim >= 2 && (self.dim / 2) as f32 <= self.downscale_freq_shift {
            return Err(wrong("has too few frequencies to stretch them so far"));
        }
        let mut shape = t.shape.clone();
        shape.push(self.dim);
        Ok(vec![TensorDesc::new(shape, if t.dtype.is_float() { t.dtype } else { self.dtype })])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc()])?.swap_remove(0);
        let frequencies = self.frequencies();
        let mut values = Vec::with_capacity(out.len());
        for &t in inputs[0].to_f32().iter() {
            // Angles are f32, as in PyTorch.
            let angles = frequencies.iter().map(|&frequency| f64::from(self.scale * (t * frequency)));
            let (sines, cosines) = (angles.clone().map(f64::sin), angles.map(f64::cos));
            if self.flip_sin_to_cos {
                values.extend(cosines.chain(sines));
            } else {
                values.extend(sines.chain(cosines));
            }
            values.extend((self.dim % 2 == 1).then_some(0.0));
        }
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (t, out) = (&io.inputs[0], &io.outputs[0]);
        let params = TimestepParams {
            len: out.len() as u32,
            dim: self.dim as u32,
            flip: self.flip_sin_to_cos.into(),
            scale: self.scale,
            ..Default::default()
        };
        let workgroup = 64.min(tier.limits.max_invocations);
        let units = [
            units::elem(t.dtype),
            units::out(out.dtype),
            shaders::GRID,
            shaders::TRIG,
            shaders::TIMESTEP_EMBEDDING,
        ];
        let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
        let dispatch = Dispatch::new(kernel, params, (out.len() as u64).div_ceil(workgroup.into()))
            .bind("t", Source::Input(0))
            .bind("frequencies", Source::Table(0))
            .bind("y", Source::Output(0));
        let mut frequencies = self.frequencies();
        // A buffer has at least one element.
        frequencies.resize(frequencies.len().max(1), 0.0);
        let table = bytemuck::cast_slice(&frequencies).to_vec();
        Ok(vec![Launch { tables: vec![table], ..Launch::one("elements", dispatch) }])
    }
}

impl Builder {
    /// Embeddings of time steps `t` of shape `[...]`: `[..., dim]`.
    pub fn timestep_embedding(&mut self, t: Value, op: TimestepEmbedding) -> Result<Value, GraphError> {
        self.op(op, &[t])
    }
}

/// Cases: both orders, odd lengths, large and fractional steps, integers.
pub fn cases() -> Vec<Case> {
    let given = |dtype, values: &[f64]| Fill::given(dtype, values).shape([values.len()]);
    let steps = [0.0, 1.0, 17.0, 500.0, 999.0];
    let floats = || given(DType::F32, &steps);
    let new = TimestepEmbedding::new;
    let ddpm = TimestepEmbedding { flip_sin_to_cos: false, downscale_freq_shift: 1.0, ..new(32) };
    let scaled = TimestepEmbedding { scale: 4.0, max_period: 100.0, ..new(12) };
    let case = |op: TimestepEmbedding, t: Fill| Case::new(op, [t]);
    vec![
        case(new(320), floats()),
        case(ddpm, floats()),
        case(new(33), floats()),
        case(new(1), floats()),
        case(new(0), floats()),
        case(new(3), Fill::given(DType::F32, [981.0]).shape([])),
        case(scaled, given(DType::F32, &[-3.5, 0.25, 128.5, 2000.0])),
        case(new(64), Fill::uniform(0.0, 3.0).shape([2, 3])),
        case(new(32), given(DType::I32, &steps)).f32_only(),
        case(TimestepEmbedding { dtype: DType::F16, ..new(32) }, given(DType::I32, &steps)).f16_only(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_may_come_first_and_odd_columns_are_zero() {
        let t = Tensor::f32([1], vec![0.0]).unwrap();
        let values = |flip_sin_to_cos| {
            let op = TimestepEmbedding { flip_sin_to_cos, ..TimestepEmbedding::new(5) };
            op.reference(&[&t]).unwrap()[0].to_f64()
        };
        assert_eq!(values(true), [1., 1., 0., 0., 0.]);
        assert_eq!(values(false), [0., 0., 1., 1., 0.]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let t = |dtype| [TensorDesc::new([3], dtype)];
        assert!(TimestepEmbedding::new(8).infer(&t(DType::Bool)).is_err());
        let far = TimestepEmbedding { downscale_freq_shift: 1.0, ..TimestepEmbedding::new(2) };
        assert!(far.infer(&t(DType::F32)).is_err());
        let half = TimestepEmbedding { dtype: DType::F16, ..TimestepEmbedding::new(8) };
        assert_eq!(half.infer(&t(DType::I32)).unwrap()[0].dtype, DType::F16);
        assert_eq!(half.infer(&t(DType::F32)).unwrap()[0].dtype, DType::F32);
    }
}
