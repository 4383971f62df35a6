//! What a picture was made of, as the text that AUTOMATIC1111's web UI writes and other tools read.

use kiln::models::stable_diffusion::{Request, StableDiffusion};

use super::samplers::title;

/// The parameters of a picture, in three parts: the prompt, the negative prompt where there is one, and settings.
pub fn text(
    request: &Request,
    seed: u64,
    model: &str,
    loras: &[String],
    pipeline: &StableDiffusion,
) -> String {
    let class = request.scheduler.as_deref().unwrap_or(pipeline.scheduler());
    let [height, width] = request.size.unwrap_or_else(|| pipeline.default_size());
    let name = model.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(model);
    let name = name.strip_suffix(".safetensors").unwrap_or(name);
    let mut settings = vec![
        format!("Steps: {}", request.steps),
        format!("Sampler: {}", title(class, request.karras.unwrap_or(false))),
        format!("CFG scale: {}", request.guidance_scale),
        format!("Seed: {seed}"),
        format!("Size: {width}x{height}"),
        format!("Model: {}", quoted(name)),
    ];
    if let Some(start) = &request.start {
        settings.push(format!("Denoising strength: {}", start.strength));
    }
    if request.clip_skip > 0 {
        // The web UI counts layers from the end, and the last is the first.
        settings.push(format!("Clip skip: {}", request.clip_skip + 1));
    }
    if request.eta > 0.0 {
        settings.push(format!("Eta: {}", request.eta));
    }
    if request.guidance_rescale > 0.0 {
        settings.push(format!("CFG rescale: {}", request.guidance_rescale));
    }
    if !loras.is_empty() {
        settings.push(format!("Lora: {}", quoted(&loras.join(", "))));
    }
    settings.push(format!("Version: kiln {}", env!("CARGO_PKG_VERSION")));
    let mut lines = vec![request.prompt.clone()];
    if !request.negative_prompt.is_empty() {
        lines.push(format!("Negative prompt: {}", request.negative_prompt));
    }
    lines.push(settings.join(", "));
    lines.join("\n")
}

/// In quotes where it would not be told from what follows.
fn quoted(text: &str) -> String {
    if text.contains([',', ':', '\n']) { format!("{text:?}") } else { text.into() }
}
