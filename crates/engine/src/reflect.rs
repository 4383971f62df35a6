//! What a linked module binds, read off naga's IR, so that nothing is typed twice.

use naga::{AddressSpace, StorageAccess, TypeInner};

/// How a variable is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingKind {
    /// `var<uniform>`.
    Uniform,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// A bound variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundVariable {
    /// Its name.
    pub name: String,
    /// Its binding number in group 0.
    pub binding: u32,
    /// How it is bound.
    pub kind: BindingKind,
}

/// A field of `struct Params`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamField {
    /// Its name.
    pub name: String,
    /// Its offset in bytes.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// What a module binds and how its parameters lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reflection {
    /// Variables of group 0, by binding number.
    pub variables: Vec<BoundVariable>,
    /// Fields of the uniform's struct.
    pub params: Vec<ParamField>,
}

/// Reads a module's interface; the error says what about it is not as launches need it.
pub fn reflect(module: &naga::Module) -> Result<Reflection, String> {
    let mut reflection = Reflection::default();
    for (_, variable) in module.global_variables.iter() {
        let kind = match variable.space {
            AddressSpace::Uniform => BindingKind::Uniform,
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                BindingKind::ReadWrite
            }
            AddressSpace::Storage { .. } => BindingKind::Read,
            _ => continue,
        };
        let name = variable.name.clone().unwrap_or_default();
        let Some(binding) = &variable.binding else { return Err(format!("{name} has no binding")) };
        if binding.group != 0 {
            return Err(format!("{name} is bound in group {}, and only group 0 is used", binding.group));
        }
        if kind == BindingKind::Uniform {
            let TypeInner::Struct { members, .. } = &module.types[variable.ty].inner else {
                return Err(format!("the uniform {name} is not a struct"));
            };
            reflection.params = members
                .iter()
                .map(|member| ParamField {
                    name: member.name.clone().unwrap_or_default(),
                    offset: member.offset as usize,
                    size: module.types[member.ty].inner.size(module.to_ctx()) as usize,
                })
                .collect();
        }
        reflection.variables.push(BoundVariable { name, binding: binding.binding, kind });
    }
    reflection.variables.sort_by_key(|variable| variable.binding);
    Ok(reflection)
}
