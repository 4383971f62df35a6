//! What the binary writes: lines, progress, and files that are whole or not there.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line to stdout. Where the reader has gone (`kiln check | head`), files are still written.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::output::line(format_args!($($argument)*))
    };
}
pub(crate) use say;

pub fn line(text: std::fmt::Arguments) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A bar of `length` steps on stderr, where that is a terminal.
pub fn bar(length: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(what.to_string());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// A spinner on stderr for work of unknown length, where that is a terminal.
pub fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.to_string());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A file that is written under another name and takes its own when it is whole.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    temporary: PathBuf,
}

impl Pending {
    /// Opens the file, so that a path that cannot be written is known before anything is computed.
    pub fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            bail!("{} is a folder, and a file's name is wanted", path.display());
        }
        let Some(name) = path.file_name() else { bail!("{} is no file's name", path.display()) };
        let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        // It is closed again: there may be thousands of them.
        File::create(&temporary).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { path: path.to_path_buf(), temporary })
    }

    /// Writes the content, and the file is there.
    pub fn commit(self, bytes: &[u8]) -> Result<()> {
        let write = || {
            let mut file = File::create(&self.temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            drop(file);
            std::fs::rename(&self.temporary, &self.path)
        };
        write().with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a rename there is nothing left of that name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
