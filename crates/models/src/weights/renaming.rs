//! Names of weights in another layout.

use std::collections::BTreeMap;

/// Modules by their names in another layout. What lies within them has the same name in both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renaming(BTreeMap<String, String>);

impl Renaming {
    /// The other name of a weight, or `None` where none of its modules has one.
    pub fn apply(&self, name: &str) -> Option<String> {
        let within = |(at, _)| {
            let (module, rest) = name.split_at(at);
            Some(format!("{}{rest}", self.0.get(module)?))
        };
        // The innermost module decides.
        name.rmatch_indices('.').find_map(within)
    }
}

impl FromIterator<(String, String)> for Renaming {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(modules: T) -> Self {
        Self(modules.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_module_decides() {
        let pairs = [("a", "x"), ("a.b", "y.z"), ("c.1", "c.2")];
        let renaming: Renaming =
            pairs.map(|(from, to)| (from.to_string(), to.to_string())).into_iter().collect();
        let apply = |name: &str| renaming.apply(name);
        assert_eq!(apply("a.weight").as_deref(), Some("x.weight"));
        assert_eq!(apply("a.b.c.weight").as_deref(), Some("y.z.c.weight"));
        assert_eq!(apply("a.bb.weight").as_deref(), Some("x.bb.weight"));
        assert_eq!(apply("c.10.weight"), None);
        assert_eq!(apply("a"), None);
    }
}
