//! Group normalisation (Wu and He 2018), instance normalisation (Ulyanov et al. 2016) among it.

mod split;

use kiln_shaders as shaders;

use crate::ops::batch_norm::affine_steps;
use crate::ops::rows::{finish, fitting};
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, Dispatch, Epilogue, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
};

params! {
    struct WorkgroupParams { pixels: u32, channels: u32, members: u32, eps: f32 }
}

/// Normalises groups of consecutive channels over all pixels of an image, as PyTorch's `group_norm`: inputs `x` of shape
/// `[N, ..., C]`, then `weight` and `bias` of shape `[C]` where they are said to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Number of groups; it divides the number of channels.
    pub groups: usize,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// Summand under the root.
    pub eps: f32,
}

/// Images, pixels of one and channels.
fn extents(x: &[usize]) -> [usize; 3] {
    match x {
        [images, pixels @ .., channels] => [*images, pixels.iter().product(), *channels],
        _ => [1, 1, 1],
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: String| OpError::new("group_norm", inputs, reason);
        let count = 1 + usize::from(self.weight) + usize::from(self.bias);
        let [x, affine @ ..] = inputs else { return Err(wrong("wants an input".into())) };
        if inputs.len() != count {
            return Err(wrong(format!("wants {count} inputs")));
        }
        if x.rank() < 2 {
            return Err(wrong("wants images and channels".into()));
        }
        let channels = x.last();
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            return Err(wrong(format!("{} groups do not divide {channels} channels", self.groups)));
        }
        if !x.dtype.is_float() || affine.iter().any(|desc| desc.dtype != x.dtype) {
            return Err(wrong("wants inputs of one floating-point type".into()));
        }
        if affine.iter().any(|desc| desc.shape != [channels]) {
            return Err(wrong(format!("wants a number a channel, of which there are {channels}")));
        }
        if !self.eps.is_finite() || self.eps < 0.0 {
            return Err(wrong(format!("eps is {}", self.eps)));
        }
        Ok(vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0];
        let [images, pixels, channels] = extents(x.shape());
        let members = channels / self.groups;
        let weight = self.weight.then(|| inputs[1].to_f64());
        let bias = self.bias.then(|| inputs[1 + usize::from(self.weight)].to_f64());
        let mut values = x.to_f64();
        for set in 0..images * self.groups {
            let (image, first) = (set / self.groups, set % self.groups * members);
            let at = |i: usize| (image * pixels + i / members) * channels + first + i % members;
            let len = pixels * members;
            let mean = (0..len).map(|i| values[at(i)]).sum::<f64>() / len as f64;
            let variance = (0..len).map(|i| (values[at(i)] - mean).powi(2)).sum::<f64>() / len as f64;
            let deviation = (variance + f64::from(self.eps)).sqrt();
            for i in 0..len {
                let channel = first + i % members;
                let scale = weight.as_ref().map_or(1.0, |weight| weight[channel]);
                let offset = bias.as_ref().map_or(0.0, |bias| bias[channel]);
                values[at(i)] = (values[at(i)] - mean) / deviation * scale + offset;
            }
        }
        Ok(vec![Tensor::from_f64(x.shape(), x.dtype(), &values)?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let rank = io.inputs[0].rank();
        Independence::except(io, &(1..rank).collect::<Vec<_>>())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let [_, pixels, channels] = extents(&io.inputs[0].shape);
        let own = affine_steps(self.weight, self.bias);
        let first = 1 + usize::from(self.weight) + usize::from(self.bias);
        // The split launch binds its statistics besides x and y.
        let (chain, rest) = fitting(own.clone(), 3, io.epilogue, tier);
        let split = finish(split::launch(self, &chain, io, tier, false), &rest, first, io, tier);
        let (chain, rest) = fitting(own, 2, io.epilogue, tier);
        let single = finish(self.single(&chain, io, tier), &rest, first, io, tier);
        let single_first = self.prefers_one(pixels * channels, tier);
        Ok(if single_first { vec![single, split] } else { vec![split, single] })
    }

    /// The split launch, whose last step alone writes.
    fn launches_in_place(&self, io: &Io, tier: &Tier) -> Vec<Launch> {
        let [_, pixels, channels] = extents(&io.inputs[0].shape);
        let own = affine_steps(self.weight, self.bias);
        let (chain, rest) = fitting(own, 2, io.epilogue, tier);
        if self.prefers_one(pixels * channels, tier) || !rest.is_empty() {
            return Vec::new();
        }
        vec![split::launch(self, &chain, io, tier, true)]
    }

    fn flops(&self, io: &Io) -> u64 {
        8 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>()
    }

    fn fuses_epilogue(&self) -> bool {
        true
    }
}

impl GroupNorm {
    /// Whether one dispatch is quicker than three for images of so many elements. A workgroup reads about 50 GB/s: more
    /// than this takes it longer than two more dispatches.
    fn prefers_one(&self, image: usize, tier: &Tier) -> bool {
        image / self.groups <= 48 << 10 && !tier.software
    }

    /// A group of an image a workgroup.
    fn single(&self, chain: &Epilogue, io: &Io, tier: &Tier) -> Launch {
        let x = &io.inputs[0];
        let [images, pixels, channels] = extents(&x.shape);
        let members = channels / self.groups;
        let vec4 = members.is_multiple_of(4);
        let loads = pixels * members / if vec4 { 4 } else { 1 };
        let mut parts = vec![units::elem(x.dtype), shaders::GRID, units::load(vec4), units::store(vec4)];
        parts.extend([shaders::REDUCE_WORKGROUP, shaders::GROUP_NORM_WORKGROUP]);
        parts.extend(chain.units(x, vec4));
        let width = if loads > 128 { 256.min(tier.limits.max_invocations) } else { 64 };
        let params = WorkgroupParams {
            pixels: pixels as u32,
            channels: channels as u32,
            members: members as u32,
            eps: self.eps,
            ..Default::default()
        };
        let groups = (images * self.groups) as u64;
        let dispatch = Dispatch::new(Kernel::new(parts).set("WORKGROUP", width), params, groups)
            .bind("x", Source::Input(0))
            .bind("y", Source::Output(0));
        Launch::one("workgroup", chain.bind(dispatch, 1))
    }
}

impl Builder {
    /// Group normalisation of `x` (`[N, ..., C]`) in `groups` groups of channels.
    pub fn group_norm(
        &mut self,
        x: Value,
        groups: usize,
        weight: Option<Value>,
        bias: Option<Value>,
        eps: f32,
    ) -> Result<Value, GraphError> {
        let op = GroupNorm { groups, weight: weight.is_some(), bias: bias.is_some(), eps };
        let inputs: Vec<Value> = [Some(x), weight, bias].into_iter().flatten().collect();
        self.op(op, &inputs)
    }

    /// Instance normalisation of `x` (`[N, ..., C]`): each channel of each image by itself.
    pub fn instance_norm(
        &mut self,
        x: Value,
        weight: Option<Value>,
        bias: Option<Value>,
        eps: f32,
    ) -> Result<Value, GraphError> {
        let channels = self.desc(x).last();
        self.group_norm(x, channels, weight, bias, eps)
    }
}

/// Cases: groups of one channel, of all, of odd numbers; images of one pixel and of many runs; numbers far from zero;
/// epilogues that fit and that do not.
pub fn cases() -> Vec<Case> {
    use crate::ops::{Binary, Unary};
    use crate::{Spread, Step};
    let x = || Fill::uniform(-2.0, 3.0);
    let op = |groups, weight, bias| GroupNorm { groups, weight, bias, eps: 1e-5 };
    let mut cases = Vec::new();
    for (shape, groups) in [
        (&[2, 5, 7, 8][..], 1),
        (&[2, 5, 7, 8], 8),
        (&[2, 5, 7, 8], 4),
        (&[2, 5, 7, 8], 2),
        (&[1, 9, 9, 64], 32),
        (&[2, 11, 6], 3),
        (&[1, 1, 1, 4], 2),
        (&[3, 1, 1, 12], 3),
        (&[1, 33, 31, 32], 32),
        (&[1, 33, 31, 5], 5),
        (&[2, 64, 65, 16], 4),
        (&[1, 65, 63, 15], 3),
        (&[3, 8], 2),
        (&[0, 4, 4, 8], 2),
        (&[2, 0, 4, 8], 2),
        (&[1, 8, 8, 320], 32),
    ] {
        let c = shape[shape.len() - 1];
        cases.push(Case::new(op(groups, true, true), [x().shape(shape), x().shape([c]), x().shape([c])]));
    }
    let shape = [2, 5, 3, 12];
    cases.push(Case::new(op(3, false, false), [x().shape(shape)]));
    cases.push(Case::new(op(3, true, false), [x().shape(shape), x().shape([12])]));
    cases.push(Case::new(op(3, false, true), [x().shape(shape), x().shape([12])]));
    // Numbers far from zero, whose mean f32 cannot hold; f16 could not hold the numbers.
    for groups in [4, 8] {
        let far = Fill::uniform(9999.0, 10001.0).shape([2, 17, 16, 8]);
        cases.push(Case::new(op(groups, false, false), [far]).f32_only());
    }
    let full =
        |operand| Step::Binary { function: Binary::Add, operand, spread: Spread::Full, swapped: false };
    for operands in [1, 4] {
        let mut steps = vec![Step::Unary(Unary::Silu)];
        steps.extend((0..operands).map(full));
        for c in [8, 6] {
            let mut inputs = vec![x().shape([2, 5, c]), x().shape([c]), x().shape([c])];
            inputs.extend((0..operands).map(|_| x().shape([2, 5, c])));
            cases.push(Case::new(op(2, true, true), inputs).epilogue(Epilogue { steps: steps.clone() }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn groups_must_divide_channels() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        let op = |groups| GroupNorm { groups, weight: false, bias: false, eps: 1e-5 };
        assert!(op(3).infer(&[desc(&[2, 4, 6])]).is_ok());
        assert!(op(4).infer(&[desc(&[2, 4, 6])]).is_err());
        assert!(op(0).infer(&[desc(&[2, 4, 6])]).is_err());
        assert!(op(1).infer(&[desc(&[6])]).is_err());
    }

    #[test]
    fn a_group_shares_its_statistics() {
        let op = GroupNorm { groups: 1, weight: false, bias: false, eps: 0.0 };
        let x = Tensor::f32([1, 2, 2], vec![1., 3., 3., 1.]).unwrap();
        assert_eq!(op.reference(&[&x]).unwrap()[0].as_f32(), Some(&[-1., 1., 1., -1.][..]));
        let x = Tensor::f32([1, 2, 2], vec![1., 30., 3., 10.]).unwrap();
        let op = GroupNorm { groups: 2, ..op };
        assert_eq!(op.reference(&[&x]).unwrap()[0].as_f32(), Some(&[-1., 1., 1., -1.][..]));
    }
}
