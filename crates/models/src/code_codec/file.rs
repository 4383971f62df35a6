//! `.codes` files.

use super::arithmetic::{Reader, Writer};
use super::indices::{self, GAINS};
use super::{CodeMap, Codebook};

const MAGIC: [u8; 4] = *b"KLNC";
const VERSION: u8 = 1;
/// How codes are written: each in the fewest bits that hold every code, or as [`indices`] does it by one of its gains.
const FIXED: u8 = 0;

/// Codes that are no picture's, or that cannot be read. Each continues a file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodesError {
    /// It is something else.
    #[error("is no .codes file")]
    Magic,
    /// It is written in another way.
    #[error("is a .codes file of version {0}, and Kiln reads version {VERSION}")]
    Version(u8),
    /// It is shorter than it should be, or its checksum is not that of its content.
    #[error("is damaged or cut off")]
    Damaged,
    /// Sizes that do not go together, or that are larger than any.
    #[error("holds no code map: {0}")]
    Size(String),
    /// A code that the codebook does not have.
    #[error("has the code {code}, and its codebook has {size} codes")]
    Code {
        /// The code.
        code: u32,
        /// Codes of the codebook.
        size: u32,
    },
    /// Another model made it.
    #[error("was made by another model: its codes are of another codebook")]
    OtherCodebook,
    /// A model with as many codes, but other squares of pixels made it.
    #[error("was made by another model: its codes are not those of {factor}x{factor} pixels each")]
    OtherFactor {
        /// Pixels along a side of a code's square.
        factor: usize,
    },
}

impl CodeMap {
    /// The map as a `.codes` file. Its parts, one behind the other:
    ///
    /// | bytes | what |
    /// |---|---|
    /// | 4 | `KLNC` |
    /// | 1 | the version, 1 |
    /// | 1 | the coding, 0 to 4 |
    /// | 1 to 5 each | five numbers in LEB128: the picture's height and width, the map's, the codebook's size |
    /// | 4 | the codebook's fingerprint, see [`Codebook::fingerprint`] |
    /// | | the codes |
    /// | 4 | CRC-32 (IEEE 802.3) of all before it |
    ///
    /// Numbers have their lowest byte first. Coding 0 is codes of as many bits as the largest wants, at least 1, their
    /// highest bit first, and zeros up to a whole byte. Codings 1 to 4 are an arithmetic coder's, whose probabilities are
    /// learned on the way: of a code that stands where its neighbours stood before, and of each by how often it occurred.
    /// They differ in how much they make of the latter. The smallest is written, so that a file is never longer than with
    /// coding 0.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut best = (FIXED, fixed(self));
        for (coding, gain) in (1..).zip(GAINS) {
            let mut writer = Writer::new();
            let mut codes = self.codes().to_vec();
            indices::code(&mut writer, &mut codes, self.width(), self.codebook().size, gain);
            let written = writer.finish();
            if written.len() < best.1.len() {
                best = (coding, written);
            }
        }
        let mut bytes = [&MAGIC[..], &[VERSION, best.0]].concat();
        let [rows, columns] = self.picture_size();
        for number in [rows, columns, self.height(), self.width(), self.codebook().size as usize] {
            write_number(&mut bytes, number);
        }
        bytes.extend(self.codebook().fingerprint.to_le_bytes());
        bytes.extend(best.1);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Reads a `.codes` file; see [`CodeMap::to_bytes`]. Memory is taken for no more codes than its bytes can hold.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodesError> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err(CodesError::Magic);
        }
        match bytes.get(MAGIC.len()) {
            Some(&VERSION) => {}
            Some(&other) => return Err(CodesError::Version(other)),
            None => return Err(CodesError::Damaged),
        }
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(CodesError::Damaged)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(CodesError::Damaged);
        }
        let rest = content.get(MAGIC.len() + 1..).ok_or(CodesError::Damaged)?;
        let (&coding, mut rest) = rest.split_first().ok_or(CodesError::Damaged)?;
        let mut number = || read_number(&mut rest).ok_or(CodesError::Damaged);
        let [rows, columns, height, width, size] = [number()?, number()?, number()?, number()?, number()?];
        let (fingerprint, rest) = rest.split_first_chunk::<4>().ok_or(CodesError::Damaged)?;
        let codebook = Codebook { size, fingerprint: u32::from_le_bytes(*fingerprint) };
        let [picture, map] = [[rows, columns], [height, width]].map(|size| size.map(|side| side as usize));
        Self::check(map, picture, codebook)?;
        let count = u64::from(height) * u64::from(width);
        if count > indices::most_codes(rest.len()) {
            return Err(CodesError::Damaged);
        }
        let codes = match coding {
            FIXED => read_fixed(rest, count as usize, size)?,
            _ => {
                let gain = GAINS.get(usize::from(coding) - 1).ok_or(CodesError::Damaged)?;
                let mut reader = Reader::new(rest);
                let mut codes = vec![0; count as usize];
                indices::code(&mut reader, &mut codes, map[1], size, *gain);
                if !reader.is_at_end() {
                    return Err(CodesError::Damaged);
                }
                codes
            }
        };
        Self::new(map, codes, picture, codebook)
    }
}

/// Bits of a code where all take as many.
fn width_of(size: u32) -> u32 {
    size.next_power_of_two().trailing_zeros().max(1)
}

fn fixed(map: &CodeMap) -> Vec<u8> {
    let width = width_of(map.codebook().size);
    let bits = map.codes().iter().flat_map(|code| (0..width).rev().map(move |i| code >> i & 1 == 1));
    let mut bytes = vec![0; (map.codes().len() * width as usize).div_ceil(8)];
    for (i, bit) in bits.enumerate() {
        if let Some(byte) = bytes.get_mut(i / 8) {
            *byte |= u8::from(bit) << (7 - i % 8);
        }
    }
    bytes
}

fn read_fixed(bytes: &[u8], count: usize, size: u32) -> Result<Vec<u32>, CodesError> {
    let width = width_of(size) as usize;
    if bytes.len() != (count * width).div_ceil(8) {
        return Err(CodesError::Damaged);
    }
    let bit = |i: usize| bytes.get(i / 8).is_some_and(|byte| byte >> (7 - i % 8) & 1 == 1);
    if (count * width..bytes.len() * 8).any(bit) {
        return Err(CodesError::Damaged);
    }
    let code = |i: usize| (i * width..(i + 1) * width).fold(0, |code, i| code << 1 | u32::from(bit(i)));
    Ok((0..count).map(code).collect())
}

fn write_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A number that fits 32 bits, from the front.
fn read_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests;
