//! Change of element type.

use kiln_shaders::{self as shaders, Unit};

//! Changes of element type.
use kiln_shaders as shaders;
use crate::ops::units;
use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Io, Kernel, Launch, Op, OpError, Source, Tensor, TensorDesc, Tier,
    Value, params,
};

params! {
    struct CastParams { len: u32 }
}

/// The same values in another type: floats rounded to nearest even, integers from floats towards zero and saturating
/// (NaN gives 0), truth as "not zero". See [`Tensor::cast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The type to give.
    pub to: DType,
}

fn from_unit(dtype: DType) -> Unit {
    match dtype {
        DType::F32 => shaders::CAST_FROM_F32,
        DType::F16 => shaders::CAST_FROM_F16,
        DType::I32 => shaders::CAST_FROM_I32,
        DType::U32 | DType::Bool => shaders::CAST_FROM_U32,
    }
}

fn to_unit(dtype: DType) -> Unit {
    match dtype {
        DType::F32 => shaders::CAST_TO_F32,
        DType::F16 => shaders::CAST_TO_F16,
        DType::I32 => shaders::CAST_TO_I32,
        DType::U32 => shaders::CAST_TO_U32,
        DType::Bool => shaders::CAST_TO_BOOL,
    }
}

/// The same numbers in another type: to floats rounded to nearest, ties to even; from floats to integers towards zero,
/// saturating, with NaN as zero; to truth values whether they are not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    /// The type wanted.
impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        match inputs {
            [x] => Ok(vec![TensorDesc::new(x.shape.clone(), self.to)]),
            _ => Err(OpError::new(self.name(), inputs, "wants one input")),
            _ => Err(OpError::new("cast", inputs, "wants one input")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![inputs[0].cast(self.to)])
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let workgroup = 64.min(tier.limits.max_invocations);
        let len = io.outputs[0].len();
        let kernel =
            Kernel::new([from_unit(io.inputs[0].dtype), to_unit(self.to), shaders::GRID, shaders::CAST])
                .set("WORKGROUP", workgroup);
        let params = CastParams { len: len as u32, ..Default::default() };
        let dispatch = Dispatch::new(kernel, params, (len as u64).div_ceil(workgroup.into()))
            .bind("x", Source::Input(0))
            .bind("y", Source::Output(0));
        Ok(vec![Launch::one("direct", dispatch)])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    fn launches(&self, io: &Io, _: &Tier) -> Result<Vec<Launch>, OpError> {
        const WORKGROUP: u32 = 64;
        let x = &io.inputs[0];
        let cast = match (x.dtype, self.to) {
            (from, to) if from == to => shaders::CAST_UNCHANGED,
            (_, DType::F32) => shaders::CAST_TO_F32,
            (_, DType::F16) => shaders::CAST_TO_F16,
            (DType::F32 | DType::F16, DType::I32) => shaders::CAST_FLOAT_TO_I32,
            (DType::F32 | DType::F16, DType::U32) => shaders::CAST_FLOAT_TO_U32,
            (DType::F32 | DType::F16, DType::Bool) => shaders::CAST_FLOAT_TO_BOOL,
            (DType::I32, DType::U32) => shaders::CAST_I32_TO_U32,
            (DType::U32 | DType::Bool, DType::I32) => shaders::CAST_U32_TO_I32,
            (_, DType::Bool) => shaders::CAST_INTEGER_TO_BOOL,
            (_, DType::I32 | DType::U32) => shaders::CAST_UNCHANGED,
        };
        let parts = vec![units::elem(x.dtype), shaders::GRID, shaders::MATH, cast, shaders::CAST];
        let kernel = Kernel::new(parts).set("WORKGROUP", WORKGROUP);
        let params = CastParams { len: x.len() as u32, ..Default::default() };
        let dispatch = Dispatch::new(kernel, params, (x.len() as u64).div_ceil(u64::from(WORKGROUP)))
        Ok(vec![Launch::one("elementwise", dispatch)])
    }
}

impl Builder {
    /// The same values in another type.
    /// The same numbers in another type; the value itself where it has that type.
    pub fn cast(&mut self, x: Value, to: DType) -> Result<Value, GraphError> {
        if self.desc(x).dtype == to { Ok(x) } else { self.op(Cast { to }, &[x]) }
    }
}

/// Cases: every pair of types, with values that round, saturate and vanish.
pub fn cases() -> Vec<Case> {
    let types = [DType::F32, DType::I32, DType::U32, DType::Bool];
    let floats = [
        0.0,
        -0.0,
        0.25,
        1.5,
        -1.5,
        2.9,
        -2.9,
        1e9,
        3e9,
        -3e9,
        5e9,
        -1.0,
        1e-30,
/// Cases: every pair of types, at numbers that round, saturate and have no counterpart.
    const TYPES: [DType; 5] = [DType::F32, DType::F16, DType::I32, DType::U32, DType::Bool];
        0.5,
        -0.5,
        -1.7,
        2.5,
        1e-7,
        -3e-8,
        1.00048828125,
        2049.0,
        65519.0,
        65520.0,
        -1e6,
        1e30,
        -1e30,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let integers = [0.0, 1.0, 2.0, 7.0, 65535.0, 16_777_217.0, 2_147_483_647.0, 100.0, 3.0];
    let mut cases = Vec::new();
    for from in types {
        for to in [DType::F32, DType::F16, DType::I32, DType::U32, DType::Bool] {
            let fill = match from {
                DType::F32 => Fill::given(DType::F32, floats),
                DType::Bool => Fill::given(from, [0.0, 1.0, 1.0]),
                _ => Fill::given(from, integers),
            };
            // f16 exists on some devices alone; those cases run where the float type is f16.
            let case = Case::new(Cast { to }, [fill.shape([33])]).exact();
            cases.push(if to == DType::F16 {
                Case { dtypes: &[DType::F16], ..case }
            } else if from == DType::F32 {
                case
            } else {
                case.f32_only()
            });
        }
    }
    cases.push(
        Case::new(Cast { to: DType::I32 }, [Fill::given(DType::I32, [-5.0, 5.0]).shape([2, 0, 3])])
            .exact()
            .f32_only(),
    );
    cases.push(
        Case::new(Cast { to: DType::U32 }, [Fill::given(DType::I32, [-5.0, 5.0]).shape([7])])
            .exact()
            .f32_only(),
    );
    let to_half = Fill::uniform(-70_000.0, 70_000.0).keep_f32().shape([1021]);
    cases.push(Case { dtypes: &[DType::F16], ..Case::new(Cast { to: DType::F16 }, [to_half]).exact() });
    let integers = [0.0, 1.0, 7.0, 2047.0, 2049.0, 65519.0, 65520.0, 16777217.0, 16777219.0, 2147483647.0];
    for to in TYPES {
        for (i, from) in TYPES.into_iter().enumerate() {
            // A case's f32 inputs become f16 where it runs in f16; a device without f16 skips those.
            let wide = from == DType::F16 || to == DType::F16;
            let dtypes: &'static [DType] = if wide { &[DType::F16] } else { &[DType::F32] };
                DType::F32 => Fill::given(DType::F32, floats).keep_f32(),
                DType::F16 => Fill::given(DType::F32, floats),
                DType::Bool => Fill::typed(DType::Bool, 0, 1),
                DType::U32 => Fill::given(from, [&integers[..], &[4294967295.0, 2147483648.0]].concat()),
                DType::I32 => Fill::given(from, [&integers[..], &[-1.0, -2147483648.0, -65520.0]].concat()),
            let mut case = Case::new(Cast { to }, [fill.shape([3, 11 + i])]).exact();
            case.dtypes = dtypes;
            cases.push(case);
    for shape in [vec![], vec![0, 3], vec![1], vec![1000]] {
        cases.push(Case::new(Cast { to: DType::I32 }, [Fill::uniform(-9.0, 9.0).shape(shape)]).exact());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_saturate_and_drop_the_fraction() {
        let x = Tensor::f32([4], vec![-2.9, 5e9, f32::NAN, 0.5]).unwrap();
        let cast = |to| Cast { to }.reference(&[&x]).unwrap().swap_remove(0);
        assert_eq!(cast(DType::I32).as_i32(), Some(&[-2, i32::MAX, 0, 0][..]));
    fn shapes_stay() {
        let x = TensorDesc::new([2, 3], DType::I32);
        assert_eq!(Cast { to: DType::F32 }.infer(&[x]), Ok(vec![TensorDesc::new([2, 3], DType::F32)]));
        assert!(Cast { to: DType::F32 }.infer(&[]).is_err());
    }

    #[test]
    fn what_does_not_fit_saturates() {
        let x = Tensor::f32([4], vec![-1.7, 3e10, f32::NAN, 0.5]).unwrap();
        assert_eq!(cast(DType::I32).as_i32(), Some(&[-1, i32::MAX, 0, 0][..]));
        assert_eq!(cast(DType::U32).as_u32(), Some(&[0, u32::MAX, 0, 0][..]));
        assert_eq!(cast(DType::Bool).as_bool(), Some(&[1, 1, 1, 1][..]));
    }
}
