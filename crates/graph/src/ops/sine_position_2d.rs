//! DETR's sine positions of the pixels of a masked image.

use kiln_shaders as shaders;

use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

/// Sines and cosines of each pixel's place among the unmasked ones (Carion et al. 2020): from a mask of shape
/// `[N, H, W]`, not zero where there is an image, to `[N, H, W, 2 features]`. The first `features` channels follow the
/// rows, the others the columns; channel `c` of a direction is `sin` for even `c`, `cos` for odd, of
/// `place / temperature^(2 floor(c / 2) / features)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SinePosition2d {
    /// Channels of one direction: an even number.
    pub features: usize,
    /// Ratio of the longest wave to the shortest.
    pub temperature: f32,
    /// Whether places are shares of the row or column, times `scale`.
    pub normalize: bool,
    /// Largest place where they are shares: 2 pi.
    pub scale: f32,
    /// The result's type.
    pub dtype: DType,
}

params! {
    struct SineParams { len: u32, height: u32, width: u32, features: u32, normalize: u32, scale: f32 }
}

impl SinePosition2d {
    /// DETR's own settings, for `features` channels a direction.
    pub fn detr(features: usize) -> Self {
        let scale = 2.0 * std::f32::consts::PI;
        Self { features, temperature: 10_000.0, normalize: true, scale, dtype: DType::F32 }
    }

    /// What places are divided by, in f32 as PyTorch has them.
    fn periods(&self) -> Vec<f32> {
        let exponent = |c: usize| (2 * (c / 2)) as f32 / self.features as f32;
        (0..self.features).map(|c| f64::from(self.temperature).powf(exponent(c).into()) as f32).collect()
    }
}

impl Op for SinePosition2d {
    fn name(&self) -> &'static str {
        "sine_position_2d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [mask] = inputs else { return Err(wrong("wants a mask")) };
        let [n, h, w] = mask.shape[..] else { return Err(wrong("wants a mask of shape [N, H, W]")) };
        if mask.dtype.is_float() {
            return Err(wrong("wants a mask of truth values or integers"));
        }
        if !self.features.is_multiple_of(2) || !self.dtype.is_float() {
            return Err(wrong("wants an even number of features of a floating-point type"));
        }
        Ok(vec![TensorDesc::new([n, h, w, 2 * self.features], self.dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc()])?.swap_remove(0);
        let &[n, h, w] = inputs[0].shape() else { return Ok(vec![Tensor::zeros(&out)]) };
        let mask: Vec<bool> = inputs[0].to_f64().into_iter().map(|v| v != 0.0).collect();
        let periods = self.periods();
        let place = |before: usize, all: usize| {
            let share = || before as f64 / (all as f64 + 1e-6) * f64::from(self.scale);
            if self.normalize { share() } else { before as f64 }
        };
        let mut values = Vec::with_capacity(out.len());
        for image in mask.chunks(h.max(1) * w.max(1)).take(n) {
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                let column = |rows: usize| (0..rows).filter(|y| image[y * w + x]).count();
                let row = |columns: usize| (0..columns).filter(|x| image[y * w + x]).count();
                for place in [place(column(y + 1), column(h)), place(row(x + 1), row(w))] {
                    values.extend(periods.iter().enumerate().map(|(c, &period)| {
                        let angle = place / f64::from(period);
                        if c.is_multiple_of(2) { angle.sin() } else { angle.cos() }
                    }));
                }
            }
        }
        Ok(vec![Tensor::from_f64(out.shape, out.dtype, &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        Independence::except(io, &[1, 2])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let out = &io.outputs[0];
        let params = SineParams {
            len: out.len() as u32,
            height: out.shape[1] as u32,
            width: out.shape[2] as u32,
            features: self.features as u32,
            normalize: self.normalize.into(),
            scale: self.scale,
            ..Default::default()
        };
        let workgroup = 64.min(tier.limits.max_invocations);
        let units = [units::out(out.dtype), shaders::GRID, shaders::TRIG, shaders::SINE_POSITION_2D];
        let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
        let dispatch = Dispatch::new(kernel, params, (out.len() as u64).div_ceil(workgroup.into()))
            .bind("mask", Source::Input(0))
            .bind("periods", Source::Table(0))
            .bind("y", Source::Output(0));
        let periods = bytemuck::cast_slice(&self.periods()).to_vec();
        Ok(vec![Launch { tables: vec![periods], ..Launch::one("elements", dispatch) }])
    }
}

impl Builder {
    /// DETR's sine positions of the pixels of a mask of shape `[N, H, W]`: `[N, H, W, 2 features]`.
    pub fn sine_position_2d(&mut self, mask: Value, op: SinePosition2d) -> Result<Value, GraphError> {
        self.op(op, &[mask])
    }
}

/// Cases: full and ragged masks, empty rows, plain counts.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (dtype, dtypes) in [(DType::F32, &[DType::F32][..]), (DType::F16, &[DType::F16])] {
        let case = |op: SinePosition2d, mask: Fill| {
            let mut case = Case::new(SinePosition2d { dtype, ..op }, [mask]);
            // The mask has no float type: the result's is the op's own.
            case.dtypes = dtypes;
            case
        };
        let ones = |shape: &[usize]| Fill::typed(DType::Bool, 1, 1).shape(shape);
        let ragged = |shape: &[usize]| Fill::typed(DType::Bool, 0, 1).shape(shape);
        let plain = SinePosition2d { normalize: false, ..SinePosition2d::detr(6) };
        cases.extend([
            case(SinePosition2d::detr(2), ones(&[1, 1, 1])),
            case(SinePosition2d::detr(16), ones(&[2, 5, 7])),
            case(SinePosition2d::detr(128), ones(&[1, 4, 6])),
            case(SinePosition2d::detr(10), ragged(&[2, 9, 11])),
            case(SinePosition2d::detr(4), Fill::typed(DType::Bool, 0, 0).shape([1, 3, 2])),
            case(plain, ragged(&[1, 33, 65])),
            case(plain, Fill::typed(DType::I32, -1, 1).shape([2, 3, 4])),
            case(SinePosition2d::detr(4), ones(&[0, 3, 2])),
        ]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_before_columns() {
        let op = SinePosition2d { normalize: false, ..SinePosition2d::detr(2) };
        let mask = Tensor::bool([1, 2, 2], vec![1, 1, 0, 1]).unwrap();
        let y = op.reference(&[&mask]).unwrap()[0].to_f64();
        let pair = |n: f64| [f64::from(n.sin() as f32), f64::from(n.cos() as f32)];
        // The masked pixel below the first: one above it, none to its left.
        assert_eq!(y[8..12], [pair(1.0), pair(0.0)].concat());
        assert_eq!(y[4..8], [pair(1.0), pair(2.0)].concat());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let op = SinePosition2d::detr(4);
        assert!(op.infer(&[TensorDesc::new([2, 3], DType::Bool)]).is_err());
        assert!(op.infer(&[TensorDesc::new([1, 2, 3], DType::F32)]).is_err());
        assert!(SinePosition2d::detr(3).infer(&[TensorDesc::new([1, 2, 3], DType::Bool)]).is_err());
    }
}
