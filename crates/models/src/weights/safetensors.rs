//! Reading `.safetensors` files tensor by tensor. Files are untrusted: every length is checked before use.
//!
//! Format: <https://huggingface.co/docs/safetensors>. Eight bytes of header length, little-endian; the header, a JSON
//! object from tensor names to type, shape and byte range; the bytes. Byte ranges have to fill the rest of the file
//! without gap or overlap.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};
use kiln_graph::Tensor;
use safetensors::tensor::{Dtype, TensorInfo};
use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value as Json;

use super::{Files, WeightError};

/// Largest header, as in the format's own implementation.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes before the header.
const PREFIX: u64 = 8;

/// A tensor of a file that has not been read yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Element type in the file.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// First byte in the file.
    start: u64,
    /// Number of bytes.
    bytes: usize,
}

/// An open file: its header, checked, and access to its tensors.
#[derive(Clone, Debug)]
pub struct SafeTensors {
    files: Arc<dyn Files>,
    name: String,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// The header's entries in file order, and its metadata; a name that is given twice is refused.
struct Header(Vec<(String, TensorInfo)>, BTreeMap<String, String>);

impl<'de> serde::Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut entries, mut metadata) = (Vec::new(), BTreeMap::new());
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        // What is no text, though the format wants it, means nothing here.
                        let all = map.next_value::<Json>()?;
                        let texts = all.as_object().into_iter().flatten();
                        let texts =
                            texts.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.into())));
                        metadata.extend(texts);
                        continue;
                    }
                    let info = map
                        .next_value::<TensorInfo>()
                        .map_err(|error| A::Error::custom(format!("tensor {name:?}: {error}")))?;
                    entries.push((name, info));
                }
                Ok(Header(entries, metadata))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl SafeTensors {
    /// Reads and checks the header of the file `name`.
    pub fn open(files: Arc<dyn Files>, name: &str) -> Result<Self, WeightError> {
        let path = files.display(name);
        let io = |error| WeightError::Io { file: path.clone(), error };
        let wrong = |reason: String| WeightError::File { file: path.clone(), reason };
        let Some(size) = files.size(name).map_err(io)? else {
            return Err(io(std::io::ErrorKind::NotFound.into()));
        };
        if size < PREFIX {
            return Err(wrong(format!("it has only {size} bytes, which is no safetensors file")));
        }
        let mut prefix = [0; PREFIX as usize];
        files.read_at(name, 0, &mut prefix).map_err(io)?;
        let header = u64::from_le_bytes(prefix);
        if header > MAX_HEADER {
            let reason = format!("its header claims {header} bytes, and at most {MAX_HEADER} are allowed");
            return Err(wrong(reason));
        }
        if header > size - PREFIX {
            let left = size - PREFIX;
            return Err(wrong(format!("its header claims {header} bytes, and the file has {left} more")));
        }
        let mut bytes = vec![0; header as usize];
        files.read_at(name, PREFIX, &mut bytes).map_err(io)?;
        let Header(infos, metadata) = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("its header cannot be read: {error}")))?;
        let entries = check(infos, PREFIX + header, size).map_err(wrong)?;
        Ok(Self { files, name: name.to_string(), entries, metadata })
    }

    /// The file's name, as errors show it.
    pub fn display(&self) -> String {
        self.files.display(&self.name)
    }

    /// Tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// What the file says of itself: texts by name.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads a tensor: f32 and f16 as they are, bf16 widened and f64 rounded to f32, integers as i32 (or u32) where
    /// they fit, truth values as such.
    pub fn load(&self, name: &str) -> Result<Tensor, WeightError> {
        let wrong = |reason: String| WeightError::Tensor { file: self.display(), name: name.into(), reason };
        let entry = self.entries.get(name).ok_or_else(|| wrong("is missing".into()))?;
        let mut bytes = vec![0; entry.bytes];
        self.files
            .read_at(&self.name, entry.start, &mut bytes)
            .map_err(|error| WeightError::Io { file: self.display(), error })?;
        decode(entry, &bytes).map_err(wrong)
    }
}

/// Checks that the tensors' byte ranges fill `data..size` exactly.
fn check(
    mut infos: Vec<(String, TensorInfo)>,
    data: u64,
    size: u64,
) -> Result<BTreeMap<String, Entry>, String> {
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut entries = BTreeMap::new();
    let mut end = data;
    for (name, info) in infos {
        let (from, to) = info.data_offsets;
        let start = data.checked_add(from as u64);
        let stop = data.checked_add(to as u64);
        let (Some(start), Some(stop)) = (start, stop) else {
            return Err(format!("tensor {name:?} has a byte range over every limit"));
        };
        if stop < start {
            return Err(format!("tensor {name:?} ends before it starts"));
        }
        if stop > size {
            let missing = stop - size;
            return Err(format!(
                "it is truncated: tensor {name:?} needs {missing} bytes more than there are"
            ));
        }
        if start < end {
            return Err(format!("tensor {name:?} overlaps another tensor or the header"));
        }
        if start > end {
            return Err(format!("before tensor {name:?} there are {} bytes of no tensor", start - end));
        }
        let elements = info.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        let bytes = (stop - start) as usize;
        if bits != bytes.checked_mul(8) {
            return Err(format!(
                "tensor {name:?} has {bytes} bytes, which is not what {} of shape {:?} takes",
                info.dtype, info.shape
            ));
        }
        end = stop;
        let entry = Entry { dtype: info.dtype, shape: info.shape, start, bytes };
        if entries.insert(name.clone(), entry).is_some() {
            return Err(format!("tensor {name:?} is there twice"));
        }
    }
    if end < size {
        return Err(format!("after the last tensor there are {} bytes of no tensor", size - end));
    }
    Ok(entries)
}

/// Elements of `N` bytes.
fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&element| read(element)).collect()
}

/// Integers as i32.
fn narrow<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Result<Vec<i32>, String>
where
    T: TryInto<i32> + fmt::Display + Copy,
{
    let (elements, _) = bytes.as_chunks::<N>();
    let fit = |&element: &[u8; N]| {
        let value = read(element);
        value.try_into().map_err(|_| format!("holds {value}, which does not fit in 32 bits"))
    };
    elements.iter().map(fit).collect()
}

fn decode(entry: &Entry, bytes: &[u8]) -> Result<Tensor, String> {
    let shape = entry.shape.clone();
    let tensor = match entry.dtype {
        Dtype::F32 => Tensor::f32(shape, elements(bytes, f32::from_le_bytes)),
        Dtype::F16 => Tensor::f16(shape, elements(bytes, f16::from_le_bytes)),
        Dtype::BF16 => Tensor::f32(shape, elements(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        Dtype::F64 => Tensor::f32(shape, elements(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::I64 => Tensor::i32(shape, narrow(bytes, i64::from_le_bytes)?),
        Dtype::U64 => Tensor::i32(shape, narrow(bytes, u64::from_le_bytes)?),
        Dtype::I32 => Tensor::i32(shape, elements(bytes, i32::from_le_bytes)),
        Dtype::U32 => Tensor::u32(shape, elements(bytes, u32::from_le_bytes)),
        Dtype::I16 => Tensor::i32(shape, narrow(bytes, i16::from_le_bytes)?),
        Dtype::U16 => Tensor::i32(shape, narrow(bytes, u16::from_le_bytes)?),
        Dtype::I8 => Tensor::i32(shape, narrow(bytes, i8::from_le_bytes)?),
        Dtype::U8 => Tensor::i32(shape, narrow(bytes, u8::from_le_bytes)?),
        Dtype::BOOL => Tensor::bool(shape, bytes.iter().map(|&b| u32::from(b != 0)).collect()),
        other => return Err(format!("is of type {other}, which Kiln does not read")),
    };
    tensor.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Memory;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn open(bytes: Vec<u8>) -> Result<SafeTensors, String> {
        let mut files = Memory::new();
        files.insert("m.safetensors", bytes);
        SafeTensors::open(Arc::new(files), "m.safetensors").map_err(|error| error.to_string())
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"I64","shape":[1],"data_offsets":[6,14]},
        "a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}"#;

    #[test]
    fn tensors_are_read_by_name() {
        let data = [0x80, 0x3f, 0, 0x40, 0x40, 0xc0, 7, 0, 0, 0, 0, 0, 0, 0];
        let file = open(file(TWO, &data)).unwrap();
        assert_eq!(file.load("a").unwrap().as_f32(), Some(&[1.0, 2.0, -3.0][..]));
        assert_eq!(file.load("b").unwrap().as_i32(), Some(&[7][..]));
        assert!(file.load("c").unwrap_err().to_string().contains("\"c\" is missing"));
        assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    }

    #[test]
    fn integers_that_do_not_fit_are_refused() {
        let file = open(file(TWO, &[[0; 6].as_slice(), &[0xff; 4], &[0; 4]].concat())).unwrap();
        assert!(file.load("b").unwrap_err().to_string().contains("4294967295"));
    }

    #[test]
    fn broken_files_are_refused_by_name() {
        let entry =
            |offsets: &str| format!(r#"{{"w":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        let cases = [
            (vec![], "only 0 bytes"),
            (vec![1; 7], "only 7 bytes"),
            (u64::MAX.to_le_bytes().to_vec(), "at most 100000000"),
            ([&1000u64.to_le_bytes()[..], b"{}"].concat(), "claims 1000 bytes"),
            (file("{", &[]), "cannot be read"),
            (file("\u{1}", &[]), "cannot be read"),
            (file(&entry("[0,8]"), &[0; 4]), "truncated: tensor \"w\" needs 4 bytes"),
            (file(&entry("[0,8]"), &[0; 12]), "4 bytes of no tensor"),
            (file(&entry("[4,12]"), &[0; 12]), "before tensor \"w\""),
            (file(&entry("[0,7]"), &[0; 7]), "tensor \"w\" has 7 bytes"),
            (file(&entry("[8,0]"), &[0; 8]), "ends before it starts"),
            (file(&entry("[0,18446744073709551615]"), &[0; 8]), "limit"),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                        "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                    &[0; 12],
                ),
                "tensor \"b\" overlaps",
            ),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                        "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                    &[0; 8],
                ),
                "\"a\" is there twice",
            ),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}"#,
                    &[0; 4],
                ),
                "not what F32",
            ),
            (file(r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]), "F99"),
        ];
        for (bytes, reason) in cases {
            let error = open(bytes).unwrap_err();
            assert!(error.contains(reason), "{error:?} does not say {reason:?}");
            assert!(error.contains("m.safetensors"), "{error:?} does not name the file");
        }
    }
}
