//! Which buffer holds what, when: values whose lifetimes do not overlap share one.
//!
//! Several buffers rather than one arena, since a device's driver layer orders accesses a whole buffer at a time. The
//! assignment is greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).

/// A value's need of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes.
    pub bytes: u64,
    /// First step at which it is written.
    pub first: usize,
    /// Last step at which it is read.
    pub last: usize,
}

/// The buffers and who lies in which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// For each need, its buffer.
    pub buffer_of: Vec<usize>,
}

impl Placement {
    /// Bytes of all buffers.
    pub fn total(&self) -> u64 {
        self.buffers.iter().sum()
    }
}

/// Places needs in buffers such that no two that live at one step share one.
pub fn place(needs: &[Need]) -> Placement {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(needs[i].bytes), needs[i].first));
    let mut placement = Placement { buffers: Vec::new(), buffer_of: vec![0; needs.len()] };
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let need = needs[i];
        let free = |tenants: &[usize]| {
            tenants.iter().all(|&other| needs[other].last < need.first || need.last < needs[other].first)
        };
        // Buffers come in falling order of size and all are large enough: the last free one wastes least.
        let buffer = match tenants.iter().rposition(|tenants| free(tenants)) {
            Some(buffer) => buffer,
            None => {
                placement.buffers.push(need.bytes);
                tenants.push(Vec::new());
                tenants.len() - 1
            }
        };
        tenants[buffer].push(i);
        placement.buffer_of[i] = buffer;
    }
    placement
}

/// The least memory that any placement could do with: the most bytes alive at one step.
pub fn lower_bound(needs: &[Need]) -> u64 {
    let steps = needs.iter().map(|need| need.last + 1).max().unwrap_or(0);
    let alive =
        |step: usize| needs.iter().filter(|n| n.first <= step && step <= n.last).map(|n| n.bytes).sum();
    (0..steps).map(alive).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn neighbours_in_a_chain_alternate() {
        let needs: Vec<Need> = (0..10).map(|i| Need { bytes: 100, first: i, last: i + 1 }).collect();
        assert_eq!(place(&needs).buffers, [100, 100]);
    }

    #[test]
    fn nothing_alive_together_shares_a_buffer() {
        for seed in 0..50 {
            let random = SplitMix64::new(seed);
            let needs: Vec<Need> = (0..60)
                .map(|i| {
                    let first = (random.bits(3 * i) % 40) as usize;
                    let last = first + (random.bits(3 * i + 1) % 8) as usize;
                    Need { bytes: random.bits(3 * i + 2) % 1000, first, last }
                })
                .collect();
            let placement = place(&needs);
            assert!(placement.total() >= lower_bound(&needs));
            for (i, a) in needs.iter().enumerate() {
                assert!(placement.buffers[placement.buffer_of[i]] >= a.bytes);
                for (j, b) in needs.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    assert!(!together || placement.buffer_of[i] != placement.buffer_of[j]);
                }
            }
        }
    }
}
