//! COCO's formats and measure: annotations and results as JSON, and the average precision and recall of detections
//! (Lin et al. 2014, <https://arxiv.org/abs/1405.0312>; as pycocotools' `COCOeval` with `iouType="bbox"` computes them).

mod evaluate;

use serde::{Deserialize, Serialize};

pub use evaluate::{Summary, evaluate};

/// `instances_*.json`, so far as boxes go. What else it holds is passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// The pictures.
    pub images: Vec<Image>,
    /// The objects in them.
    pub annotations: Vec<Annotation>,
    /// The classes.
    pub categories: Vec<Category>,
}

/// A picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Its number.
    pub id: i64,
    /// Its name in the folder of pictures.
    pub file_name: String,
    /// Pixels a row.
    #[serde(default)]
    pub width: u32,
    /// Rows.
    #[serde(default)]
    pub height: u32,
}

/// An object in a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The picture's number.
    pub image_id: i64,
    /// The class's number.
    pub category_id: i64,
    /// Left, top, width and height in pixels.
    pub bbox: [f64; 4],
    /// The object's area in square pixels; that of its box where it is not given.
    #[serde(default)]
    pub area: Option<f64>,
    /// 1 for a crowd, which any number of detections may cover without being right or wrong.
    #[serde(default)]
    pub iscrowd: u8,
}

/// A class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// A detection, as COCO's results files list them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detected {
    /// The picture's number.
    pub image_id: i64,
    /// The class's number.
    pub category_id: i64,
    /// Left, top, width and height in pixels.
    pub bbox: [f64; 4],
    /// How sure the detector is.
    pub score: f64,
}

/// Annotations that do not fit together, or detections that do not fit them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CocoError {
    /// The file is not what it should be.
    #[error("it holds no COCO annotations: {0}")]
    Json(String),
    /// Two entries have one number.
    #[error("two {what} have the id {id}")]
    Duplicate {
        /// `"images"` or `"categories"`.
        what: &'static str,
        /// The number.
        id: i64,
    },
    /// An entry names a picture or class that is not there.
    #[error("{who} names {what} {id}, which is not there")]
    Unknown {
        /// `"an annotation"` or `"a detection"`.
        who: &'static str,
        /// `"image"` or `"category"`.
        what: &'static str,
        /// The number.
        id: i64,
    },
    /// A number that is none, or a negative size.
    #[error("{who} has the box {bbox:?}")]
    Box {
        /// `"an annotation"` or `"a detection"`.
        who: &'static str,
        /// Its box.
        bbox: [f64; 4],
    },
}

impl Dataset {
    /// Reads annotations and checks that they fit together.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CocoError> {
        let dataset: Self =
            serde_json::from_slice(bytes).map_err(|error| CocoError::Json(error.to_string()))?;
        dataset.check()?;
        Ok(dataset)
    }

    fn check(&self) -> Result<(), CocoError> {
        let mut seen = std::collections::HashSet::new();
        if let Some(image) = self.images.iter().find(|image| !seen.insert(image.id)) {
            return Err(CocoError::Duplicate { what: "images", id: image.id });
        }
        seen.clear();
        if let Some(category) = self.categories.iter().find(|category| !seen.insert(category.id)) {
            return Err(CocoError::Duplicate { what: "categories", id: category.id });
        }
        let entries = self.annotations.iter().map(|a| (a.image_id, a.category_id, a.bbox));
        self.check_entries("an annotation", entries)
    }

    /// Refuses entries that name other pictures or classes, or whose boxes are none.
    fn check_entries(
        &self,
        who: &'static str,
        entries: impl Iterator<Item = (i64, i64, [f64; 4])>,
    ) -> Result<(), CocoError> {
        let images: std::collections::HashSet<i64> = self.images.iter().map(|image| image.id).collect();
        let categories: std::collections::HashSet<i64> = self.categories.iter().map(|c| c.id).collect();
        for (image, category, bbox) in entries {
            if !images.contains(&image) {
                return Err(CocoError::Unknown { who, what: "image", id: image });
            }
            if !categories.contains(&category) {
                return Err(CocoError::Unknown { who, what: "category", id: category });
            }
            if bbox.iter().any(|v| !v.is_finite()) || bbox[2] < 0.0 || bbox[3] < 0.0 {
                return Err(CocoError::Box { who, bbox });
            }
        }
        Ok(())
    }
}
