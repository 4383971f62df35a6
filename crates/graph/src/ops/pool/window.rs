//! Which input positions each output position of one axis pools.

/// The positions `first, first + dilation, ...` of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The first position inside of the input.
    pub first: usize,
    /// How many positions are inside of the input.
    pub count: usize,
    /// How many positions are inside of the input or its padding, before dilation.
    pub padded: usize,
}

/// Windows of one length at equal distances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stride {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
    pub ceil_mode: bool,
}

impl Stride {
    /// The windows of every output position, or why there are none.
    pub fn windows(&self) -> Result<Vec<Window>, &'static str> {
        let Stride { input, kernel, stride, padding, dilation, ceil_mode } = *self;
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err("kernel, stride and dilation must not be 0");
        }
        // 2^24 is far beyond any image, and keeps the arithmetic below from overflowing.
        if [input, kernel, stride, padding, dilation].iter().any(|&extent| extent > 1 << 24) {
            return Err("extents and options must not be above 2^24");
        }
        if padding > kernel / 2 {
            return Err("padding must be at most half of the kernel");
        }
        let (input, kernel, stride) = (input as i64, kernel as i64, stride as i64);
        let (padding, dilation) = (padding as i64, dilation as i64);
        let free = input + 2 * padding - dilation * (kernel - 1) - 1;
        if free < 0 && !(ceil_mode && free + stride > 0) {
            return Err("the window is larger than the padded input");
        }
        let mut outputs = (free + if ceil_mode { stride - 1 } else { 0 }).div_euclid(stride) + 1;
        // The last window must begin inside of the input or of the padding before it.
        if ceil_mode && (outputs - 1) * stride >= input + padding {
            outputs -= 1;
        }
        if outputs < 1 {
            return Err("the window is larger than the padded input");
        }
        let window = |i: i64| {
            let start = i * stride - padding;
            // Whole steps until inside.
            let first = if start < 0 { start + (-start + dilation - 1) / dilation * dilation } else { start };
            let end = (start + dilation * (kernel - 1) + 1).min(input);
            let count = if first < end { (end - first + dilation - 1) / dilation } else { 0 };
            let padded = (start + kernel).min(input + padding) - start;
            Window { first: first as usize, count: count as usize, padded: padded.max(1) as usize }
        };
        Ok((0..outputs).map(window).collect())
    }
}

/// Windows that divide an input into this many parts, which overlap where the extents do not divide.
pub(super) fn adaptive(input: usize, output: usize) -> Vec<Window> {
    let window = |i: usize| {
        let first = i * input / output;
        let count = ((i + 1) * input).div_ceil(output) - first;
        Window { first, count, padded: count }
    };
    (0..output).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_clipped() {
        let stride = Stride { input: 4, kernel: 3, stride: 2, padding: 1, dilation: 1, ceil_mode: true };
        let windows = stride.windows().unwrap();
        assert_eq!(windows[0], Window { first: 0, count: 2, padded: 3 });
        assert_eq!(windows[1], Window { first: 1, count: 3, padded: 3 });
        assert_eq!(windows[2], Window { first: 3, count: 1, padded: 2 });
        assert_eq!(windows.len(), 3);
    }

    #[test]
    fn dilated_windows_step_over_the_padding() {
        let stride = Stride { input: 5, kernel: 3, stride: 1, padding: 1, dilation: 2, ceil_mode: false };
        let windows = stride.windows().unwrap();
        assert_eq!(windows[0], Window { first: 1, count: 2, padded: 3 });
        assert_eq!(windows[1], Window { first: 0, count: 3, padded: 3 });
        assert_eq!(windows.len(), 3);
    }

    #[test]
    fn parts_cover_the_input() {
        let windows = adaptive(7, 3);
        let spans: Vec<_> = windows.iter().map(|w| (w.first, w.count)).collect();
        assert_eq!(spans, [(0, 3), (2, 3), (4, 3)]);
        assert_eq!(adaptive(2, 4).iter().map(|w| w.first).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }
}
