//! Where files go that are made of others.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Makes the folder for what is made of files, and says where each goes: by its name with `ending` for its own, numbered
/// where two have one name. None of the files is written over.
pub fn targets(folder: &Path, files: &[PathBuf], ending: &str) -> Result<Vec<PathBuf>> {
    let originals: HashSet<PathBuf> = files.iter().map(|path| whole(path)).collect();
    let mut taken = HashSet::new();
    let mut targets = Vec::new();
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let names = (1..).map(|i| match i {
            1 => format!("{stem}{ending}"),
            i => format!("{stem}-{i}{ending}"),
        });
        let free = names.map(|name| folder.join(name)).find(|path| taken.insert(path.clone()));
        let Some(target) = free else { bail!("{} has no free name", file.display()) };
        if originals.contains(&whole(&target)) {
            bail!("that would write over {}: name another folder", target.display());
        }
        targets.push(target);
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made a folder", folder.display()))?;
    Ok(targets)
}

/// Refuses a file to write that is one of those to read.
pub fn spare(target: &Path, files: &[PathBuf]) -> Result<()> {
    if files.iter().any(|file| whole(file) == whole(target)) {
        bail!("that would write over {}: name another file", target.display());
    }
    Ok(())
}

fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_get_names_of_their_own_and_spare_the_originals() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("a.png");
        std::fs::write(&picture, b"x").unwrap();
        let out = folder.path().join("out");
        let pictures = [picture.clone(), PathBuf::from("b/a.jpg"), PathBuf::from("c.png")];
        let names = targets(&out, &pictures, ".png").unwrap();
        assert_eq!(names, ["a.png", "a-2.png", "c.png"].map(|name| out.join(name)));
        let names = targets(folder.path(), &pictures, "-segments.png").unwrap();
        assert_eq!(names[1], folder.path().join("a-2-segments.png"));
        let error = targets(folder.path(), &pictures, ".png").unwrap_err().to_string();
        assert!(error.contains("write over"), "{error}");
        spare(&folder.path().join("b.png"), &pictures).unwrap();
        let error = spare(&out.join("../a.png"), &pictures).unwrap_err().to_string();
        assert!(error.contains("write over"), "{error}");
    }
}
