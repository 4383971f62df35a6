//! Mamba's selective state-space scan.

use kiln_shaders::{self as shaders, Unit};

use crate::ops::{Unary, cast, units};
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// The selective scan of Mamba (Gu and Dao 2023): for each channel, with `h = 0` before the first step,
/// `h = exp(delta A) h + delta B u` and `y = C h + D u`.
///
/// Inputs are `u` and `delta`, `[batch, length, channels]`; `A`, `[channels, states]`; `B` and `C`,
/// `[batch, length, states]`; and, with `skip`, `D`, `[channels]`. With `channels_first`, the length is the last axis of
/// `u`, `delta`, `B` and `C`, as in the paper's own code. Outputs are `y`, of `u`'s shape, and the last state,
/// `[batch, channels, states]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectiveScan {
    /// Whether the length is the last axis.
    pub channels_first: bool,
    /// Whether `delta` goes through softplus first.
    pub delta_softplus: bool,
    /// Whether there is a `D`.
    pub skip: bool,
}

/// States that a channel may have: a kernel keeps them in registers.
const MAX_STATES: usize = 256;

struct Extents {
    batch: usize,
    channels: usize,
    len: usize,
    states: usize,
}

params! {
    struct ScanParams {
        lines: u32, channels: u32, len: u32, channel_stride: u32, step_stride: u32, state_stride: u32,
        state_step_stride: u32, first_step: u32, end_step: u32,
    }
}

impl SelectiveScan {
    fn extents(&self, inputs: &[TensorDesc]) -> Result<Extents, OpError> {
        let wrong = |reason: &str| OpError::new("selective_scan", inputs, reason);
        let (Some(u), Some(a)) = (inputs.first(), inputs.get(2)) else {
            return Err(wrong("wants u, delta, A, B, C and D if any"));
        };
        let ([batch, p, q], [_, states]) = (&u.shape[..], &a.shape[..]) else {
            return Err(wrong("wants u of three axes and A of two"));
        };
        let (batch, states) = (*batch, *states);
        let (channels, len) = if self.channels_first { (*p, *q) } else { (*q, *p) };
        let sequence = |n| if self.channels_first { vec![batch, n, len] } else { vec![batch, len, n] };
        let mut wanted = vec![
            sequence(channels),
            sequence(channels),
            vec![channels, states],
            sequence(states),
            sequence(states),
        ];
        wanted.extend(self.skip.then(|| vec![channels]));
        let dtype = u.dtype;
        if !dtype.is_float() || inputs.iter().any(|x| x.dtype != dtype) {
            return Err(wrong("wants inputs of one floating-point type"));
        }
        if !inputs.iter().map(|x| &x.shape).eq(&wanted) {
            return Err(wrong("wants u, delta, A, B, C and D if any of shapes that agree"));
        }
        if states == 0 || states > MAX_STATES {
            return Err(wrong("takes 1 to 256 states"));
        }
        Ok(Extents { batch, channels, len, states })
    }

    /// Elements between neighbouring channels (or states) and between neighbouring steps.
    fn strides(&self, channels: usize, len: usize) -> [usize; 2] {
        if self.channels_first { [len, 1] } else { [1, channels] }
    }
}

impl Op for SelectiveScan {
    fn name(&self) -> &'static str {
        "selective_scan"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let e = self.extents(inputs)?;
        Ok(vec![inputs[0].clone(), TensorDesc::new([e.batch, e.channels, e.states], inputs[0].dtype)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let descs: Vec<TensorDesc> = inputs.iter().map(|x| x.desc()).collect();
        let (e, out) = (self.extents(&descs)?, self.infer(&descs)?);
        let values: Vec<Vec<f64>> = inputs.iter().map(|x| x.to_f64()).collect();
        let [u, delta, a, b, c, ..] = &values[..] else { return Ok(Vec::new()) };
        let skip = values.get(5);
        let [channel_stride, step_stride] = self.strides(e.channels, e.len);
        let [state_stride, state_step] = self.strides(e.states, e.len);
        let mut y = vec![0.0; out[0].len()];
        let mut last = Vec::with_capacity(out[1].len());
        for line in 0..e.batch * e.channels {
            let (batch, channel) = (line / e.channels, line % e.channels);
            let mut h = vec![0.0; e.states];
            for step in 0..e.len {
                let i = batch * e.channels * e.len + channel * channel_stride + step * step_stride;
                let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
                let time = if self.delta_softplus { softplus(delta[i]) } else { delta[i] };
                let mut sum = skip.map_or(0.0, |skip| skip[channel] * u[i]);
                for (n, h) in h.iter_mut().enumerate() {
                    let j = batch * e.states * e.len + n * state_stride + step * state_step;
                    *h = (time * a[channel * e.states + n]).exp() * *h + time * b[j] * u[i];
                    sum += c[j] * *h;
                }
                y[i] = sum;
            }
            last.extend(h);
        }
        let tensor =
            |desc: &TensorDesc, values: &[f64]| Tensor::from_f64(desc.shape.clone(), desc.dtype, values);
        Ok(vec![tensor(&out[0], &y)?, tensor(&out[1], &last)?])
    }

    fn independence(&self, _: &Io) -> Independence {
        let own = Some(if self.channels_first { 1 } else { 2 });
        let first = Some(0);
        Independence::Axes(vec![
            Along::new([first, first, None, first, first], [first, first]),
            Along::new([own, own, first, None, None, first], [own, Some(1)]),
        ])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let own = if self.skip { 6 } else { 5 };
        let e = self.extents(&io.inputs[..own])?;
        let lines = e.batch * e.channels;
        let [channel_stride, step_stride] = self.strides(e.channels, e.len);
        let [state_stride, state_step_stride] = self.strides(e.states, e.len);
        let params = ScanParams {
            lines: lines as u32,
            channels: e.channels as u32,
            len: e.len as u32,
            channel_stride: channel_stride as u32,
            step_stride: step_stride as u32,
            state_stride: state_stride as u32,
            state_step_stride: state_step_stride as u32,
            ..Default::default()
        };
        // Few channels spread over more cores in small workgroups.
        let workgroup = if tier.software { 8 } else { 32.min(tier.limits.max_invocations) };
        let dtype = io.inputs[0].dtype;
        // A step loops over the states.
        let stretch = units::MAX_LOOP_ITERATIONS / (1 + e.states);
        // Between dispatches states stay as exact as within one.
        let carried = e.len > stretch && dtype != DType::F32;
        let (state, state_type) =
            if carried { (Source::Scratch(0), DType::F32) } else { (Source::Output(1), dtype) };
        let units = [
            units::elem(dtype),
            units::out(state_type),
            Unit::constants(&[("STATES", e.states as u32)]),
            shaders::GRID,
            if self.skip { shaders::SCAN_SKIP } else { shaders::SCAN_PLAIN },
            shaders::SELECTIVE_SCAN,
        ];
        let kernel =
            Kernel::new(units).set("WORKGROUP", workgroup).set("SOFTPLUS", self.delta_softplus.into());
        let dispatch = |first: usize| {
            let end = (first + stretch).min(e.len);
            let params = ScanParams { first_step: first as u32, end_step: end as u32, ..params };
            let dispatch = Dispatch::new(kernel.clone(), params, (lines as u64).div_ceil(workgroup.into()))
                .bind("u", Source::Input(0))
                .bind("delta", Source::Input(1))
                .bind("a", Source::Input(2))
                .bind("b", Source::Input(3))
                .bind("c", Source::Input(4))
                .bind("y", Source::Output(0))
                .bind("last_state", state);
            if self.skip { dispatch.bind("skip", Source::Input(5)) } else { dispatch }
        };
        let mut launch = Launch { name: "channels", ..Launch::default() };
        launch.dispatches.extend((0..e.len.max(1)).step_by(stretch.max(1)).map(dispatch));
        if carried {
            let states = lines * e.states;
            launch.scratch.push(4 * states as u64);
            let to = (Source::Output(1), dtype);
            launch.dispatches.push(cast::dispatch((state, state_type), to, states, tier));
        }
        Ok(vec![launch])
    }

    fn flops(&self, io: &Io) -> u64 {
        let u = io.inputs.first().map_or(0, |u| u.len() as u64);
        7 * u * io.inputs.get(2).map_or(0, |a| a.last() as u64)
    }
}

/// The inputs of a selective scan; see [`SelectiveScan`].
#[derive(Clone, Copy, Debug)]
pub struct ScanInputs {
    /// The sequence.
    pub u: Value,
    /// Step lengths.
    pub delta: Value,
    /// The states' rates.
    pub a: Value,
    /// From input to states.
    pub b: Value,
    /// From states to output.
    pub c: Value,
    /// From input to output.
    pub d: Option<Value>,
    /// Gates the output: `y * silu(z)`.
    pub z: Option<Value>,
}

impl Builder {
    /// Mamba's selective scan: the output, gated where there is a `z`, and the last state.
    pub fn selective_scan(
        &mut self,
        inputs: ScanInputs,
        channels_first: bool,
        delta_softplus: bool,
    ) -> Result<(Value, Value), GraphError> {
        let ScanInputs { u, delta, a, b, c, d, z } = inputs;
        let op = SelectiveScan { channels_first, delta_softplus, skip: d.is_some() };
        let values: Vec<Value> = [u, delta, a, b, c].into_iter().chain(d).collect();
        let outputs = self.op_all(op, &values)?;
        let [y, last_state] = outputs[..] else {
            let error = OpError::new("selective_scan", &[], "gives an output and a state");
            return Err(GraphError::Op { path: self.path(), error });
        };
        match z {
            None => Ok((y, last_state)),
            Some(z) => {
                let gate = self.unary(Unary::Silu, z)?;
                Ok((self.mul(y, gate)?, last_state))
            }
        }
    }
}

/// Cases: both layouts, with and without a direct way and softplus, odd extents, no steps.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for channels_first in [false, true] {
        let case = |delta_softplus, skip: bool, [batch, channels, len, states]: [usize; 4]| {
            let sequence = |n| if channels_first { [batch, n, len] } else { [batch, len, n] };
            let mut inputs = vec![
                Fill::uniform(-1.0, 1.0).shape(sequence(channels)),
                Fill::uniform(0.01, 0.5).shape(sequence(channels)),
                Fill::uniform(-2.0, -0.1).shape([channels, states]),
                Fill::uniform(-1.0, 1.0).shape(sequence(states)),
                Fill::uniform(-1.0, 1.0).shape(sequence(states)),
            ];
            inputs.extend(skip.then(|| Fill::uniform(-1.0, 1.0).shape([channels])));
            Case::new(SelectiveScan { channels_first, delta_softplus, skip }, inputs)
        };
        cases.extend([
            case(false, true, [1, 4, 7, 3]),
            case(false, true, [2, 8, 33, 16]),
            case(true, true, [2, 65, 9, 16]),
            case(true, false, [1, 33, 3, 1]),
            case(false, false, [3, 5, 65, 2]),
            case(false, true, [1, 2, 0, 4]),
            // More steps than a dispatch takes.
            case(false, true, [1, 3, 4097, 16]),
        ]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn a_state_decays_and_takes_in() {
        let t = |shape: &[usize], values: &[f32]| Tensor::f32(shape, values.to_vec()).unwrap();
        let (u, delta) = (t(&[1, 2, 1], &[1., 2.]), t(&[1, 2, 1], &[1., 1.]));
        // A rate of -ln 2 halves the state each step.
        let a = t(&[1, 1], &[-std::f32::consts::LN_2]);
        let (b, c, d) = (t(&[1, 2, 1], &[1., 1.]), t(&[1, 2, 1], &[1., 1.]), t(&[1], &[10.]));
        let op = SelectiveScan { channels_first: false, delta_softplus: false, skip: true };
        let y = op.reference(&[&u, &delta, &a, &b, &c, &d]).unwrap();
        assert_eq!(y[0].as_f32(), Some(&[11., 22.5][..]));
        assert_eq!(y[1].as_f32(), Some(&[2.5][..]));
    }

    #[test]
    fn shapes_must_agree() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        let op = SelectiveScan { channels_first: true, delta_softplus: false, skip: false };
        let x = [&[2, 3, 5][..], &[2, 3, 5], &[3, 4], &[2, 4, 5], &[2, 4, 5]].map(desc);
        assert_eq!(op.infer(&x).unwrap()[1].shape, [2, 3, 4]);
        let mut wrong = x.clone();
        wrong[3] = desc(&[2, 5, 4]);
        assert!(op.infer(&wrong).is_err());
        assert!(op.infer(&x[..4]).is_err());
        assert!(SelectiveScan { skip: true, ..op }.infer(&x).is_err());
    }
}
