//! What the transformer sees of a picture that is larger than those it was trained on.

/// The window for one code: its first row and column.
///
/// The code stands in the window's middle, unless the picture ends before the window does: so no code is written without
/// what surrounds it, and the window is always full (Esser et al. 2021, section 3.2, and their code for sampling).
pub(super) fn place(code: [usize; 2], picture: [usize; 2], window: [usize; 2]) -> [usize; 2] {
    std::array::from_fn(|axis| {
        let last = picture[axis].saturating_sub(window[axis]);
        code[axis].saturating_sub(window[axis] / 2).min(last)
    })
}

/// The codes of a window, row by row.
pub(super) fn cut(codes: &[u32], width: usize, start: [usize; 2], window: [usize; 2]) -> Vec<u32> {
    let rows = codes.chunks(width.max(1)).skip(start[0]).take(window[0]);
    rows.flat_map(|row| row.iter().skip(start[1]).take(window[1])).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's own rule.
    fn theirs(i: usize, side: usize) -> usize {
        let local = match i {
            _ if i <= 8 => i,
            _ if side - i < 8 => 16 - (side - i),
            _ => 8,
        };
        i - local
    }

    #[test]
    fn windows_lie_where_the_papers_code_has_them() {
        for side in [16, 17, 24, 40] {
            for i in 0..side {
                assert_eq!(place([i, 0], [side, 16], [16, 16]), [theirs(i, side), 0], "{i} of {side}");
            }
        }
    }

    #[test]
    fn a_window_is_cut_row_by_row() {
        let codes: Vec<u32> = (0..12).collect();
        assert_eq!(cut(&codes, 4, [1, 2], [2, 2]), [6, 7, 10, 11]);
        assert_eq!(cut(&codes, 4, [0, 0], [3, 4]), codes);
    }
}
