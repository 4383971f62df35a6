//! Pictures that fill another shape.

use super::{Filter, Picture, resize};

/// The middle of a picture in another size: what its longer side has too much is cut away. Sizes of 0 are taken as 1.
pub fn fill(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    let share = |of: usize, to: usize, by: usize| (of as f64 * to as f64 / by as f64).round() as usize;
    let columns = share(picture.height, width, height).clamp(1, picture.width);
    let rows = share(picture.width, height, width).clamp(1, picture.height);
    if (columns, rows) == (picture.width, picture.height) {
        return resize(picture, width, height, filter);
    }
    let (left, top) = ((picture.width - columns) / 2, (picture.height - rows) / 2);
    let lines = picture.rgb.chunks_exact(picture.width * 3).skip(top).take(rows);
    let rgb = lines.flat_map(|line| line.iter().skip(left * 3).take(columns * 3)).copied().collect();
    resize(&Picture { width: columns, height: rows, rgb }, width, height, filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_picture_stays() {
        let wide = Picture::new(6, 2, (0..36).collect()).unwrap();
        let middle = fill(&wide, 2, 2, Filter::Lanczos);
        assert_eq!(middle.rgb, [6, 7, 8, 9, 10, 11, 24, 25, 26, 27, 28, 29]);
        let tall = Picture::new(2, 6, (0..36).collect()).unwrap();
        assert_eq!(fill(&tall, 2, 2, Filter::Lanczos).rgb, (12..24).collect::<Vec<u8>>());
        assert_eq!(fill(&wide, 12, 4, Filter::Lanczos), resize(&wide, 12, 4, Filter::Lanczos));
    }

    #[test]
    fn thin_pictures_fill_any_shape() {
        let line = Picture::new(1, 5000, vec![7; 15000]).unwrap();
        for (width, height) in [(1, 1), (64, 8), (0, 3)] {
            let filled = fill(&line, width, height, Filter::Lanczos);
            assert_eq!((filled.width, filled.height), (width.max(1), height));
            assert!(filled.rgb.iter().all(|&value| value == 7));
        }
    }
}
