//! Cutting an op over rows of images into dispatches whose bindings a device allows.

use std::ops::Range;

use crate::{OpError, TensorDesc, Tier};

/// Consecutive output rows with the input rows they read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slab {
    /// Output rows.
    pub rows: Range<usize>,
    /// Bytes of the input to bind; everything where there is none.
    pub x: Option<Range<u64>>,
    /// Bytes of each output to bind.
    pub y: Vec<Option<Range<u64>>>,
}

/// A tensor as rows of equal length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Number of rows.
    pub count: usize,
    /// Bytes of a row.
    pub bytes: u64,
}

impl Rows {
    /// The first `lead` axes count rows, the others make one up.
    pub fn of(desc: &TensorDesc, lead: usize) -> Self {
        let (lead, rest) = desc.shape.split_at(lead.min(desc.rank()));
        let row: usize = rest.iter().product();
        Self { count: lead.iter().product(), bytes: (row * desc.dtype.size()) as u64 }
    }

    fn total(&self) -> u64 {
        self.count as u64 * self.bytes
    }

    /// The bytes of these rows, from an offset that a binding may have.
    fn bind(&self, rows: &Range<usize>, alignment: u64) -> Range<u64> {
        let start = rows.start as u64 * self.bytes / alignment * alignment;
        let end = rows.end as u64 * self.bytes;
        // A binding may not be empty.
        start..end.max(start + 16)
    }
}

/// Cuts the rows of `outputs` (all of one number) into slabs. `reads` gives the rows of `x` that an output row reads.
/// One slab of everything where that fits.
pub(crate) fn cut(
    x: Rows,
    outputs: &[Rows],
    reads: impl Fn(usize) -> Range<usize>,
    tier: &Tier,
) -> Result<Vec<Slab>, OpError> {
    let limit = tier.limits.max_binding_bytes.min(tier.limits.max_buffer_bytes);
    let count = outputs.first().map_or(0, |rows| rows.count);
    if x.total() <= limit && outputs.iter().all(|y| y.total() <= limit) {
        return Ok(vec![Slab { rows: 0..count, x: None, y: vec![None; outputs.len()] }]);
    }
    let alignment = u64::from(tier.limits.offset_alignment.max(16));
    let fits = |rows: &Range<usize>, read: &Range<usize>| {
        let bytes = |range: Range<u64>| range.end - range.start;
        bytes(x.bind(read, alignment)) <= limit
            && outputs.iter().all(|y| bytes(y.bind(rows, alignment)) <= limit)
    };
    let mut slabs = Vec::new();
    let mut start = 0;
    while start < count {
        let mut read = reads(start);
        let mut end = start + 1;
        if !fits(&(start..end), &read) {
            let reason = format!("row {start} alone needs bindings of more than {limit} bytes");
            return Err(OpError { op: "slabs", inputs: Vec::new(), reason });
        }
        while end < count {
            let wider = union(&read, &reads(end));
            if !fits(&(start..end + 1), &wider) {
                break;
            }
            read = wider;
            end += 1;
        }
        let rows = start..end;
        let y = outputs.iter().map(|y| Some(y.bind(&rows, alignment))).collect();
        slabs.push(Slab { x: Some(x.bind(&read, alignment)), y, rows });
        start = end;
    }
    Ok(slabs)
}

/// The smallest range that holds both; an empty one does not count.
fn union(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

/// Where a binding begins, in loads of `lanes` elements, modulo 2^32.
pub(crate) fn origin(range: &Option<Range<u64>>, desc: &TensorDesc, lanes: usize) -> u32 {
    let load = (desc.dtype.size() * lanes) as u64;
    range.as_ref().map_or(0, |range| (range.start / load) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(limit: u64) -> Tier {
        let mut tier = Tier::webgpu();
        tier.limits.max_binding_bytes = limit;
        tier
    }

    #[test]
    fn what_fits_is_not_cut() {
        let rows = Rows { count: 10, bytes: 100 };
        let slabs = cut(rows, &[rows], |row| row..row + 1, &tier(1000)).unwrap();
        assert_eq!(slabs, [Slab { rows: 0..10, x: None, y: vec![None] }]);
    }

    #[test]
    fn slabs_cover_every_row_once_and_keep_to_the_limits() {
        let (x, y) = (Rows { count: 50, bytes: 100 }, Rows { count: 100, bytes: 200 });
        let slabs = cut(x, &[y], |row| row / 2..(row / 2 + 2).min(50), &tier(2048)).unwrap();
        let mut next = 0;
        for slab in &slabs {
            assert_eq!(slab.rows.start, next);
            next = slab.rows.end;
            let (x, y) = (slab.x.clone().unwrap(), slab.y[0].clone().unwrap());
            assert!(x.start % 256 == 0 && y.start % 256 == 0);
            assert!(x.end - x.start <= 2048 && y.end - y.start <= 2048);
            assert!(y.start <= slab.rows.start as u64 * 200 && y.end == slab.rows.end as u64 * 200);
        }
        assert_eq!(next, 100);
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused() {
        let rows = Rows { count: 4, bytes: 4096 };
        assert!(cut(rows, &[rows], |row| row..row + 1, &tier(2048)).is_err());
    }
}
