//! Host tensors: dense, row-major, one of five element types.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use half::f16;

use crate::DType;

/// Shape and element type of a tensor.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorDesc {
    /// Extents, outermost first. An empty shape is a scalar; an extent may be 0.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
}

impl TensorDesc {
    /// A description of a tensor of this shape and type.
    pub fn new(shape: impl Into<Vec<usize>>, dtype: DType) -> Self {
        Self { shape: shape.into(), dtype }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.shape)
    }

    /// The last extent, 1 for a scalar.
    pub fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

impl fmt::Debug for TensorDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for TensorDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// Row-major strides, in elements, of a shape.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    Bool(Vec<u32>),
}

/// A tensor in host memory. Cloning shares the elements.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Data>,
}

/// Elements that do not fill their shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} elements do not fill the shape {shape:?}")]
pub struct LengthError {
    /// Number of elements given.
    pub len: usize,
    /// Shape asked for.
    pub shape: Vec<usize>,
}

macro_rules! constructor {
    ($name:ident, $view:ident, $variant:ident, $element:ty, $doc:literal) => {
        #[doc = concat!("A tensor of ", $doc, " from its elements in row-major order.")]
        pub fn $name(shape: impl Into<Vec<usize>>, data: Vec<$element>) -> Result<Self, LengthError> {
            Self::new(shape.into(), data.len(), Data::$variant(data))
        }

        #[doc = concat!("The elements, where they are ", $doc, ".")]
        pub fn $view(&self) -> Option<&[$element]> {
            match &*self.data {
                Data::$variant(data) => Some(data),
                _ => None,
            }
        }
    };
}

impl Tensor {
    constructor!(f32, as_f32, F32, f32, "f32");
    constructor!(f16, as_f16, F16, f16, "f16");
    constructor!(i32, as_i32, I32, i32, "i32");
    constructor!(u32, as_u32, U32, u32, "u32");
    constructor!(bool, as_bool, Bool, u32, "truth values (0 or 1)");

    fn new(shape: Vec<usize>, len: usize, data: Data) -> Result<Self, LengthError> {
        if shape.iter().product::<usize>() != len {
            return Err(LengthError { len, shape });
        }
        Ok(Self { shape, data: Arc::new(data) })
    }

    /// A scalar of type f32.
    pub fn scalar(value: f32) -> Self {
        Self { shape: Vec::new(), data: Arc::new(Data::F32(vec![value])) }
    }

    /// A tensor of zeros.
    pub fn zeros(desc: &TensorDesc) -> Self {
        let len = desc.len();
        let data = match desc.dtype {
            DType::F32 => Data::F32(vec![0.0; len]),
            DType::F16 => Data::F16(vec![f16::ZERO; len]),
            DType::I32 => Data::I32(vec![0; len]),
            DType::U32 => Data::U32(vec![0; len]),
            DType::Bool => Data::Bool(vec![0; len]),
        };
        Self { shape: desc.shape.clone(), data: Arc::new(data) }
    }

    /// Values rounded to `dtype` (to nearest even for floats; towards zero, saturating, for
    /// integers; non-zero is true).
    pub fn from_f64(shape: impl Into<Vec<usize>>, dtype: DType, values: &[f64]) -> Result<Self, LengthError> {
        let data = match dtype {
            DType::F32 => Data::F32(values.iter().map(|&v| v as f32).collect()),
            DType::F16 => Data::F16(values.iter().map(|&v| f16::from_f64(v)).collect()),
            DType::I32 => Data::I32(values.iter().map(|&v| v as i32).collect()),
            DType::U32 => Data::U32(values.iter().map(|&v| v as u32).collect()),
            DType::Bool => Data::Bool(values.iter().map(|&v| u32::from(v != 0.0)).collect()),
        };
        Self::new(shape.into(), values.len(), data)
    }

    /// A tensor from the bytes of its elements, little-endian, as they lie on the device.
    pub fn from_bytes(desc: &TensorDesc, bytes: &[u8]) -> Result<Self, LengthError> {
        if bytes.len() != desc.bytes() {
            let len = bytes.len() / desc.dtype.size();
            return Err(LengthError { len, shape: desc.shape.clone() });
        }
        let data = match desc.dtype {
            DType::F32 => Data::F32(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::F16 => Data::F16(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::I32 => Data::I32(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::U32 => Data::U32(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::Bool => Data::Bool(bytemuck::allocation::pod_collect_to_vec(bytes)),
        };
        Ok(Self { shape: desc.shape.clone(), data: Arc::new(data) })
    }

    /// The bytes of the elements, little-endian, as they lie on the device.
    pub fn as_bytes(&self) -> &[u8] {
        match &*self.data {
            Data::F32(data) => bytemuck::cast_slice(data),
            Data::F16(data) => bytemuck::cast_slice(data),
            Data::I32(data) => bytemuck::cast_slice(data),
            Data::U32(data) | Data::Bool(data) => bytemuck::cast_slice(data),
        }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match &*self.data {
            Data::F32(_) => DType::F32,
            Data::F16(_) => DType::F16,
            Data::I32(_) => DType::I32,
            Data::U32(_) => DType::U32,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// Shape and element type.
    pub fn desc(&self) -> TensorDesc {
        TensorDesc { shape: self.shape.clone(), dtype: self.dtype() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements widened to f64, exactly.
    pub fn to_f64(&self) -> Vec<f64> {
        match &*self.data {
            Data::F32(data) => data.iter().map(|&v| f64::from(v)).collect(),
            Data::F16(data) => data.iter().map(|&v| v.to_f64()).collect(),
            Data::I32(data) => data.iter().map(|&v| f64::from(v)).collect(),
            Data::U32(data) | Data::Bool(data) => data.iter().map(|&v| f64::from(v)).collect(),
        }
    }

    /// The elements as f32, borrowed where that is what they are; integers are rounded.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match &*self.data {
            Data::F32(data) => Cow::Borrowed(data),
            Data::F16(data) => data.iter().map(|v| v.to_f32()).collect(),
            Data::I32(data) => data.iter().map(|&v| v as f32).collect(),
            Data::U32(data) | Data::Bool(data) => data.iter().map(|&v| v as f32).collect(),
        }
    }

    /// The same values in another type; see [`Tensor::from_f64`] for the rounding.
    pub fn cast(&self, dtype: DType) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        let data = match (&*self.data, dtype) {
            (Data::F32(data), DType::F16) => Data::F16(data.iter().map(|&v| f16::from_f32(v)).collect()),
            (Data::F16(data), DType::F32) => Data::F32(data.iter().map(|v| v.to_f32()).collect()),
            _ => {
                let values = self.to_f64();
                match dtype {
                    DType::F32 => Data::F32(values.iter().map(|&v| v as f32).collect()),
                    DType::F16 => Data::F16(values.iter().map(|&v| f16::from_f64(v)).collect()),
                    DType::I32 => Data::I32(values.iter().map(|&v| v as i32).collect()),
                    DType::U32 => Data::U32(values.iter().map(|&v| v as u32).collect()),
                    DType::Bool => Data::Bool(values.iter().map(|&v| u32::from(v != 0.0)).collect()),
                }
            }
        };
        Self { shape: self.shape.clone(), data: Arc::new(data) }
    }

    /// The same elements under another shape.
    pub fn reshape(&self, shape: impl Into<Vec<usize>>) -> Result<Self, LengthError> {
        let shape = shape.into();
        if shape.iter().product::<usize>() != self.len() {
            return Err(LengthError { len: self.len(), shape });
        }
        Ok(Self { shape, data: self.data.clone() })
    }

    /// Elements picked by their flat index, in their own type: the basis of every op that only
    /// moves data. `None` puts a zero. An index past the end also gives zero.
    pub fn pick(
        &self,
        shape: impl Into<Vec<usize>>,
        source: impl Iterator<Item = Option<usize>>,
    ) -> Result<Self, LengthError> {
        fn collect<T: Copy>(data: &[T], zero: T, source: impl Iterator<Item = Option<usize>>) -> Vec<T> {
            source.map(|i| i.and_then(|i| data.get(i).copied()).unwrap_or(zero)).collect()
        }
        let data = match &*self.data {
            Data::F32(data) => Data::F32(collect(data, 0.0, source)),
            Data::F16(data) => Data::F16(collect(data, f16::ZERO, source)),
            Data::I32(data) => Data::I32(collect(data, 0, source)),
            Data::U32(data) => Data::U32(collect(data, 0, source)),
            Data::Bool(data) => Data::Bool(collect(data, 0, source)),
        };
        let len = match &data {
            Data::F32(data) => data.len(),
            Data::F16(data) => data.len(),
            Data::I32(data) => data.len(),
            Data::U32(data) | Data::Bool(data) => data.len(),
        };
        Self::new(shape.into(), len, data)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: Vec<f64> = self.to_f64().into_iter().take(6).collect();
        write!(f, "{} {head:?}", self.desc())?;
        if self.len() > head.len() { write!(f, "...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_must_fill_the_shape() {
        assert!(Tensor::f32([2, 3], vec![0.0; 5]).is_err());
        assert!(Tensor::f32([2, 0], vec![]).is_ok());
        assert!(Tensor::scalar(1.0).reshape([1, 1]).is_ok());
    }

    #[test]
    fn casts_round_to_nearest_even() {
        let x = Tensor::f32([3], vec![1.0 + 2f32.powi(-11), 65520.0, -0.0]).unwrap();
        let y = x.cast(DType::F16);
        assert_eq!(y.to_f64(), vec![1.0, f64::INFINITY, -0.0]);
        assert_eq!(
            Tensor::f32([2], vec![-1.7, 3e10]).unwrap().cast(DType::I32).as_i32(),
            Some(&[-1, i32::MAX][..])
        );
    }

    #[test]
    fn bytes_round_trip() {
        let x = Tensor::f16([3], vec![f16::from_f32(0.5); 3]).unwrap();
        assert_eq!(Tensor::from_bytes(&x.desc(), x.as_bytes()).unwrap(), x);
        assert!(Tensor::from_bytes(&x.desc(), &[0; 5]).is_err());
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert!(strides(&[]).is_empty());
    }
}
