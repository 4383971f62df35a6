//! What was found, as tables.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use kiln::models::coco::{Annotation, Category, Dataset, Detected, Image};
use kiln::models::image::Picture;
use kiln::models::{Detection, Detector};
use serde_json::json;

use super::above;

/// A picture and what was found in it.
pub struct Found<'a> {
    /// Its place among all pictures.
    pub index: usize,
    pub path: &'a Path,
    pub picture: &'a Picture,
    /// Everything, surest first.
    pub all: &'a [Detection],
    pub threshold: f32,
}

/// Tables that grow picture by picture.
pub struct Report<'a> {
    names: Vec<String>,
    dataset: Option<&'a Dataset>,
    /// The number of each class.
    categories: Vec<i64>,
    images: Vec<Image>,
    /// With annotations everything that was found, however unlikely, as COCO's measure wants it.
    pub results: Vec<Detected>,
    pub csv: String,
}

impl<'a> Report<'a> {
    /// Empty tables. A class has the number of the dataset's category of its name, or its own where there is none.
    pub fn new(detector: &Detector, dataset: Option<&'a Dataset>) -> Result<Self> {
        let names = detector.labels().to_vec();
        let by_name: HashMap<&str, i64> =
            dataset.iter().flat_map(|d| &d.categories).map(|c| (c.name.as_str(), c.id)).collect();
        let ids: Vec<i64> = dataset.iter().flat_map(|d| &d.categories).map(|c| c.id).collect();
        let any_name = names.iter().any(|name| by_name.contains_key(name.as_str()));
        let categories: Vec<i64> = names
            .iter()
            .enumerate()
            .map(
                |(i, name)| {
                    if any_name { by_name.get(name.as_str()).copied().unwrap_or(-1) } else { i as i64 }
                },
            )
            .collect();
        if dataset.is_some() && !categories.iter().any(|id| ids.contains(id)) {
            bail!("none of the model's classes is a category of the annotations");
        }
        let csv = "picture,label,score,left,top,right,bottom\n".to_string();
        Ok(Self { names, dataset, categories, images: Vec::new(), results: Vec::new(), csv })
    }

    pub fn add(&mut self, found: &Found) {
        let (image_id, threshold) = match self.dataset {
            Some(dataset) => (dataset.images.get(found.index).map_or(0, |image| image.id), 0.0),
            None => (found.index as i64 + 1, found.threshold),
        };
        self.images.push(Image {
            id: image_id,
            file_name: found.path.display().to_string(),
            width: found.picture.width as u32,
            height: found.picture.height as u32,
        });
        let known: Option<Vec<i64>> = self.dataset.map(|d| d.categories.iter().map(|c| c.id).collect());
        for object in above(found.all, threshold) {
            let [left, top, right, bottom] = object.corners.map(f64::from);
            let category_id = self.categories.get(object.label).copied().unwrap_or(-1);
            if known.as_ref().is_some_and(|known| !known.contains(&category_id)) {
                continue;
            }
            let bbox = [left, top, (right - left).max(0.0), (bottom - top).max(0.0)];
            self.results.push(Detected { image_id, category_id, bbox, score: f64::from(object.score) });
        }
        for object in above(found.all, found.threshold) {
            let [left, top, right, bottom] = object.corners;
            let label = quoted(self.names.get(object.label).map_or("?", String::as_str));
            let picture = quoted(&found.path.display().to_string());
            let _ = writeln!(self.csv, "{picture},{label},{},{left},{top},{right},{bottom}", object.score);
        }
    }

    /// COCO's results where there are annotations, else a dataset of what was found, with scores.
    pub fn coco(&self) -> Result<Vec<u8>> {
        if self.dataset.is_some() {
            return Ok(serde_json::to_vec_pretty(&self.results)?);
        }
        let annotations: Vec<serde_json::Value> = self
            .results
            .iter()
            .enumerate()
            .map(|(i, found)| {
                let [.., width, height] = found.bbox;
                let annotation = Annotation {
                    image_id: found.image_id,
                    category_id: found.category_id,
                    bbox: found.bbox,
                    area: Some(width * height),
                    iscrowd: 0,
                };
                let mut value = serde_json::to_value(annotation)?;
                value["id"] = json!(i + 1);
                value["score"] = json!(found.score);
                Ok(value)
            })
            .collect::<Result<_>>()?;
        let categories: Vec<Category> = self
            .names
            .iter()
            .zip(&self.categories)
            .map(|(name, &id)| Category { id, name: name.clone() })
            .collect();
        Ok(serde_json::to_vec_pretty(
            &json!({ "images": self.images, "annotations": annotations, "categories": categories }),
        )?)
    }
}

/// A field of a table, in quotes where it needs them (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
