//! What the commands that make pictures have in common: sizes, seeds and files.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::output::Pending;

/// PyTorch's generators tell no more of a seed apart.
pub const SEED_MASK: u64 = u32::MAX as u64;

/// A seed that nobody chose.
pub fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 & SEED_MASK
}

/// Height and width of a text as 512x768, which names the width first.
pub fn size(text: &str) -> Result<[usize; 2], String> {
    let sides =
        text.split_once('x').and_then(|(width, height)| Some([height.parse().ok()?, width.parse().ok()?]));
    sides.ok_or_else(|| format!("{text:?} is no size as 512x768 is"))
}

/// The files, so that a place that cannot be written to is known before anything is computed.
pub fn pending(names: &[PathBuf]) -> Result<Vec<Pending>> {
    for folder in names.iter().filter_map(|name| name.parent()).filter(|folder| *folder != Path::new("")) {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    if let Some(name) = names.iter().find(|name| name.is_dir()) {
        bail!("{} is a folder", name.display());
    }
    names.iter().map(|name| Pending::create(name)).collect()
}

/// So many pictures, in words.
pub fn counted(pictures: usize) -> String {
    if pictures == 1 { "one picture".into() } else { format!("{pictures} pictures") }
}
