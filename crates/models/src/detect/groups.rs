//! Which pictures are computed together.

/// The smallest size that holds all of these.
pub(super) fn largest(sizes: impl Iterator<Item = [usize; 2]>) -> [usize; 2] {
    sizes.fold([0; 2], |[h, w], [height, width]| [h.max(height), w.max(width)])
}

/// Pictures by number in groups of at most `most`, in which padding makes up less than a fifth.
pub(super) fn similar(sizes: &[[usize; 2]], most: usize) -> Vec<Vec<usize>> {
    let area = |[h, w]: [usize; 2]| h * w;
    grouped(sizes, most, |members| {
        let used: usize = members.iter().copied().map(area).sum();
        4 * area(largest(members.iter().copied())) * members.len() < 5 * used.max(1)
    })
}

/// Pictures by number in groups of at most `most` of one size.
pub(super) fn equal(sizes: &[[usize; 2]], most: usize) -> Vec<Vec<usize>> {
    grouped(sizes, most, |members| members.windows(2).all(|pair| pair[0] == pair[1]))
}

/// Sizes in order, a new group wherever the last one would be too large or would not fit.
fn grouped(sizes: &[[usize; 2]], most: usize, fits: impl Fn(&[[usize; 2]]) -> bool) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (sizes[i], i));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match groups.last_mut() {
            Some(group)
                if group.len() < most
                    && fits(&group.iter().chain([&i]).map(|&i| sizes[i]).collect::<Vec<_>>()) =>
            {
                group.push(i);
            }
            _ => groups.push(vec![i]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_similar_sizes_share_a_batch() {
        let sizes = [[800, 1066], [1066, 800], [800, 1066], [800, 1000], [800, 1066], [7, 1333]];
        assert_eq!(similar(&sizes, 8), [vec![5], vec![3, 0, 2, 4], vec![1]]);
        assert_eq!(similar(&sizes, 2), [vec![5], vec![3, 0], vec![2, 4], vec![1]]);
        assert_eq!(equal(&sizes, 8), [vec![5], vec![3], vec![0, 2, 4], vec![1]]);
        assert_eq!(equal(&sizes, 2), [vec![5], vec![3], vec![0, 2], vec![4], vec![1]]);
        assert!(similar(&[], 8).is_empty());
    }
}
