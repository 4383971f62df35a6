//! What layers a generator has, as the names and shapes of its weights tell.

use crate::Error;
use crate::weights::Weights;

/// Most layers.
const MAX_LAYERS: usize = 64;

/// Longest side of a picture in pixels.
const MAX_SIDE: usize = 8192;

/// Longest side of a kernel.
const MAX_KERNEL: usize = 16;

/// Sides of the kernels that double an image.
const DOUBLING: usize = 4;

/// What a layer does to the sides of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transposed convolution of one pixel, which becomes as many as the kernel has.
    Project,
    /// A transposed convolution with a 4x4 kernel, which doubles both sides.
    Double,
    /// A convolution, which keeps them.
    Keep,
}

/// A convolution and the batch norm behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The convolution's name, without `main`.
    pub module: String,
    /// The batch norm's name, where there is one.
    pub norm: Option<String>,
    /// What it does.
    pub kind: Kind,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Pixels along a side of the kernel.
    pub kernel: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Layer {
    /// The shape of the convolution's weight.
    pub(super) fn weight_shape(&self) -> [usize; 4] {
        match self.kind {
            Kind::Project | Kind::Double => [self.inputs, self.outputs, self.kernel, self.kernel],
            Kind::Keep => [self.outputs, self.inputs, self.kernel, self.kernel],
        }
    }

    /// Pixels along a side of what it makes of an image with so many.
    pub(super) fn side(&self, side: usize) -> usize {
        match self.kind {
            Kind::Project => self.kernel,
            Kind::Double => side.saturating_mul(2),
            Kind::Keep => side,
        }
    }
}

/// The layers in forward order. [`Error::Input`] where the weights are no generator's.
pub(super) fn read(weights: &dyn Weights) -> Result<Vec<Layer>, Error> {
    let wrong = |reason: String| Error::Input(format!("{} holds no generator: {reason}", weights.display()));
    let mut found = Vec::new();
    for name in weights.names() {
        let Some(&[rows, columns, height, width]) = weights.shape(&name) else { continue };
        let module = name.strip_prefix("main.").and_then(|name| name.strip_suffix(".weight"));
        let place = module.and_then(|module| Some((place(module, rows)?, module.to_string())));
        let (place, module) = place.ok_or_else(|| wrong(format!("{name} is none of its layers")))?;
        if height != width || height > MAX_KERNEL {
            return Err(wrong(format!("{name} has a kernel of {height}x{width}")));
        }
        found.push((place, module, [rows, columns, height]));
    }
    found.sort();
    if found.len() < 2 || found.len() > MAX_LAYERS {
        return Err(wrong(format!("it has {} convolutions", found.len())));
    }
    let mut layers: Vec<Layer> = Vec::new();
    for (i, (_, module, [rows, columns, kernel])) in found.into_iter().enumerate() {
        let kind = match kernel {
            _ if i == 0 => Kind::Project,
            DOUBLING => Kind::Double,
            _ if kernel % 2 == 1 => Kind::Keep,
            _ => return Err(wrong(format!("main.{module} has a kernel of {kernel}x{kernel}"))),
        };
        let [inputs, outputs] = if kind == Kind::Keep { [columns, rows] } else { [rows, columns] };
        let norm = norm(&module, outputs)
            .filter(|norm| weights.shape(&format!("main.{norm}.running_mean")).is_some());
        let bias = weights.shape(&format!("main.{module}.bias")).is_some();
        if let Some(before) = layers.last().filter(|before| before.outputs != inputs) {
            let channels = before.outputs;
            return Err(wrong(format!("main.{module} takes {inputs} channels behind {channels}")));
        }
        layers.push(Layer { module, norm, kind, inputs, outputs, kernel, bias });
    }
    let side = layers.iter().fold(1, |side, layer| layer.side(side));
    if side == 0 || side > MAX_SIDE || layers.iter().any(|layer| layer.inputs == 0 || layer.outputs == 0) {
        return Err(wrong(format!("its pictures have sides of {side} pixels, or a layer has no channels")));
    }
    Ok(layers)
}

/// Where a convolution stands: by its number, or in WGAN by its stage's name, where the pyramid's grow narrower.
fn place(module: &str, inputs: usize) -> Option<(usize, usize)> {
    if let Ok(number) = module.parse() {
        return Some((0, number));
    }
    let stage = module.split([':', '.']).next()?;
    match stage {
        "initial" => Some((0, 0)),
        "pyramid" => Some((1, usize::MAX - inputs)),
        "final" => Some((3, 0)),
        _ => Some((2, stage.strip_prefix("extra-layers-")?.parse().ok()?)),
    }
}

/// The name of the batch norm behind a convolution.
fn norm(module: &str, channels: usize) -> Option<String> {
    if let Ok(number) = module.parse::<usize>() {
        return Some((number.checked_add(1)?).to_string());
    }
    // Newer versions of PyTorch have no dots in names.
    let stage = module.split([':', '.']).next()?;
    let dot = module[stage.len()..].chars().next()?;
    Some(format!("{stage}{dot}{channels}{dot}batchnorm"))
}
