//! Where tables are kept between processes.

/// Keeps small texts by name. Browsers have no files, so that an application may bring its own; see
/// [`crate::GpuOptions::storage`].
pub trait Storage: std::fmt::Debug + Send + Sync {
    /// The text of this name, or `None` where there is none. The error is one sentence.
    fn load(&self, name: &str) -> Result<Option<String>, String>;

    /// Keeps a text under a name, in place of what was there: whoever loads meanwhile gets either one, whole. The error
    /// is one sentence.
    fn save(&self, name: &str, text: &str) -> Result<(), String>;
}

#[cfg(not(target_arch = "wasm32"))]
pub use folder::FolderStorage;

#[cfg(not(target_arch = "wasm32"))]
mod folder {
    use std::fs::File;
    use std::io::{ErrorKind, Read};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Storage;

    /// Bytes of a file that are read at most: a table of ten thousand choices is smaller.
    const MAX_BYTES: u64 = 16 << 20;

    /// A folder with a file a name.
    #[derive(Clone, Debug)]
    pub struct FolderStorage(PathBuf);

    impl FolderStorage {
        /// Files in this folder, which is made when the first is written.
        pub fn new(folder: impl Into<PathBuf>) -> Self {
            Self(folder.into())
        }

        /// The user's: `KILN_CACHE` where it is set, else `kiln` in the system's folder for caches (`XDG_CACHE_HOME` or
        /// `~/.cache`, `~/Library/Caches`, `%LOCALAPPDATA%`). None where there is no such place.
        pub fn user() -> Option<Self> {
            let named = std::env::var_os("KILN_CACHE").filter(|folder| !folder.is_empty());
            let folder = named.map(PathBuf::from).or_else(|| Some(dirs::cache_dir()?.join("kiln")));
            folder.map(Self)
        }

        fn write(&self, path: &Path, text: &str) -> std::io::Result<()> {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            std::fs::create_dir_all(&self.0)?;
            // Nobody else writes to this name, and a rename replaces the whole file at once.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
            let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
            if written.is_err() {
                let _ = std::fs::remove_file(&temporary);
            }
            written
        }
    }

    impl Storage for FolderStorage {
        fn load(&self, name: &str) -> Result<Option<String>, String> {
            let path = self.0.join(name);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(format!("{}: {error}", path.display())),
            };
            let mut text = String::new();
            let read = file.take(MAX_BYTES).read_to_string(&mut text);
            read.map(|_| Some(text)).map_err(|error| format!("{}: {error}", path.display()))
        }

        fn save(&self, name: &str, text: &str) -> Result<(), String> {
            let path = self.0.join(name);
            self.write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}
