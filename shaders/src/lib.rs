//! Kiln's WGSL: whole files, embedded by name, and the linker that puts them together.
//!
//! A kernel is a list of [`Unit`]s. Units share names: `elem_f32.wgsl` and `elem_f16.wgsl` both define `Elem`, and a
//! kernel links one of them. Linking is concatenation, since WGSL's module scope does not depend on order, with
//! `enable` directives hoisted to the front, where WGSL wants them.
#![deny(missing_docs)]

mod files;

use std::borrow::Cow;
use std::fmt;

pub use files::*;

/// A piece of WGSL at module scope.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The file's name, for messages.
    pub name: Cow<'static, str>,
    /// The text.
    pub source: Cow<'static, str>,
    /// Whether it is part of Kiln. The engine keeps every robustness check for kernels with a unit that is not.
    pub trusted: bool,
}

impl Unit {
    /// A unit of Kiln's own.
    pub(crate) const fn file(name: &'static str, source: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), source: Cow::Borrowed(source), trusted: true }
    }

    /// A unit made by Kiln's own code: constants or calls by name.
    pub fn generated(name: &'static str, source: String) -> Self {
        Self { name: Cow::Borrowed(name), source: Cow::Owned(source), trusted: true }
    }

    /// A unit of `const` lines, for sizes of arrays in function scope, which pipeline constants cannot give.
    pub fn constants(values: &[(&str, u32)]) -> Self {
        let lines = values.iter().map(|(name, value)| format!("const {name} = {value}u;\n"));
        Self::generated("constants", lines.collect())
    }

    /// A unit from outside Kiln.
    pub fn custom(name: impl Into<Cow<'static, str>>, source: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), source: source.into(), trusted: false }
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

/// Links units into one module. A unit given twice is linked once. Each part begins with a comment that names it.
pub fn link(units: &[Unit]) -> String {
    let mut enables: Vec<&str> = Vec::new();
    let mut body = String::new();
    for (i, unit) in units.iter().enumerate() {
        if units[..i].contains(unit) {
            continue;
        }
        body.push_str("\n// ---- ");
        body.push_str(&unit.name);
        body.push('\n');
        for line in unit.source.lines() {
            if line.starts_with("enable ") {
                if !enables.contains(&line) {
                    enables.push(line);
                }
            } else {
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    let mut module = String::with_capacity(body.len() + 64);
    for line in enables {
        module.push_str(line);
        module.push('\n');
    }
    module + &body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enables_are_hoisted_and_units_linked_once() {
        let a = Unit::custom("a", "enable f16;\nconst A = 1;");
        let b = Unit::custom("b", "enable f16;\nconst B = 2;");
        let module = link(&[b.clone(), a.clone(), b]);
        assert!(module.starts_with("enable f16;\n\n"));
        assert_eq!(module.matches("enable f16;").count(), 1);
        assert_eq!(module.matches("const B").count(), 1);
        assert!(module.contains("const A = 1;"));
    }

    #[test]
    fn constants_are_unsigned() {
        assert_eq!(Unit::constants(&[("ROWS", 8)]).source, "const ROWS = 8u;\n");
    }
}
