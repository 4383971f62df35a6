//! Where model files lie. Native code reads folders; a browser brings bytes.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// Named files that can be read in part.
pub trait Files: Debug + Send + Sync {
    /// A file's length in bytes, or `None` where there is no such file.
    fn size(&self, name: &str) -> io::Result<Option<u64>>;

    /// Fills `buffer` from byte `offset` on, or fails.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The file's full name, as errors and messages show it.
    fn display(&self, name: &str) -> String;

    /// Names of the files directly in here, sorted.
    fn list(&self) -> io::Result<Vec<String>> {
        self.list_in("")
    }

    /// Names of the files directly in a folder in here, sorted: its name ends with a slash, or is empty for this folder.
    fn list_in(&self, folder: &str) -> io::Result<Vec<String>>;

    /// A whole file of at most `limit` bytes, or `None` where there is none.
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(size) = self.size(name)? else { return Ok(None) };
        if size > limit {
            let reason = format!("it has {size} bytes, and at most {limit} are expected");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut buffer = vec![0; size as usize];
        self.read_at(name, 0, &mut buffer)?;
        Ok(Some(buffer))
    }
}

/// The files of a folder within another.
#[derive(Clone, Debug)]
pub struct Part {
    whole: Arc<dyn Files>,
    prefix: String,
}

impl Part {
    /// The folder `name` within `whole`.
    pub fn new(whole: Arc<dyn Files>, name: &str) -> Self {
        Self { whole, prefix: format!("{name}/") }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Files for Part {
    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        self.whole.size(&self.full(name))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.whole.read_at(&self.full(name), offset, buffer)
    }

    fn display(&self, name: &str) -> String {
        self.whole.display(&self.full(name))
    }

    fn list_in(&self, folder: &str) -> io::Result<Vec<String>> {
        self.whole.list_in(&self.full(folder))
    }
}

/// Files in memory.
#[derive(Clone, Default)]
pub struct Memory {
    title: String,
    files: HashMap<String, Arc<[u8]>>,
}

impl Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files.keys()).finish()
    }
}

impl Memory {
    /// No file.
    pub fn new() -> Self {
        Self::default()
    }

    /// No file, of something that errors call `title`.
    pub fn of(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a file.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.files.insert(name.into(), bytes.into());
    }
}

impl Files for Memory {
    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.files.get(name).map(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let own = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
        buffer.copy_from_slice(own.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn display(&self, name: &str) -> String {
        if self.title.is_empty() { name.into() } else { format!("{}/{name}", self.title) }
    }

    fn list_in(&self, folder: &str) -> io::Result<Vec<String>> {
        let inside = |name: &String| Some(name.strip_prefix(folder)?.to_string());
        let mut names: Vec<String> =
            self.files.keys().filter_map(inside).filter(|name| !name.contains('/')).collect();
        names.sort();
        Ok(names)
    }
}

/// A folder of the file system.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Debug)]
pub struct Folder {
    path: std::path::PathBuf,
}

#[cfg(not(target_arch = "wasm32"))]
impl Folder {
    /// The folder at `path`.
    pub fn new(path: impl Into<std::path::PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder's path.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Files for Folder {
    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.path.join(name)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = std::fs::File::open(self.path.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }

    fn display(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn list_in(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path.join(folder))? {
            let entry = entry?;
            if entry.path().is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}
