//! What a model wants done to a picture's pixels: `preprocessor_config.json`, or timm's `pretrained_cfg`.

use kiln_graph::Tensor;
use serde_json::Value;

use super::{Filter, Picture, resize};

/// To which size a picture is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Exactly this, whatever the proportions.
    Exact {
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The shorter edge to this, the other in proportion, and the longer one at most `longest`.
    Shortest {
        /// Length of the shorter edge.
        shortest: usize,
        /// Largest length of the longer edge.
        longest: Option<usize>,
    },
}

impl Resize {
    /// (width, height) of a resized picture.
    pub fn target(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Resize::Exact { width, height } => (width, height),
            Resize::Shortest { shortest, longest } => {
                let (short, long) = (width.min(height).max(1), width.max(height));
                let (mut size, mut other) = (shortest, shortest * long / short);
                if let Some(longest) = longest
                    && long as f64 / short as f64 * shortest as f64 > longest as f64
                {
                    // As transformers, whose longer edge may come out a pixel short: the shorter one shrinks so far
                    // that the longer one fits, and is rounded only then.
                    let raw = longest as f64 * short as f64 / long as f64;
                    size = (raw.round_ties_even() as usize).max(1);
                    other = ((raw * long as f64 / short as f64) as usize).max(1);
                    if size == short {
                        other = long;
                    }
                }
                if width <= height { (size, other) } else { (other, size) }
            }
        }
    }
}

/// A cut from the middle; what lies outside of the picture is black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A configuration that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image processor's {key:?} is {value}, and {wanted} is wanted")]
pub struct ProcessorError {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub wanted: &'static str,
}

/// From pictures to `pixel_values`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessor {
    /// Resizing, where it is done.
    pub resize: Option<Resize>,
    /// Its filter.
    pub filter: Filter,
    /// Cropping, where it is done.
    pub crop: Option<Crop>,
    /// Factor of the 8-bit values.
    pub rescale: Option<f64>,
    /// Mean and standard deviation of each channel, of the rescaled values.
    pub normalize: Option<([f32; 3], [f32; 3])>,
}

fn wrong(key: &str, value: &Value, wanted: &'static str) -> ProcessorError {
    ProcessorError { key: key.to_string(), value: value.to_string(), wanted }
}

fn size_value(key: &str, value: &Value) -> Result<usize, ProcessorError> {
    let size = value.as_u64().filter(|&size| (1..=1 << 16).contains(&size));
    size.map(|size| size as usize).ok_or_else(|| wrong(key, value, "a size between 1 and 65536"))
}

fn channels(key: &str, value: &Value) -> Result<[f32; 3], ProcessorError> {
    let list = value.as_array().filter(|list| list.len() == 3);
    let numbers: Option<Vec<f32>> =
        list.and_then(|list| list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect());
    let numbers: Option<[f32; 3]> = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| wrong(key, value, "a number for each of three channels"))
}

impl ImageProcessor {
    /// Reads transformers' `preprocessor_config.json`. Sizes it leaves out are the model's `image_size`.
    pub fn from_config(config: &Value, image_size: (usize, usize)) -> Result<Self, ProcessorError> {
        let flag = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
        let kind = ["image_processor_type", "feature_extractor_type"]
            .iter()
            .find_map(|key| config.get(key).and_then(Value::as_str))
            .unwrap_or_default();
        let exact = Resize::Exact { width: image_size.1, height: image_size.0 };
        let convnext = kind.starts_with("ConvNext") && flag("do_resize", true);
        let (resize, middle) = if convnext { Self::convnext(config)? } else { (None, None) };
        let resize = match config.get("size") {
            _ if resize.is_some() => resize,
            _ if !flag("do_resize", true) => None,
            None | Some(Value::Null) => Some(exact),
            // A bare number once meant a square, and the shorter edge for CLIP's kind.
            Some(value @ Value::Number(_)) => {
                let size = size_value("size", value)?;
                Some(if kind.starts_with("CLIP") || kind.starts_with("Detr") {
                    let longest = config.get("max_size").map(|v| size_value("max_size", v)).transpose()?;
                    Resize::Shortest { shortest: size, longest }
                } else {
                    Resize::Exact { width: size, height: size }
                })
            }
            Some(size) => Some(match (size.get("height"), size.get("width"), size.get("shortest_edge")) {
                (Some(height), Some(width), _) => Resize::Exact {
                    height: size_value("size.height", height)?,
                    width: size_value("size.width", width)?,
                },
                (_, _, Some(shortest)) => Resize::Shortest {
                    shortest: size_value("size.shortest_edge", shortest)?,
                    longest: size
                        .get("longest_edge")
                        .filter(|value| !value.is_null())
                        .map(|value| size_value("size.longest_edge", value))
                        .transpose()?,
                },
                _ => return Err(wrong("size", size, "height and width, or shortest_edge")),
            }),
        };
        let filter = match config.get("resample") {
            None | Some(Value::Null) => Filter::Bilinear,
            Some(value) => value
                .as_u64()
                .and_then(Filter::from_pil)
                .ok_or_else(|| wrong("resample", value, "a filter's number from 0 to 5"))?,
        };
        let crop = match config.get("crop_size") {
            _ if middle.is_some() => middle,
            _ if !flag("do_center_crop", false) => None,
            None | Some(Value::Null) => Some(Crop { width: image_size.1, height: image_size.0 }),
            Some(value @ Value::Number(_)) => {
                let size = size_value("crop_size", value)?;
                Some(Crop { width: size, height: size })
            }
            Some(size) => match (size.get("height"), size.get("width")) {
                (Some(height), Some(width)) => Some(Crop {
                    height: size_value("crop_size.height", height)?,
                    width: size_value("crop_size.width", width)?,
                }),
                _ => return Err(wrong("crop_size", size, "height and width")),
            },
        };
        let rescale = match config.get("rescale_factor") {
            _ if !flag("do_rescale", true) => None,
            None | Some(Value::Null) => Some(1.0 / 255.0),
            Some(value) => Some(value.as_f64().ok_or_else(|| wrong("rescale_factor", value, "a number"))?),
        };
        let normalize = if flag("do_normalize", true) {
            let get = |key: &str| config.get(key).map_or(Ok([0.5; 3]), |value| channels(key, value));
            Some((get("image_mean")?, get("image_std")?))
        } else {
            None
        };
        Ok(Self { resize, filter, crop, rescale, normalize })
    }

    /// What `ConvNextImageProcessor`, ResNet's too, does by a shortest edge: below 384 it leaves a margin and cuts the
    /// middle out, from there it takes the whole picture.
    fn convnext(config: &Value) -> Result<(Option<Resize>, Option<Crop>), ProcessorError> {
        let Some(value) = config.get("size").map(|size| size.get("shortest_edge").unwrap_or(size)) else {
            return Ok((None, None));
        };
        let edge = size_value("size", value)?;
        if edge >= 384 {
            return Ok((Some(Resize::Exact { width: edge, height: edge }), None));
        }
        let share = config.get("crop_pct").and_then(Value::as_f64).unwrap_or(224.0 / 256.0);
        if !(0.1..=1.0).contains(&share) {
            return Err(wrong("crop_pct", &Value::from(share), "a share between 0.1 and 1"));
        }
        let shortest = (edge as f64 / share) as usize;
        Ok((Some(Resize::Shortest { shortest, longest: None }), Some(Crop { width: edge, height: edge })))
    }

    /// Reads timm's `pretrained_cfg`: the evaluation transform of `timm.data.create_transform`.
    pub fn from_timm(config: &Value, image_size: (usize, usize)) -> Result<Self, ProcessorError> {
        let size = match config.get("input_size").and_then(Value::as_array).map(Vec::as_slice) {
            Some([_, height, width]) => (size_value("input_size", height)?, size_value("input_size", width)?),
            _ => image_size,
        };
        let pct = config.get("crop_pct").and_then(Value::as_f64).unwrap_or(0.875);
        let scaled = |size: usize| (size as f64 / pct).floor() as usize;
        let squash = config.get("crop_mode").and_then(Value::as_str) == Some("squash");
        let resize = if squash || size.0 != size.1 {
            Resize::Exact { width: scaled(size.1), height: scaled(size.0) }
        } else {
            Resize::Shortest { shortest: scaled(size.0), longest: None }
        };
        let filter = match config.get("interpolation").and_then(Value::as_str) {
            None => Filter::Bilinear,
            Some(name) => Filter::from_name(name).ok_or_else(|| {
                wrong(
                    "interpolation",
                    &Value::from(name),
                    "nearest, box, bilinear, hamming, bicubic or lanczos",
                )
            })?,
        };
        let get = |key: &str, default| config.get(key).map_or(Ok(default), |value| channels(key, value));
        // ImageNet's statistics are timm's default.
        let (mean, std) = (get("mean", [0.485, 0.456, 0.406])?, get("std", [0.229, 0.224, 0.225])?);
        Ok(Self {
            resize: Some(resize),
            filter,
            crop: Some(Crop { width: size.1, height: size.0 }),
            rescale: Some(1.0 / 255.0),
            normalize: Some((mean, std)),
        })
    }

    /// The picture as the model sees it, still in 8 bits.
    pub fn geometry(&self, picture: &Picture) -> Picture {
        let resized = match self.resize {
            Some(target) => {
                let (width, height) = target.target(picture.width, picture.height);
                resize(picture, width, height, self.filter)
            }
            None => picture.clone(),
        };
        match self.crop {
            Some(size) => crop(&resized, size),
            None => resized,
        }
    }

    /// `pixel_values` of one picture: f32 of shape `[1, 3, height, width]`.
    pub fn pixel_values(&self, picture: &Picture) -> Tensor {
        let picture = self.geometry(picture);
        let plane = picture.width * picture.height;
        let mut values = vec![0.0; 3 * plane];
        for channel in 0..3 {
            // Every 8-bit value's result, computed once.
            let table: Vec<f32> = (0..256).map(|value| self.value(value as f32, channel)).collect();
            for (i, pixel) in picture.rgb.chunks_exact(3).enumerate() {
                values[channel * plane + i] = table[usize::from(pixel[channel])];
            }
        }
        let shape = [1, 3, picture.height, picture.width];
        // The values fill the shape by construction.
        Tensor::f32(shape, values).unwrap_or_else(|_| Tensor::scalar(0.0))
    }

    fn value(&self, value: f32, channel: usize) -> f32 {
        let scaled = self.rescale.map_or(value, |scale| (f64::from(value) * scale) as f32);
        self.normalize.map_or(scaled, |(mean, std)| (scaled - mean[channel]) / std[channel])
    }
}

/// A cut from the middle.
fn crop(picture: &Picture, size: Crop) -> Picture {
    let mut rgb = vec![0; size.width * size.height * 3];
    // As transformers and torchvision: the offset is rounded down, also where the picture is the smaller one.
    let offset = |from: usize, to: usize| (from as isize - to as isize).div_euclid(2);
    let (left, top) = (offset(picture.width, size.width), offset(picture.height, size.height));
    for y in 0..size.height {
        let from = y as isize + top;
        if !(0..picture.height as isize).contains(&from) {
            continue;
        }
        for x in 0..size.width {
            let column = x as isize + left;
            if (0..picture.width as isize).contains(&column) {
                let source = (from as usize * picture.width + column as usize) * 3;
                let target = (y * size.width + x) * 3;
                rgb[target..target + 3].copy_from_slice(&picture.rgb[source..source + 3]);
            }
        }
    }
    Picture { width: size.width, height: size.height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_follow_transformers() {
        let shortest = |shortest, longest| Resize::Shortest { shortest, longest };
        assert_eq!(shortest(224, None).target(640, 480), (298, 224));
        assert_eq!(shortest(224, None).target(480, 640), (224, 298));
        for (from, to) in [
            ((640, 480), (1066, 800)),
            ((2000, 500), (1333, 333)),
            ((500, 2000), (333, 1333)),
            ((1400, 480), (1333, 457)),
            ((4000, 333), (1333, 111)),
            ((1000, 334), (1333, 445)),
            ((1334, 801), (1332, 800)),
            ((3, 5000), (1, 1333)),
            ((800, 800), (800, 800)),
            // Python would make no row of it.
            ((60_000, 7), (1333, 1)),
        ] {
            assert_eq!(shortest(800, Some(1333)).target(from.0, from.1), to, "{from:?}");
        }
        assert_eq!(Resize::Exact { width: 7, height: 9 }.target(640, 480), (7, 9));
    }

    #[test]
    fn old_and_new_configurations_are_read() {
        let old = ImageProcessor::from_config(&json!({"size": 224, "resample": 3}), (32, 32)).unwrap();
        assert_eq!(old.resize, Some(Resize::Exact { width: 224, height: 224 }));
        assert_eq!((old.filter, old.normalize), (Filter::Bicubic, Some(([0.5; 3], [0.5; 3]))));
        let new = json!({"size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": {"height": 224, "width": 200},
            "do_normalize": false, "do_rescale": false});
        let new = ImageProcessor::from_config(&new, (32, 32)).unwrap();
        assert_eq!(new.resize, Some(Resize::Shortest { shortest: 256, longest: None }));
        assert_eq!(new.crop, Some(Crop { width: 200, height: 224 }));
        assert_eq!((new.rescale, new.normalize), (None, None));
        let timm = json!({"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9});
        let timm = ImageProcessor::from_timm(&timm, (32, 32)).unwrap();
        assert_eq!(timm.resize, Some(Resize::Shortest { shortest: 248, longest: None }));
    }

    #[test]
    fn a_residual_networks_processor_leaves_a_margin() {
        let read = |size| {
            let config = json!({"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "size": size});
            let processor = ImageProcessor::from_config(&config, (224, 224)).unwrap();
            (processor.resize, processor.crop)
        };
        let middle = Crop { width: 224, height: 224 };
        assert_eq!(read(224), (Some(Resize::Shortest { shortest: 256, longest: None }), Some(middle)));
        assert_eq!(read(384), (Some(Resize::Exact { width: 384, height: 384 }), None));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for config in [
            json!({"size": {"height": 0, "width": 3}}),
            json!({"size": {"pixels": 3}}),
            json!({"resample": 9}),
            json!({"image_mean": [0.5, 0.5]}),
            json!({"size": -1}),
        ] {
            assert!(ImageProcessor::from_config(&config, (32, 32)).is_err(), "{config}");
        }
    }

    #[test]
    fn crops_are_centred_and_padded_with_black() {
        let picture = Picture::new(3, 1, vec![1, 1, 1, 2, 2, 2, 3, 3, 3]).unwrap();
        assert_eq!(crop(&picture, Crop { width: 1, height: 1 }).rgb, [2, 2, 2]);
        let padded = crop(&picture, Crop { width: 5, height: 1 });
        assert_eq!(padded.rgb, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0, 0]);
    }

    #[test]
    fn values_are_rescaled_then_normalised() {
        let config =
            json!({"do_resize": false, "image_mean": [0.5, 0.0, 0.25], "image_std": [0.5, 1.0, 0.5]});
        let processor = ImageProcessor::from_config(&config, (1, 1)).unwrap();
        let values = processor.pixel_values(&Picture::new(1, 1, vec![255, 51, 0]).unwrap());
        assert_eq!(values.shape(), [1, 3, 1, 1]);
        let values = values.to_f64();
        assert!(
            (values[0] - 1.0).abs() < 1e-7
                && (values[1] - 0.2).abs() < 1e-7
                && (values[2] + 0.5).abs() < 1e-7
        );
    }
}
