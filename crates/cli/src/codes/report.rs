//! What `kiln reconstruct` measures.

use std::path::Path;

use anyhow::{Context, Result};
use kiln::models::CodeCodec;
use kiln::models::code_codec::CodeMap;
use kiln::models::image::Picture;
use kiln::models::image::quality::{QualityError, psnr, ssim};
use serde_json::{Value as Json, json};

use crate::device::PrecisionKind;

/// A picture that was turned into codes and back.
pub struct Measured {
    name: String,
    /// Width and height of the picture in pixels, and of its map in codes.
    pixels: [usize; 2],
    map: [usize; 2],
    codebook: u32,
    used: usize,
    perplexity: f64,
    /// Bytes of the `.codes` file and of the picture's own.
    bytes: usize,
    file: u64,
    /// In dB; infinite where both are equal.
    psnr: f64,
    /// None where the picture is smaller than SSIM's window.
    ssim: Option<f64>,
}

impl Measured {
    pub fn new(path: &Path, picture: &Picture, again: &Picture, map: &CodeMap, bytes: usize) -> Result<Self> {
        let metadata =
            std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self {
            name: path.display().to_string(),
            pixels: [picture.width, picture.height],
            map: [map.width(), map.height()],
            codebook: map.codebook().size,
            used: map.used(),
            perplexity: map.perplexity(),
            bytes,
            file: metadata.len(),
            psnr: psnr(picture, again)?,
            ssim: match ssim(picture, again) {
                Ok(ssim) => Some(ssim),
                Err(QualityError::TooSmall { .. }) => None,
                Err(error) => return Err(error.into()),
            },
        })
    }

    /// How many bytes of its pixels there are for each of its codes'.
    pub fn ratio(&self) -> f64 {
        (self.area() * 3.0) / self.bytes as f64
    }

    fn area(&self) -> f64 {
        self.pixels[0] as f64 * self.pixels[1] as f64
    }

    fn file_ratio(&self) -> f64 {
        self.file as f64 / self.bytes as f64
    }

    fn bits_per_pixel(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.area()
    }

    /// How near the picture is that came back: its PSNR, and its SSIM where it has one.
    pub fn quality(&self) -> Vec<String> {
        let psnr =
            if self.psnr.is_finite() { format!("PSNR {:.2} dB", self.psnr) } else { "no difference".into() };
        [Some(psnr), self.ssim.map(|ssim| format!("SSIM {ssim:.4}"))].into_iter().flatten().collect()
    }

    pub fn lines(&self) -> Vec<String> {
        let ([width, height], [columns, rows]) = (self.pixels, self.map);
        vec![
            self.name.clone(),
            format!(
                "  {width}x{height} pixels, {columns}x{rows} codes, {} of {} used, perplexity {:.1}",
                self.used, self.codebook, self.perplexity
            ),
            format!(
                "  {} bytes: 1/{:.1} of the pixels, 1/{:.1} of the file ({} bytes), {:.4} bits a pixel",
                self.bytes,
                self.ratio(),
                self.file_ratio(),
                self.file,
                self.bits_per_pixel()
            ),
            format!("  {}", self.quality().join(", ")),
        ]
    }

    fn json(&self) -> Json {
        json!({
            "picture": self.name, "width": self.pixels[0], "height": self.pixels[1],
            "codes_width": self.map[0], "codes_height": self.map[1],
            "codes_used": self.used, "perplexity": self.perplexity,
            "bytes": self.bytes, "file_bytes": self.file, "ratio": self.ratio(), "file_ratio": self.file_ratio(),
            "bits_per_pixel": self.bits_per_pixel(),
            "psnr": self.psnr.is_finite().then_some(self.psnr), "ssim": self.ssim,
        })
    }
}

/// All pictures.
#[derive(Default)]
pub struct Report {
    pub measured: Vec<Measured>,
}

impl Report {
    /// A line for all together, where there are several.
    pub fn summary(&self) -> Option<String> {
        let count = self.measured.len();
        if count < 2 {
            return None;
        }
        let sum = |of: fn(&Measured) -> f64| self.measured.iter().map(of).sum::<f64>();
        let (bytes, area) = (sum(|m| m.bytes as f64), sum(Measured::area));
        let mut line = format!(
            "{count} pictures: {bytes} bytes, 1/{:.1} of the pixels, 1/{:.1} of the files, {:.4} bits a pixel",
            area * 3.0 / bytes,
            sum(|m| m.file as f64) / bytes,
            bytes * 8.0 / area
        );
        for (name, unit, values) in [("PSNR", " dB", self.psnrs()), ("SSIM", "", self.ssims())] {
            if let Some(mean) = mean(&values) {
                line += &format!(", mean {name} {mean:.*}{unit}", if unit.is_empty() { 4 } else { 2 });
            }
        }
        Some(line)
    }

    /// Those of the pictures that differ at all.
    fn psnrs(&self) -> Vec<f64> {
        self.measured.iter().map(|measured| measured.psnr).filter(|psnr| psnr.is_finite()).collect()
    }

    fn ssims(&self) -> Vec<f64> {
        self.measured.iter().filter_map(|measured| measured.ssim).collect()
    }

    pub fn json(&self, model: &str, codec: &CodeCodec, precision: PrecisionKind) -> Result<Vec<u8>> {
        let results: Vec<Json> = self.measured.iter().map(Measured::json).collect();
        let report = json!({
            "model": model, "device": codec.device().describe(),
            "precision": if precision == PrecisionKind::F16 { "f16" } else { "f32" },
            "kept_f32": codec.kept_f32(), "spatial_factor": codec.model().spatial_factor(),
            "codebook": codec.codebook().size, "mean_psnr": mean(&self.psnrs()),
            "mean_ssim": mean(&self.ssims()), "results": results,
        });
        Ok(serde_json::to_vec_pretty(&report)?)
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
