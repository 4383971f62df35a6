//! A device's choices: shipped ones, and those in its file.

use std::sync::{Arc, Mutex, PoisonError};

use kiln_graph::Tier;
use kiln_graph::random::fnv1a64;

use super::Storage;
use super::table::{Entry, Owner, Table};
use crate::Checks;

/// Tables of known devices: a list of what cache files hold, looked up before those.
const SHIPPED: &str = include_str!("shipped.json");

/// What is known of a device. The file is read when a choice is first asked for.
#[derive(Debug)]
pub(crate) struct Choices {
    owner: Owner,
    storage: Option<Arc<dyn Storage>>,
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    /// Everything: the file's, over it the shipped, over it this process's own.
    all: Table,
    /// What this process measured and did not yet write.
    fresh: Table,
}

impl Choices {
    pub fn new(device: String, tier: &Tier, checks: Checks, storage: Option<Arc<dyn Storage>>) -> Self {
        let tier = format!("{:016x}", fnv1a64(&format!("{tier:?} {checks:?}")));
        let owner = Owner { kiln: env!("CARGO_PKG_VERSION").into(), device, tier };
        Self { owner, storage, known: Mutex::new(None) }
    }

    /// The file's name: something of the device's, so that a person finds it, and a hash of all of it. Another version
    /// of Kiln takes the file over.
    fn file(&self) -> String {
        let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.owner.device.chars().map(kept).take(40).collect();
        let hash = fnv1a64(&format!("{} {}", self.owner.device, self.owner.tier));
        format!("tuning-{}-{hash:016x}.json", name.trim_matches('-'))
    }

    /// What the file holds; nothing where there is none or it is of no use.
    fn stored(&self) -> Table {
        let nothing = || Table::new(self.owner.clone());
        let loaded = self.storage.as_ref().map_or(Ok(None), |storage| storage.load(&self.file()));
        let parsed = match loaded {
            Ok(None) => return nothing(),
            Ok(Some(text)) => Table::parse(&text, &self.owner),
            Err(reason) => Err(reason),
        };
        parsed.unwrap_or_else(|reason| {
            log::warn!("stored tuning {} is ignored: {reason}", self.file());
            nothing()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        look(known.get_or_insert_with(|| {
            let mut all = self.stored();
            for table in shipped().iter().filter(|table| table.owner == self.owner) {
                all.merge(table);
            }
            Known { all, fresh: Table::new(self.owner.clone()) }
        }))
    }

    /// What was measured under a key.
    pub fn entry(&self, key: &str) -> Option<Entry> {
        self.with(|known| known.all.choices.get(key).cloned())
    }

    /// Adds what was measured.
    pub fn record(&self, key: &str, launch: &str, seconds: Option<f64>) {
        self.with(|known| {
            for table in [&mut known.all, &mut known.fresh] {
                table.choices.entry(key.to_string()).or_default().0.insert(launch.to_string(), seconds);
            }
        });
    }

    /// Writes what was added to the file, beside what others put there meanwhile.
    pub fn save(&self) {
        let Some(storage) = &self.storage else { return };
        self.with(|known| {
            if known.fresh.choices.is_empty() {
                return;
            }
            let mut table = self.stored();
            table.merge(&known.fresh);
            let saved = serde_json::to_string_pretty(&table)
                .map_err(|error| error.to_string())
                .and_then(|text| storage.save(&self.file(), &text));
            match saved {
                Ok(()) => known.fresh.choices.clear(),
                Err(reason) => log::warn!("tuning cannot be stored: {reason}"),
            }
        });
    }
}

/// The shipped tables. A test reads them, so that a broken list does not get this far.
fn shipped() -> Vec<Table> {
    serde_json::from_str(SHIPPED).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_tables_can_be_read() {
        let tables: Vec<Table> = serde_json::from_str(SHIPPED).unwrap();
        assert_eq!(tables, shipped());
    }

    #[test]
    fn devices_and_tiers_have_files_of_their_own() {
        let choices =
            |device: &str, checks| Choices::new(device.into(), &Tier::webgpu(), checks, None).file();
        let file = choices("A GPU/7 (Vulkan, x 1.2)", Checks::Fast);
        assert!(file.starts_with("tuning-a-gpu-7--vulkan--x-1-2-") && file.ends_with(".json"), "{file}");
        assert_ne!(file, choices("A GPU/7 (Vulkan, x 1.3)", Checks::Fast));
        assert_ne!(file, choices("A GPU/7 (Vulkan, x 1.2)", Checks::All));
    }
}
