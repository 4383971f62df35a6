//! Latents on the host: how a diffusion model wants them scaled, and the distribution that an encoder gives.

use kiln_graph::{DType, Tensor};

use crate::Error;
use crate::config::Config as Reader;

/// What logarithms of variances are kept within.
pub(crate) const LOGVAR: [f32; 2] = [-30.0, 20.0];

/// How an autoencoder's latents are scaled for a diffusion model: `(z - mean) / std * factor`, with means and standard
/// deviations a channel where there are such, else `(z - shift) * factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Makes the latents' variance about 1.
    pub factor: f32,
    /// What is taken off before.
    pub shift: f32,
    /// Mean and standard deviation of each channel.
    pub channels: Option<Vec<[f32; 2]>>,
}

impl Scaling {
    /// Latents as they are.
    pub const NONE: Self = Self { factor: 1.0, shift: 0.0, channels: None };

    /// diffusers' `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std`.
    pub(crate) fn read(reader: Reader, factor: f32) -> Result<Self, Error> {
        let channels = match (reader.floats("latents_mean")?, reader.floats("latents_std")?) {
            (Some(means), Some(stds)) if means.len() == stds.len() => {
                Some(means.into_iter().zip(stds).map(|(mean, std)| [mean, std]).collect())
            }
            (None, None) => None,
            _ => {
                let reason = "latents_mean and latents_std are not one number each for every channel";
                return Err(Error::Config(reason.into()));
            }
        };
        Ok(Self {
            factor: reader.float("scaling_factor")?.unwrap_or(factor),
            shift: reader.float("shift_factor")?.unwrap_or(0.0),
            channels,
        })
    }

    pub(crate) fn check(&self, channels: usize) -> Result<(), Error> {
        let given = self.channels.as_deref().unwrap_or_default();
        if !given.is_empty() && given.len() != channels {
            let count = given.len();
            return Err(Error::Config(format!("latents_mean has {count} numbers for {channels} channels")));
        }
        let divisors = given.iter().map(|[_, std]| *std).chain([self.factor]);
        if let Some(number) = divisors.into_iter().find(|&number| !number.is_normal()) {
            return Err(Error::Config(format!("latents cannot be divided by {number}")));
        }
        Ok(())
    }

    fn map(&self, latents: &Tensor, f: impl Fn(f64, f64, f64) -> f64) -> Result<Tensor, Error> {
        let given = self.channels.as_deref().filter(|channels| !channels.is_empty());
        let channels = given.map_or(1, <[_]>::len);
        let own = latents.shape().last().copied().unwrap_or(1);
        if given.is_some() && own != channels {
            let reason = format!("latents of {own} channels are not scaled as {channels} channels are");
            return Err(Error::Input(reason));
        }
        let value = |(i, &z): (usize, &f64)| match given {
            Some(given) => {
                let [mean, std] = given[i % channels];
                f(z, mean.into(), f64::from(self.factor) / f64::from(std))
            }
            None => f(z, self.shift.into(), self.factor.into()),
        };
        let values: Vec<f64> = latents.to_f64().iter().enumerate().map(value).collect();
        Ok(Tensor::from_f64(latents.shape(), latents.dtype(), &values)
            .map_err(kiln_graph::GraphError::from)?)
    }

    /// Latents `[..., channels]` of an autoencoder as a diffusion model wants them.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor, Error> {
        self.map(latents, |z, mean, factor| (z - mean) * factor)
    }

    /// Latents `[..., channels]` of a diffusion model as the autoencoder's decoder wants them.
    pub fn unscale(&self, latents: &Tensor) -> Result<Tensor, Error> {
        self.map(latents, |z, mean, factor| z / factor + mean)
    }
}

/// What an encoder says of an image's latents: a normal distribution a number, or the numbers themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentDist {
    mean: Tensor,
    /// Nothing where the latents are certain.
    logvar: Option<Tensor>,
}

impl LatentDist {
    /// The distribution of moments `[batch, height, width, 2 * channels]`: means, then logarithms of variances, which are
    /// kept within -30..20.
    pub fn of_moments(moments: &Tensor) -> Result<Self, Error> {
        let (&[batch, height, width, both], true) = (moments.shape(), moments.dtype().is_float()) else {
            return Err(Error::Input(format!("moments are {}, not images of numbers", moments.desc())));
        };
        let channels = both / 2;
        if channels * 2 != both {
            return Err(Error::Input(format!("moments have {both} channels, an odd number")));
        }
        let values = moments.to_f32();
        let half = |skip: usize| {
            let pixels = values.chunks_exact(both.max(1));
            pixels.flat_map(|pixel| pixel[skip..skip + channels].iter().copied()).collect::<Vec<f32>>()
        };
        let tensor =
            |data| Tensor::f32([batch, height, width, channels], data).map_err(kiln_graph::GraphError::from);
        let logvar = half(channels).into_iter().map(|v| v.clamp(LOGVAR[0], LOGVAR[1])).collect();
        Ok(Self { mean: tensor(half(0))?, logvar: Some(tensor(logvar)?) })
    }

    /// Latents that are certain.
    pub fn exactly(latents: Tensor) -> Self {
        Self { mean: latents, logvar: None }
    }

    /// The mean.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// The likeliest latents, which are the mean.
    pub fn mode(&self) -> &Tensor {
        &self.mean
    }

    /// Logarithms of variances; nothing where the latents are certain.
    pub fn logvar(&self) -> Option<&Tensor> {
        self.logvar.as_ref()
    }

    /// So many of the same, as a batch.
    pub fn repeated(&self, count: usize) -> Result<Self, Error> {
        let repeat = |tensor: &Tensor| {
            let mut shape = tensor.shape().to_vec();
            if let Some(batch) = shape.first_mut() {
                *batch *= count;
            }
            Tensor::f32(shape, tensor.to_f32().repeat(count)).map_err(kiln_graph::GraphError::from)
        };
        Ok(Self { mean: repeat(&self.mean)?, logvar: self.logvar.as_ref().map(repeat).transpose()? })
    }

    /// Standard deviations: zeros where the latents are certain.
    pub fn std(&self) -> Tensor {
        let std = |logvar: &Tensor| {
            let values: Vec<f64> = logvar.to_f64().iter().map(|v| (0.5 * v).exp()).collect();
            Tensor::from_f64(logvar.shape(), DType::F32, &values).ok()
        };
        self.logvar.as_ref().and_then(std).unwrap_or_else(|| Tensor::zeros(&self.mean.desc()))
    }

    /// `mean + std * noise`, for standard normal noise of the mean's shape.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor, Error> {
        if noise.shape() != self.mean.shape() {
            let (given, wanted) = (noise.shape(), self.mean.shape());
            return Err(Error::Input(format!("the noise has shape {given:?} instead of {wanted:?}")));
        }
        let (mean, std, noise) = (self.mean.to_f32(), self.std(), noise.to_f32());
        let std = std.to_f32();
        let values =
            mean.iter().zip(std.iter()).zip(noise.iter()).map(|((mean, std), noise)| mean + std * noise);
        Ok(Tensor::f32(self.mean.shape(), values.collect()).map_err(kiln_graph::GraphError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scaling_and_back() {
        let z = Tensor::f32([1, 2], vec![1.0, -2.0]).unwrap();
        let read = |json| Scaling::read(Reader(&json), 0.5).unwrap();
        for (scaling, expected) in [
            (read(json!({})), [0.5, -1.0]),
            (read(json!({"scaling_factor": 2.0, "shift_factor": 0.25})), [1.5, -4.5]),
            (
                read(json!({"scaling_factor": 2.0, "latents_mean": [0.5, -1.0], "latents_std": [4.0, 0.5]})),
                [0.25, -4.0],
            ),
        ] {
            let scaled = scaling.scale(&z).unwrap();
            assert_eq!(scaled.as_f32(), Some(&expected[..]));
            assert_eq!(scaling.unscale(&scaled).unwrap(), z);
        }
        let three = read(json!({"latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]}));
        assert!(three.scale(&z).unwrap_err().to_string().contains("2 channels are not scaled as 3"));
        assert!(three.check(4).unwrap_err().to_string().contains("3 numbers for 4 channels"));
        assert!(Scaling { factor: 0.0, ..Scaling::NONE }.check(4).unwrap_err().to_string().contains("by 0"));
        let half = json!({"latents_mean": [0.0]});
        assert!(Scaling::read(Reader(&half), 1.0).unwrap_err().to_string().contains("latents_std"));
    }

    #[test]
    fn moments_are_a_distribution() {
        let two = f32::ln(4.0);
        let moments = Tensor::f32([1, 1, 2, 4], vec![1., 2., two, -99., 3., 4., 99., 0.]).unwrap();
        let dist = LatentDist::of_moments(&moments).unwrap();
        assert_eq!(dist.mode().as_f32(), Some(&[1., 2., 3., 4.][..]));
        assert_eq!(dist.logvar().unwrap().as_f32(), Some(&[two, -30., 20., 0.][..]));
        let std = dist.std().to_f64();
        for (std, expected) in std.iter().zip([2.0, (-15.0f64).exp(), 10.0f64.exp(), 1.0]) {
            assert!((std / expected - 1.0).abs() < 1e-6, "{std} {expected}");
        }
        let noise = Tensor::f32([1, 1, 2, 2], vec![0.5, 0.0, 0.0, -1.0]).unwrap();
        let sample = dist.sample(&noise).unwrap().to_f64();
        for (sample, expected) in sample.iter().zip([2.0, 2.0, 3.0, 3.0]) {
            assert!((sample - expected).abs() < 1e-6, "{sample} {expected}");
        }
        assert!(dist.sample(&moments).unwrap_err().to_string().contains("instead of [1, 1, 2, 2]"));
        let certain = LatentDist::exactly(noise.clone());
        assert_eq!((certain.sample(&noise).unwrap(), certain.std().to_f64()), (noise, vec![0.0; 4]));
        let odd = Tensor::f32([1, 1, 1, 3], vec![0.0; 3]).unwrap();
        assert!(LatentDist::of_moments(&odd).unwrap_err().to_string().contains("odd"));
    }
}
