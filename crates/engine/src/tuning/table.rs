//! Tables of what was measured, as they stand in files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Seconds of an op's launches, by name; none for a launch that failed or gave other numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Entry(pub BTreeMap<String, Option<f64>>);

impl Entry {
    /// The fastest of these launches that was measured.
    pub fn fastest(&self, offered: &[&str]) -> Option<usize> {
        let seconds = |name: &str| self.0.get(name).copied().flatten().filter(|s| s.is_finite() && *s >= 0.0);
        let measured = offered.iter().enumerate().filter_map(|(i, name)| Some((i, seconds(name)?)));
        measured.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    /// Whether each of these launches was tried.
    pub fn covers(&self, offered: &[&str]) -> bool {
        offered.iter().all(|name| self.0.contains_key(*name))
    }
}

/// Whose measurements they are. A choice for another device, driver or version says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Kiln's version.
    pub kiln: String,
    /// The adapter's name, its API and its driver with version.
    pub device: String,
    /// What kernels choose by, hashed: parts of a device that are switched off make another one of it.
    pub tier: String,
}

/// A device's choices: the content of a cache file, and of an element of `shipped.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    #[serde(flatten)]
    pub owner: Owner,
    /// Entries by key.
    pub choices: BTreeMap<String, Entry>,
}

impl Table {
    pub fn new(owner: Owner) -> Self {
        Self { owner, choices: BTreeMap::new() }
    }

    /// Reads a file of this owner's. The error says what is wrong with it.
    pub fn parse(text: &str, owner: &Owner) -> Result<Self, String> {
        let table: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if table.owner == *owner { Ok(table) } else { Err("it is another device's or version's".into()) }
    }

    /// Takes over all that `newer` knows.
    pub fn merge(&mut self, newer: &Self) {
        for (key, entry) in &newer.choices {
            let own = self.choices.entry(key.clone()).or_default();
            own.0.extend(entry.0.iter().map(|(name, seconds)| (name.clone(), *seconds)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(times: &[(&str, Option<f64>)]) -> Entry {
        Entry(times.iter().map(|(name, seconds)| (name.to_string(), *seconds)).collect())
    }

    #[test]
    fn the_fastest_offered_launch_is_taken() {
        let measured = entry(&[("a", Some(2.0)), ("b", Some(1.0)), ("c", None), ("gone", Some(0.1))]);
        assert_eq!(measured.fastest(&["a", "b", "c"]), Some(1));
        assert_eq!(measured.fastest(&["a", "c"]), Some(0));
        assert_eq!(measured.fastest(&["c", "new"]), None);
        assert!(measured.covers(&["a", "c"]) && !measured.covers(&["a", "new"]));
        // A file that somebody else wrote may hold anything.
        assert_eq!(entry(&[("a", Some(-1.0)), ("b", Some(3.0))]).fastest(&["a", "b"]), Some(1));
    }

    #[test]
    fn files_of_others_are_refused() {
        let owner = Owner { kiln: "1".into(), device: "d".into(), tier: "t".into() };
        let mut table = Table::new(owner.clone());
        table.choices.insert("k".into(), entry(&[("a", Some(0.5)), ("b", None)]));
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(Table::parse(&text, &owner).unwrap(), table);
        assert!(Table::parse(&text, &Owner { kiln: "2".into(), ..owner.clone() }).is_err());
        assert!(Table::parse(&text[..text.len() / 2], &owner).is_err());
        assert!(Table::parse("[]", &owner).is_err());
    }

    #[test]
    fn merging_keeps_what_the_other_does_not_know() {
        let owner = Owner { kiln: "1".into(), device: "d".into(), tier: "t".into() };
        let (mut old, mut new) = (Table::new(owner.clone()), Table::new(owner));
        old.choices.insert("k".into(), entry(&[("a", Some(1.0)), ("b", Some(2.0))]));
        old.choices.insert("l".into(), entry(&[("a", Some(1.0))]));
        new.choices.insert("k".into(), entry(&[("b", Some(3.0)), ("c", None)]));
        old.merge(&new);
        assert_eq!(old.choices["k"], entry(&[("a", Some(1.0)), ("b", Some(3.0)), ("c", None)]));
        assert_eq!(old.choices["l"], entry(&[("a", Some(1.0))]));
    }
}
