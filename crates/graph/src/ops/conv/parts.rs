//! Cutting a convolution into dispatches whose bindings a device allows.

use std::ops::Range;

use super::{Axis, Plan, WalkParams, walk};
use crate::ops::slabs::{self, Rows};
use crate::{Dispatch, Epilogue, Io, OpError, Source, Spread, Step, Tier};

/// What one dispatch computes: a walk, or some rows of it in one image.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Which of the plan's phases.
    pub phase: usize,
    /// Its parameters, weights as they are stored.
    pub params: WalkParams,
    /// Bytes of x, of y and of each operand to bind; everything where there is none.
    x: Option<Range<u64>>,
    y: Option<Range<u64>>,
    operands: Vec<Option<Range<u64>>>,
}

impl Part {
    /// Binds x, the weight, y and the epilogue's operands.
    pub fn bind(&self, mut dispatch: Dispatch) -> Dispatch {
        let own = [
            ("x", Source::Input(0), &self.x),
            ("weight", Source::Input(1), &None),
            ("y", Source::Output(0), &self.y),
        ];
        let own = own.map(|(name, source, range)| (name.to_string(), source, range));
        let operands = self.operands.iter().enumerate();
        let operands = operands.map(|(i, range)| (format!("operand{i}"), Source::Input(2 + i), range));
        for (name, source, range) in own.into_iter().chain(operands) {
            dispatch = match range {
                Some(range) => dispatch.bind_range(name, source, range.clone()),
                None => dispatch.bind(name, source),
            };
        }
        dispatch
    }
}

impl Plan {
    /// The dispatches of a launch, and the epilogue that their kernels link.
    pub(super) fn parts(&self, io: &Io, tier: &Tier) -> Result<(Vec<Part>, Epilogue), OpError> {
        let size = io.outputs.first().map_or(4, |y| y.dtype.size());
        let ([in_h, in_w], [out_h, out_w]) = (self.input, self.output);
        let (x_row, y_row) = (in_w * self.cin * size, out_w * self.cout * size);
        let x = Rows { count: self.batch * in_h, bytes: x_row as u64 };
        let y = Rows { count: self.batch * out_h, bytes: y_row as u64 };
        let slabs = slabs::cut(x, &[y], |line| self.reads(line), tier)
            .map_err(|error| OpError::new(self.op, io.inputs, error.reason))?;
        let operands = io.epilogue.operands();
        if let [slab] = &slabs[..]
            && slab.x.is_none()
        {
            let whole = |(phase, axes)| Part {
                phase,
                params: walk::params(self, axes),
                x: None,
                y: None,
                operands: vec![None; operands],
            };
            return Ok((self.phases.iter().enumerate().map(whole).collect(), io.epilogue.clone()));
        }
        let mut parts = Vec::new();
        let one = Plan { batch: 1, ..self.clone() };
        for slab in slabs {
            let y_range = slab.y.first().cloned().flatten();
            // Where a binding starts, in elements.
            let origin =
                |range: &Option<Range<u64>>| range.as_ref().map_or(0, |range| range.start as usize / size);
            for image in slab.rows.start / out_h..slab.rows.end.div_ceil(out_h) {
                let first = slab.rows.start.saturating_sub(image * out_h);
                let end = (slab.rows.end - image * out_h).min(out_h);
                let operands = self.operand_ranges(io, tier, image, &y_range)?;
                for (phase, [h, w]) in self.phases.iter().enumerate() {
                    let Some(h) = rows_of(h, first..end) else { continue };
                    let start = |image_len: usize, range| {
                        ((image * image_len) as u32).wrapping_sub(origin(range) as u32)
                    };
                    let params = WalkParams {
                        x_start: start(in_h * in_w * self.cin, &slab.x),
                        y_start: start(out_h * out_w * self.cout, &y_range),
                        ..walk::params(&one, &[h, *w])
                    };
                    let (x, y, operands) = (slab.x.clone(), y_range.clone(), operands.clone());
                    parts.push(Part { phase, params, x, y, operands });
                }
            }
        }
        // A part lies in one image, so an image's channel vector is one for all of its elements.
        let mut epilogue = io.epilogue.clone();
        for step in &mut epilogue.steps {
            if let Step::Binary { spread: spread @ Spread::Batch { .. }, .. } = step {
                *spread = Spread::Last;
            }
        }
        Ok((parts, epilogue))
    }

    /// Rows of the input, counted over all images, that a row of the output reads.
    fn reads(&self, line: usize) -> Range<usize> {
        let (image, row) = (line / self.output[0], line % self.output[0]);
        let mut found: Option<Range<usize>> = None;
        for [h, _] in &self.phases {
            if row < h.first || (row - h.first) % h.step != 0 || h.taps == 0 {
                continue;
            }
            let start = i64::from(h.base) + ((row - h.first) / h.step) as i64 * i64::from(h.stride);
            let last = start + (h.taps as i64 - 1) * i64::from(h.dilation);
            let clamp = |at: i64| (at.max(0) as usize / self.upsample).min(self.input[0]);
            let (low, high) = (start.min(last), start.max(last));
            if high < 0 {
                continue;
            }
            let (low, high) = (clamp(low), (clamp(high) + 1).min(self.input[0]));
            found = Some(found.map_or(low..high, |range| range.start.min(low)..range.end.max(high)));
        }
        let start = image * self.input[0];
        found.map_or(start..start, |range| start + range.start..start + range.end)
    }

    /// Bytes of the epilogue's operands to bind for a part of one image.
    fn operand_ranges(
        &self,
        io: &Io,
        tier: &Tier,
        image: usize,
        y: &Option<Range<u64>>,
    ) -> Result<Vec<Option<Range<u64>>>, OpError> {
        let image_len = self.output[0] * self.output[1] * self.cout;
        let mut ranges = vec![None; io.epilogue.operands()];
        for step in &io.epilogue.steps {
            let Step::Binary { operand, spread, .. } = *step else { continue };
            let Some(range) = ranges.get_mut(operand) else { continue };
            match spread {
                Spread::Full => *range = y.clone(),
                Spread::Batch { inner } => {
                    let row = (self.cout * io.outputs.first().map_or(4, |y| y.dtype.size())) as u64;
                    let start = (image * image_len / inner.max(1)) as u64 * row;
                    if !inner.is_multiple_of(image_len.max(1))
                        || !start.is_multiple_of(u64::from(tier.limits.offset_alignment.max(16)))
                    {
                        let reason = "is cut into parts, and an operand of its epilogue cannot be cut alike";
                        return Err(OpError::new(self.op, io.inputs, reason));
                    }
                    *range = Some(start..(start + row).next_multiple_of(16));
                }
                Spread::Last | Spread::Scalar => {}
            }
        }
        Ok(ranges)
    }
}

/// The part of a walk that writes these output rows, if any.
fn rows_of(axis: &Axis, rows: Range<usize>) -> Option<Axis> {
    let index = |row: usize| row.saturating_sub(axis.first).div_ceil(axis.step).min(axis.count);
    let (start, end) = (index(rows.start), index(rows.end));
    (start < end).then(|| Axis {
        first: axis.first + start * axis.step,
        base: axis.base + start as i32 * axis.stride,
        count: end - start,
        ..*axis
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Conv2d, ConvTranspose2d};
    use crate::{DType, Op, Tensor, TensorDesc};

    /// Computes a launch of the direct kernel on the host, seeing no more than what is bound.
    fn run(plan: &Plan, parts: &[Part], x: &[f32], weight: &[f32], y: &mut [Option<f32>]) {
        for part in parts {
            let p = part.params;
            let bound = |range: &Option<Range<u64>>, len: usize| {
                range
                    .as_ref()
                    .map_or(0..len, |range| range.start as usize / 4..(range.end as usize / 4).min(len))
            };
            let (x, y_range) = (&x[bound(&part.x, x.len())], bound(&part.y, y.len()));
            let y = &mut y[y_range];
            for pixel in 0..p.pixels {
                let (image, row, column) = (
                    pixel / p.count_w / p.count_h,
                    (pixel / p.count_w % p.count_h) as i32,
                    (pixel % p.count_w) as i32,
                );
                for co in 0..p.cout {
                    let mut sum = 0.0;
                    for tap in 0..p.taps_h * p.taps_w {
                        let (ty, tx) = (tap / p.taps_w, tap % p.taps_w);
                        let h = p.base_h + row * p.stride_h + ty as i32 * p.dilation_h;
                        let w = p.base_w + column * p.stride_w + tx as i32 * p.dilation_w;
                        if h < 0
                            || w < 0
                            || h as u32 >> p.upsample >= p.in_h
                            || w as u32 >> p.upsample >= p.in_w
                        {
                            continue;
                        }
                        let (h, w) = (h as u32 >> p.upsample, w as u32 >> p.upsample);
                        let at = p.x_start.wrapping_add(((image * p.in_h + h) * p.in_w + w) * p.cin);
                        for ci in 0..p.cin {
                            let k = p.weight_start + ty * p.weight_row + tx * p.weight_column;
                            let k = k + ci * p.weight_in + co * p.weight_out;
                            sum += x[(at + ci) as usize] * weight[k as usize];
                        }
                    }
                    let (h, w) = (p.first_h + row as u32 * p.step_h, p.first_w + column as u32 * p.step_w);
                    let at = p.y_start.wrapping_add(((image * p.out_h + h) * p.out_w + w) * p.cout + co);
                    assert!(y[at as usize].replace(sum).is_none(), "{} writes {at} twice", plan.op);
                }
            }
        }
    }

    fn check(
        op: impl Op,
        plan: impl Fn(&[TensorDesc]) -> Plan,
        x: [usize; 4],
        weight: [usize; 4],
        limit: u64,
    ) {
        let tensor = |shape: [usize; 4], factor: usize| {
            let len: usize = shape.iter().product();
            Tensor::f32(shape, (0..len).map(|i| (i * factor % 9) as f32 - 4.0).collect()).unwrap()
        };
        let (x, weight) = (tensor(x, 7), tensor(weight, 5));
        let inputs = [x.desc(), weight.desc()];
        let outputs = op.infer(&inputs).unwrap();
        let mut tier = Tier::webgpu();
        tier.limits.max_binding_bytes = limit;
        let io =
            Io { inputs: &inputs, outputs: &outputs, constant: &[false, true], epilogue: Epilogue::NONE };
        let plan = plan(&inputs);
        let (parts, _) = plan.parts(&io, &tier).unwrap();
        assert!(parts.len() > plan.phases.len(), "nothing was cut");
        for range in parts.iter().flat_map(|part| [&part.x, &part.y]).flatten() {
            assert!(range.end - range.start <= limit && range.start % 256 == 0);
        }
        let mut y = vec![None; outputs[0].len()];
        run(&plan, &parts, x.as_f32().unwrap(), weight.as_f32().unwrap(), &mut y);
        let y: Vec<f32> = y.into_iter().map(|v| v.expect("written")).collect();
        assert_eq!(op.reference(&[&x, &weight]).unwrap()[0].as_f32(), Some(&y[..]));
    }

    #[test]
    fn parts_compute_what_the_whole_does() {
        let conv = Conv2d::default();
        for (op, x, weight) in [
            (conv.padding(1), [1, 40, 11, 4], [8, 4, 3, 3]),
            (conv.padding(1).stride(2), [3, 17, 11, 4], [8, 4, 3, 3]),
            (conv.padding(4).dilation(4), [2, 19, 9, 3], [5, 3, 3, 3]),
            (conv.padding(1).upsample(2), [2, 13, 7, 4], [4, 4, 3, 3]),
        ] {
            check(op, |inputs| op.plan(inputs).unwrap(), x, weight, 4096);
        }
        let conv = ConvTranspose2d::default();
        for (op, x, weight) in [
            (conv.stride(2).padding(1), [2, 9, 7, 4], [4, 8, 4, 4]),
            (conv.stride(3).dilation(2), [1, 9, 5, 4], [4, 3, 3, 2]),
            (conv.stride(4), [2, 7, 5, 3], [3, 4, 2, 2]),
        ] {
            check(op, |inputs| op.plan(inputs).unwrap(), x, weight, 4096);
        }
    }

    #[test]
    fn every_launch_keeps_to_a_small_binding() {
        let mut tier = Tier { software: true, ..Tier::webgpu() };
        tier.limits.max_binding_bytes = 1 << 16;
        for (op, weight) in [
            (Conv2d::default().padding(1), [12, 8, 3, 3]),
            (Conv2d::default().padding(1), [40, 8, 3, 3]),
            (Conv2d::default().padding(1).groups(8), [8, 1, 3, 3]),
        ] {
            let desc = |shape: [usize; 4]| TensorDesc::new(shape, DType::F32);
            let inputs = [desc([1, 256, 64, 8]), desc(weight)];
            let outputs = op.infer(&inputs).unwrap();
            let io =
                Io { inputs: &inputs, outputs: &outputs, constant: &[false, true], epilogue: Epilogue::NONE };
            let launches = op.launches(&io, &tier).unwrap();
            assert!(launches.len() > 1);
            for launch in launches {
                assert!(launch.dispatches.len() > 1, "{}", launch.name);
                for binding in launch.dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
                    if binding.name != "weight" {
                        let range = binding.range.clone().expect("a range");
                        assert!(range.end - range.start <= 1 << 16);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused() {
        let desc = |shape: [usize; 4]| TensorDesc::new(shape, DType::F32);
        let inputs = [desc([1, 9, 64, 8]), desc([4, 8, 3, 3])];
        let op = Conv2d::default();
        let outputs = op.infer(&inputs).unwrap();
        let io =
            Io { inputs: &inputs, outputs: &outputs, constant: &[false, true], epilogue: Epilogue::NONE };
        let mut tier = Tier::webgpu();
        tier.limits.max_binding_bytes = 4096;
        assert!(op.launches(&io, &tier).is_err());
    }
}
