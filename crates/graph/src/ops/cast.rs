//! Change of element type.

use kiln_shaders::{self as shaders, Unit};

use crate::registry::{Case, Fill};
use crate::{
    Builder, DType, Dispatch, GraphError, Independence, Io, Kernel, Launch, Op, OpError, Source, Tensor,
    TensorDesc, Tier, Value, params,
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

/// Converts so many elements from one source to another.
pub(super) fn dispatch(from: (Source, DType), to: (Source, DType), len: usize, tier: &Tier) -> Dispatch {
    let workgroup = 64.min(tier.limits.max_invocations);
    let kernel = Kernel::new([from_unit(from.1), to_unit(to.1), shaders::GRID, shaders::CAST])
        .set("WORKGROUP", workgroup);
    let params = CastParams { len: len as u32, ..Default::default() };
    Dispatch::new(kernel, params, (len as u64).div_ceil(workgroup.into())).bind("x", from.0).bind("y", to.0)
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<Vec<TensorDesc>, OpError> {
        match inputs {
            [x] => Ok(vec![TensorDesc::new(x.shape.clone(), self.to)]),
            _ => Err(OpError::new(self.name(), inputs, "wants one input")),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![inputs[0].cast(self.to)])
    }

    fn independence(&self, _: &Io) -> Independence {
        Independence::Elements
    }

    fn launches(&self, io: &Io, tier: &Tier) -> Result<Vec<Launch>, OpError> {
        let (from, to) = ((Source::Input(0), io.inputs[0].dtype), (Source::Output(0), self.to));
        Ok(vec![Launch::one("direct", dispatch(from, to, io.outputs[0].len(), tier))])
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }
}

impl Builder {
    /// The same values in another type.
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
    cases.push(Case::new(Cast { to: DType::I32 }, [Fill::uniform(-9.0, 9.0).shape([7, 43])]).exact());
    let to_half = Fill::uniform(-70_000.0, 70_000.0).keep_f32().shape([1021]);
    cases.push(Case { dtypes: &[DType::F16], ..Case::new(Cast { to: DType::F16 }, [to_half]).exact() });
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
        assert_eq!(cast(DType::U32).as_u32(), Some(&[0, u32::MAX, 0, 0][..]));
        assert_eq!(cast(DType::Bool).as_bool(), Some(&[1, 1, 1, 1][..]));
    }
}
