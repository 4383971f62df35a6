//! Launches: what an op asks of a device, as plain data.
//!
//! Every kernel's work is a one-dimensional run of workgroups. The parameters' first two words are the first
//! group of a dispatch and the number of groups in all; the engine fills them, folds the run into a grid within the
//! device's limits and may cut it into several dispatches.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use kiln_shaders::Unit;

use crate::{OpError, Tensor};

/// Name, byte offset and byte size of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name, as in WGSL's `struct Params`.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// A kernel's uniform parameters: the bytes and the layout they were written in.
#[derive(Clone, Debug)]
pub struct Params {
    /// The struct's bytes. The first eight are the engine's.
    pub bytes: Vec<u8>,
    /// The struct's fields, compared with WGSL's by a test.
    pub fields: &'static [Field],
}

/// Declares a kernel's `Params` struct as it stands in its WGSL file, with `first_group` and `groups` in front.
///
/// Fields are `u32`, `i32`, `f32` or `[u32; 4]` (WGSL's `vec4<u32>`, which must start at a multiple of 16 bytes).
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default)]
        #[allow(missing_docs)]
        $vis struct $name {
            pub first_group: u32,
            pub groups: u32,
            $(pub $field: $ty,)*
        }

        impl $name {
            const FIELDS: &'static [$crate::Field] = &[
                $crate::Field { name: "first_group", offset: 0, size: 4 },
                $crate::Field { name: "groups", offset: 4, size: 4 },
                $($crate::Field {
                    name: stringify!($field),
                    offset: ::std::mem::offset_of!($name, $field),
                    size: ::std::mem::size_of::<$ty>(),
                },)*
            ];
        }

        impl From<$name> for $crate::Params {
            fn from(params: $name) -> Self {
                let mut bytes = vec![0; ::std::mem::size_of::<$name>()];
                $($crate::WriteParam::write(
                    &params.$field,
                    &mut bytes[::std::mem::offset_of!($name, $field)..],
                );)*
                Self { bytes, fields: $name::FIELDS }
            }
        }
    };
}

/// A value that can stand in a parameter struct.
pub trait WriteParam {
    /// Writes the value's little-endian bytes to the front of `out`.
    fn write(&self, out: &mut [u8]);
}

macro_rules! write_param {
    ($($ty:ty),*) => {$(
        impl WriteParam for $ty {
            fn write(&self, out: &mut [u8]) {
                let bytes = bytemuck::bytes_of(self);
                out[..bytes.len()].copy_from_slice(bytes);
            }
        }
    )*};
}
write_param!(u32, i32, f32, [u32; 4], [f32; 4], [i32; 4]);

/// A compute pipeline: linked WGSL units and the values of their `override`s. Its entry point is `main`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Units to link; see [`kiln_shaders::link`].
    pub units: Vec<Unit>,
    /// Values of pipeline-overridable constants. Integers all, so that a kernel can be a key.
    pub overrides: Vec<(&'static str, u32)>,
}

impl Kernel {
    /// A kernel of these units, without overrides.
    pub fn new(units: impl Into<Vec<Unit>>) -> Self {
        Self { units: units.into(), overrides: Vec::new() }
    }

    /// Sets a pipeline-overridable constant.
    pub fn set(mut self, name: &'static str, value: u32) -> Self {
        self.overrides.push((name, value));
        self
    }
}

/// Where a binding's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An input of the op, epilogue operands included.
    Input(usize),
    /// An output of the op.
    Output(usize),
    /// Scratch memory of the launch.
    Scratch(usize),
    /// A table of the launch.
    Table(usize),
}

/// A storage buffer bound to a kernel's variable of this name.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The WGSL variable's name.
    pub name: Cow<'static, str>,
    /// What is bound.
    pub source: Source,
    /// The bytes of it that are bound; everything where there is none.
    pub range: Option<Range<u64>>,
}

/// One run of workgroups.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What runs.
    pub kernel: Kernel,
    /// Its uniform parameters, `params` in WGSL.
    pub params: Params,
    /// Its storage buffers.
    pub bindings: Vec<Binding>,
    /// Number of workgroups; 0 does nothing.
    pub groups: u64,
}

impl Dispatch {
    /// A dispatch without bindings.
    pub fn new(kernel: Kernel, params: impl Into<Params>, groups: u64) -> Self {
        Self { kernel, params: params.into(), bindings: Vec::new(), groups }
    }

    /// Binds all of a source to a variable.
    pub fn bind(mut self, name: impl Into<Cow<'static, str>>, source: Source) -> Self {
        self.bindings.push(Binding { name: name.into(), source, range: None });
        self
    }

    /// Binds a range of bytes of a source to a variable.
    pub fn bind_range(
        mut self,
        name: impl Into<Cow<'static, str>>,
        source: Source,
        range: Range<u64>,
    ) -> Self {
        self.bindings.push(Binding { name: name.into(), source, range: Some(range) });
        self
    }
}

/// A change of layout of a constant input, made once on the host when the graph is compiled.
#[derive(Clone)]
pub struct Pack {
    /// Which input.
    pub input: usize,
    /// Names the layout, so that two launches that want the same one share it.
    pub key: String,
    /// Makes it.
    pub apply: Arc<dyn Fn(&Tensor) -> Result<Tensor, OpError> + Send + Sync>,
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pack({} -> {})", self.input, self.key)
    }
}

/// One way to compute an op on a device.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The strategy, for reports and for choosing (`"lanes"`, `"tiled"`, `"direct"` ...).
    pub name: &'static str,
    /// Sizes in bytes of the scratch buffers it needs.
    pub scratch: Vec<u64>,
    /// Constant data made on the host, bound as storage buffers.
    pub tables: Vec<Vec<u8>>,
    /// Layout changes of constant inputs.
    pub packs: Vec<Pack>,
    /// What runs, in order.
    pub dispatches: Vec<Dispatch>,
}

impl Launch {
    /// A launch of one dispatch.
    pub fn one(name: &'static str, dispatch: Dispatch) -> Self {
        Self { name, dispatches: vec![dispatch], ..Self::default() }
    }
}
