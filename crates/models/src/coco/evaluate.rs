//! Average precision and recall, step by step as pycocotools' `COCOeval` has them.

use std::collections::HashMap;

use super::{Annotation, CocoError, Dataset, Detected};

/// Overlaps that make a detection right: 0.5 to 0.95 by 0.05, as numpy's `linspace` rounds them.
fn thresholds() -> [f64; 10] {
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i == 9 { 0.95 } else { i as f64 * step + 0.5 })
}

/// Recalls at which precision is read.
const RECALLS: usize = 101;
/// Areas in square pixels: all, small, medium, large.
const AREAS: [(f64, f64); 4] = [(0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];
/// Most detections of a class in a picture.
const MOST: [usize; 3] = [1, 10, 100];

/// The twelve numbers of COCO, shares from 0 to 1; -1 where there is no object to find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Mean of the average precisions at overlaps from 0.5 to 0.95.
    pub ap: f64,
    /// Average precision at an overlap of 0.5.
    pub ap50: f64,
    /// Average precision at an overlap of 0.75.
    pub ap75: f64,
    /// `ap` of objects below 32 x 32 pixels, from there below 96 x 96, and above.
    pub ap_by_area: [f64; 3],
    /// Average recall with 1, 10 and 100 detections a class and picture.
    pub ar: [f64; 3],
    /// `ar` with 100 detections, by area.
    pub ar_by_area: [f64; 3],
}

/// How the detections of one class in one picture fared, for one range of areas.
struct Matches {
    scores: Vec<f64>,
    /// For each threshold and detection: right, wrong (neither right nor ignored) or ignored.
    right: Vec<Vec<bool>>,
    ignored: Vec<Vec<bool>>,
    /// Objects that count.
    objects: usize,
}

/// Judges detections of a dataset's pictures.
pub fn evaluate(dataset: &Dataset, detections: &[Detected]) -> Result<Summary, CocoError> {
    dataset.check_entries("a detection", detections.iter().map(|d| (d.image_id, d.category_id, d.bbox)))?;
    if let Some(wrong) = detections.iter().find(|d| !d.score.is_finite()) {
        return Err(CocoError::Box { who: "a detection without a score", bbox: wrong.bbox });
    }
    let mut objects: HashMap<(i64, i64), Vec<&Annotation>> = HashMap::new();
    for annotation in &dataset.annotations {
        objects.entry((annotation.category_id, annotation.image_id)).or_default().push(annotation);
    }
    let mut found: HashMap<(i64, i64), Vec<&Detected>> = HashMap::new();
    for detection in detections {
        found.entry((detection.category_id, detection.image_id)).or_default().push(detection);
    }
    let mut images: Vec<i64> = dataset.images.iter().map(|image| image.id).collect();
    images.sort_unstable();
    let mut categories: Vec<i64> = dataset.categories.iter().map(|category| category.id).collect();
    categories.sort_unstable();
    let mut means = Means::default();
    for &category in &categories {
        for (area, &range) in AREAS.iter().enumerate() {
            let matches: Vec<Matches> = images
                .iter()
                .filter_map(|&image| {
                    let key = (category, image);
                    let (objects, found) = (objects.get(&key), found.get(&key));
                    if objects.is_none() && found.is_none() {
                        return None;
                    }
                    let none = (Vec::new(), Vec::new());
                    Some(judge(objects.unwrap_or(&none.0), found.unwrap_or(&none.1), range))
                })
                .collect();
            for (most, &limit) in MOST.iter().enumerate() {
                means.add(area, most, &matches, limit);
            }
        }
    }
    Ok(means.summary())
}

/// Matches detections with objects: the surest first, each with the object it covers best that is still free.
fn judge(objects: &[&Annotation], found: &[&Detected], range: (f64, f64)) -> Matches {
    let outside = |area: f64| area < range.0 || area > range.1;
    let area = |bbox: &[f64; 4]| bbox[2] * bbox[3];
    let mut objects: Vec<(&Annotation, bool)> = objects
        .iter()
        .map(|&object| {
            let ignored = object.iscrowd != 0 || outside(object.area.unwrap_or(area(&object.bbox)));
            (object, ignored)
        })
        .collect();
    // Those that do not count come last; the order is kept otherwise.
    objects.sort_by_key(|&(_, ignored)| ignored);
    let mut found = found.to_vec();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST[2]);
    let overlaps: Vec<Vec<f64>> = found
        .iter()
        .map(|d| {
            objects.iter().map(|(object, _)| overlap(&d.bbox, &object.bbox, object.iscrowd != 0)).collect()
        })
        .collect();
    let (mut right, mut ignored) = (Vec::new(), Vec::new());
    for threshold in thresholds() {
        let mut taken = vec![false; objects.len()];
        let (mut is_right, mut is_ignored) = (Vec::new(), Vec::new());
        for (detection, overlaps) in found.iter().zip(&overlaps) {
            let (mut best, mut least) = (None, threshold.min(1.0 - 1e-10));
            for (i, &(object, passed_over)) in objects.iter().enumerate() {
                if taken[i] && object.iscrowd == 0 {
                    continue;
                }
                // An object that counts is not given up for one that does not.
                if passed_over && best.is_some_and(|best: usize| !objects[best].1) {
                    break;
                }
                if overlaps[i] >= least {
                    (best, least) = (Some(i), overlaps[i]);
                }
            }
            if let Some(best) = best {
                taken[best] = true;
            }
            is_right.push(best.is_some());
            is_ignored.push(best.map_or(outside(area(&detection.bbox)), |best| objects[best].1));
        }
        right.push(is_right);
        ignored.push(is_ignored);
    }
    Matches {
        scores: found.iter().map(|d| d.score).collect(),
        right,
        ignored,
        objects: objects.iter().filter(|(_, ignored)| !ignored).count(),
    }
}

/// Intersection over union of boxes of left, top, width, height; over the detection alone where the other is a crowd.
fn overlap(detection: &[f64; 4], object: &[f64; 4], crowd: bool) -> f64 {
    let along = |axis: usize| {
        let end = (detection[axis] + detection[axis + 2]).min(object[axis] + object[axis + 2]);
        end - detection[axis].max(object[axis])
    };
    let (width, height) = (along(0), along(1));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let (own, other) = (detection[2] * detection[3], object[2] * object[3]);
    let both = width * height;
    both / if crowd { own } else { own + other - both }
}

/// Sums over classes, for each threshold, range of areas and number of detections.
#[derive(Default)]
struct Means {
    /// Of precision at each recall, with how many were added.
    precision: [[Mean; 10]; 4],
    recall: [[[Mean; 10]; 3]; 4],
}

#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn of<'a>(means: impl IntoIterator<Item = &'a Mean>) -> f64 {
        let (sum, count) = means.into_iter().fold((0.0, 0), |(s, n), mean| (s + mean.sum, n + mean.count));
        if count == 0 { -1.0 } else { sum / count as f64 }
    }
}

impl Means {
    fn add(&mut self, area: usize, most: usize, matches: &[Matches], limit: usize) {
        let objects: usize = matches.iter().map(|m| m.objects).sum();
        if objects == 0 {
            return;
        }
        let mut order: Vec<(f64, usize, usize)> = Vec::new();
        for (i, matches) in matches.iter().enumerate() {
            order.extend(matches.scores.iter().take(limit).enumerate().map(|(j, &score)| (score, i, j)));
        }
        // Stable: of equal scores, earlier pictures come first.
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        for threshold in 0..10 {
            let (mut right, mut wrong) = (0.0, 0.0);
            let (mut recalls, mut precisions) = (Vec::new(), Vec::new());
            for &(_, i, j) in &order {
                if !matches[i].ignored[threshold][j] {
                    *if matches[i].right[threshold][j] { &mut right } else { &mut wrong } += 1.0;
                }
                recalls.push(right / objects as f64);
                precisions.push(right / (wrong + right + f64::EPSILON));
            }
            self.recall[area][most][threshold].add(recalls.last().copied().unwrap_or(0.0));
            if most < 2 {
                continue;
            }
            // Precision at a recall is the best at that or any higher one.
            for i in (1..precisions.len()).rev() {
                precisions[i - 1] = precisions[i - 1].max(precisions[i]);
            }
            for at in 0..RECALLS {
                let wanted = if at == RECALLS - 1 { 1.0 } else { at as f64 * 0.01 };
                let reached = recalls.partition_point(|&recall| recall < wanted);
                self.precision[area][threshold].add(precisions.get(reached).copied().unwrap_or(0.0));
            }
        }
    }

    fn summary(&self) -> Summary {
        let by_area = |mean: &dyn Fn(usize) -> f64| [mean(1), mean(2), mean(3)];
        Summary {
            ap: Mean::of(&self.precision[0]),
            ap50: Mean::of(&self.precision[0][..1]),
            ap75: Mean::of(&self.precision[0][5..6]),
            ap_by_area: by_area(&|area| Mean::of(&self.precision[area])),
            ar: std::array::from_fn(|most| Mean::of(&self.recall[0][most])),
            ar_by_area: by_area(&|area| Mean::of(&self.recall[area][2])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coco::{Category, Image};

    fn dataset(annotations: Vec<Annotation>) -> Dataset {
        Dataset {
            images: (1..=2)
                .map(|id| Image { id, file_name: format!("{id}.png"), ..Image::default() })
                .collect(),
            annotations,
            categories: vec![Category { id: 7, name: "cat".into() }, Category { id: 9, name: "dog".into() }],
        }
    }

    fn object(image_id: i64, bbox: [f64; 4], iscrowd: u8) -> Annotation {
        Annotation { image_id, category_id: 7, bbox, area: None, iscrowd }
    }

    fn found(image_id: i64, bbox: [f64; 4], score: f64) -> Detected {
        Detected { image_id, category_id: 7, bbox, score }
    }

    #[test]
    fn perfect_detections_reach_one_and_none_zero() {
        let boxes = [[10.0, 10.0, 20.0, 20.0], [50.0, 50.0, 40.0, 50.0]];
        let all = dataset(vec![object(1, boxes[0], 0), object(2, boxes[1], 0)]);
        let perfect = evaluate(&all, &[found(1, boxes[0], 0.9), found(2, boxes[1], 0.4)]).unwrap();
        assert!((perfect.ap - 1.0).abs() < 1e-12 && perfect.ar == [1.0; 3]);
        assert!((perfect.ap_by_area[0] - 1.0).abs() < 1e-12 && perfect.ap_by_area[2] == -1.0);
        let nothing = evaluate(&all, &[]).unwrap();
        assert_eq!((nothing.ap, nothing.ar[2]), (0.0, 0.0));
        assert_eq!(evaluate(&dataset(Vec::new()), &[]).unwrap().ap, -1.0);
    }

    #[test]
    fn overlap_decides_at_which_thresholds_a_detection_is_right() {
        // 80 % of the union.
        let all = dataset(vec![object(1, [0.0, 0.0, 10.0, 10.0], 0)]);
        let summary = evaluate(&all, &[found(1, [0.0, 0.0, 10.0, 8.0], 0.5)]).unwrap();
        assert!((summary.ap50 - 1.0).abs() < 1e-12 && (summary.ap75 - 1.0).abs() < 1e-12);
        // 0.5 to 0.8 of ten thresholds, 0.8 included.
        assert!((summary.ap - 0.7).abs() < 1e-12, "{}", summary.ap);
    }

    #[test]
    fn crowds_count_neither_way_and_doubles_are_wrong() {
        let all = dataset(vec![object(1, [0.0, 0.0, 10.0, 10.0], 0), object(1, [100.0, 0.0, 50.0, 50.0], 1)]);
        let good = found(1, [0.0, 0.0, 10.0, 10.0], 0.5);
        let in_crowd = |left| found(1, [left, 0.0, 10.0, 10.0], 0.9);
        let summary = evaluate(&all, &[in_crowd(100.0), in_crowd(120.0), good.clone()]).unwrap();
        assert!((summary.ap - 1.0).abs() < 1e-12);
        let double = Detected { score: 0.6, ..good.clone() };
        let summary = evaluate(&all, &[found(1, [0.0, 80.0, 9.0, 9.0], 0.7), double, good]).unwrap();
        assert!((summary.ap50 - 0.5).abs() < 1e-12, "{}", summary.ap50);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let all = dataset(vec![object(1, [0.0, 0.0, 10.0, 10.0], 0)]);
        let error = |d: Detected| evaluate(&all, &[d]).unwrap_err().to_string();
        assert!(error(found(3, [0.0; 4], 0.5)).contains("image 3"));
        assert!(error(found(1, [0.0, f64::NAN, 0.0, 0.0], 0.5)).contains("a detection has the box"));
        assert!(Dataset::from_json(b"[]").unwrap_err().to_string().contains("no COCO annotations"));
        let twice = r#"{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": [], "categories": []}"#;
        assert!(Dataset::from_json(twice.as_bytes()).unwrap_err().to_string().contains("two images"));
    }
}
