//! Vector quantisation: the nearest code of each vector.

mod tiles;

use kiln_shaders as shaders;
use rayon::prelude::*;

use crate::ops::lines::workgroup_for;
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Along, Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source,
    Tensor, TensorDesc, Tier, Value, params,
};

/// For each vector of `x`, of shape `[..., C]`, the index (i32) of the nearest row of `codebook`, of shape `[K, C]`, by
/// squared distance; of equally near ones the first (van den Oord et al. 2017). The result is `[...]`.
///
/// Distances are sums of squared differences, in f32 on devices: no matrix of all pairs is made. Where that is faster, a
/// product of vectors and codes first tells which codes may be the nearest, and bounds on its rounding see to it that the
/// same one is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearestCode;

params! {
    struct CodeParams { rows: u32, codes: u32, channels: u32 }
}

/// Rows that a kernel's invocation or workgroup takes.
const ROWS: usize = 4;

impl Op for NearestCode {
    fn name(&self) -> &'static str {
        "nearest_code"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        let wrong = |reason: &str| OpError::new(self.name(), inputs, reason);
        let [x, codebook] = inputs else { return Err(wrong("wants vectors and a codebook")) };
        if x.dtype != codebook.dtype || !x.dtype.is_float() {
            return Err(wrong("wants vectors and codes of one floating-point type"));
        }
        let (Some((&channels, rows)), [codes, code_channels]) = (x.shape.split_last(), &codebook.shape[..])
        else {
            return Err(wrong("wants vectors along the last axis and a codebook of two axes"));
        };
        if channels != *code_channels || channels == 0 {
            return Err(wrong("vectors and codes differ in length, or have none"));
        }
        if *codes == 0 {
            return Err(wrong("wants a code"));
        }
        Ok(vec![TensorDesc::new(rows, DType::I32)])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let out = self.infer(&[inputs[0].desc(), inputs[1].desc()])?.swap_remove(0);
        let channels = inputs[1].desc().last();
        let (x, codebook) = (inputs[0].to_f64(), inputs[1].to_f64());
        let nearest = |row: &[f64]| {
            let (mut nearest, mut found) = (f64::INFINITY, 0);
            for (i, code) in codebook.chunks_exact(channels).enumerate() {
                let far: f64 = row.iter().zip(code).map(|(a, b)| (a - b) * (a - b)).sum();
                if far < nearest {
                    (nearest, found) = (far, i as i32);
                }
            }
            found
        };
        Ok(vec![Tensor::i32(out.shape, x.par_chunks_exact(channels).map(nearest).collect())?])
    }

    fn independence(&self, io: &Io) -> Independence {
        let axes = 0..io.outputs[0].rank();
        Independence::Axes(axes.map(|axis| Along::new([Some(axis)], [Some(axis)])).collect())
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (codebook, out) = (&io.inputs[1], &io.outputs[0]);
        let channels = codebook.last();
        let codes = codebook.len() / channels.max(1);
        let params = CodeParams {
            rows: out.len() as u32,
            codes: codes as u32,
            channels: channels as u32,
            ..Default::default()
        };
        let access = if channels.is_multiple_of(4) { shaders::CODES_VEC4 } else { shaders::CODES_SCALAR };
        let launch = |name, file, workgroup: u32, groups: usize| {
            let elem = units::elem(codebook.dtype);
            let units = [elem, access.clone(), shaders::GRID, shaders::NEAREST_CODE, file];
            let kernel = Kernel::new(units).set("WORKGROUP", workgroup);
            let dispatch = Dispatch::new(kernel, params, groups as u64)
                .bind("x", Source::Input(0))
                .bind("codebook", Source::Input(1))
                .bind("y", Source::Output(0));
            Launch::one(name, dispatch)
        };
        let quads = out.len().div_ceil(ROWS);
        // Few rows spread over more cores in small workgroups.
        let lanes = if tier.software { 8 } else { 64.min(tier.limits.max_invocations) };
        let lane = launch("lane", shaders::NEAREST_CODE_LANE, lanes, quads.div_ceil(lanes as usize));
        let wide = workgroup_for(codes, tier);
        let workgroup = launch("workgroup", shaders::NEAREST_CODE_WORKGROUP, wide, quads);
        let loads = channels / if channels.is_multiple_of(4) { 4 } else { 1 };
        let mut launches = units::alone_or_shared(lane, workgroup, codes * (1 + loads), tier.software);
        if let Some(tiles) = tiles::launch(io, tier, access) {
            launches.insert(if tier.software { 0 } else { launches.len() }, tiles);
        }
        Ok(launches)
    }

    fn flops(&self, io: &Io) -> u64 {
        let codebook = io.inputs.get(1).map_or(0, |codebook| codebook.len() as u64);
        3 * io.outputs.iter().map(|out| out.len() as u64).sum::<u64>() * codebook
    }
}

impl Builder {
    /// Index of the nearest row of `codebook` for each vector along `x`'s last axis.
    pub fn nearest_code(&mut self, x: Value, codebook: Value) -> Result<Value, GraphError> {
        self.op(NearestCode, &[x, codebook])
    }
}

/// Cases: rows on and off the fours, one code, more codes than lanes, ties.
pub fn cases() -> Vec<Case> {
    let case = |fill: Fill, x: &[usize], codebook: [usize; 2]| {
        Case::new(NearestCode, [fill.clone().shape(x), fill.shape(codebook)]).exact()
    };
    let floats = || Fill::uniform(-1.0, 1.0);
    vec![
        case(floats(), &[1, 1], [1, 1]),
        case(floats(), &[0, 4], [3, 4]),
        case(floats(), &[5], [9, 5]),
        case(floats(), &[7, 3], [31, 3]),
        case(floats(), &[33, 8], [65, 8]),
        case(floats(), &[2, 3, 5, 32], [127, 32]),
        case(floats(), &[17, 31], [257, 31]),
        case(floats(), &[16, 64], [1025, 64]).constant([1]),
        // More loads than one invocation's loops may make.
        case(floats(), &[3, 32], [16384, 32]),
        // Many tiles, and rows and channels on and off the fours.
        case(floats(), &[130, 64], [700, 64]),
        case(floats(), &[37, 33], [1000, 33]),
        case(floats(), &[2, 256], [129, 256]),
        // Lengths are a thousand times what tells the codes apart, so that rounding leaves many in question.
        case(Fill::uniform(8.0, 8.125), &[33, 64], [700, 64]),
        case(Fill::uniform(-8.125, -8.0), &[33, 35], [700, 35]),
        case(Fill::integers(-1, 1), &[65, 32], [600, 32]),
        // All codes alike, and every third.
        case(Fill::given(DType::F32, [0.5]), &[5, 32], [300, 32]),
        case(
            Fill::given(DType::F32, (0..96).map(|i| f64::from(i % 11)).collect::<Vec<_>>()),
            &[7, 32],
            [300, 32],
        ),
        // Small integers: many ties, and sums that are exact in any order.
        case(Fill::integers(-1, 1), &[65, 16, 3], [29, 3]),
        case(Fill::integers(-1, 1), &[65, 3], [129, 3]),
        case(Fill::integers(-1, 1), &[65, 4], [600, 4]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equally_near_codes_is_found() {
        let x = Tensor::f32([3, 1], vec![0.0, 0.9, -5.0]).unwrap();
        let codebook = Tensor::f32([3, 1], vec![1.0, -1.0, 1.0]).unwrap();
        let y = NearestCode.reference(&[&x, &codebook]).unwrap();
        assert_eq!(y[0].as_i32(), Some(&[0, 0, 1][..]));
    }

    #[test]
    fn lengths_must_agree() {
        let desc = |shape: &[usize]| TensorDesc::new(shape, DType::F32);
        assert_eq!(NearestCode.infer(&[desc(&[2, 3, 8]), desc(&[5, 8])]).unwrap()[0].shape, [2, 3]);
        assert!(NearestCode.infer(&[desc(&[2, 7]), desc(&[5, 8])]).is_err());
        assert!(NearestCode.infer(&[desc(&[2, 8]), desc(&[0, 8])]).is_err());
        assert!(NearestCode.infer(&[desc(&[]), desc(&[5, 8])]).is_err());
    }
}
