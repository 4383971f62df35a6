//! Samplers by the names that people know.

/// A sampler.
#[derive(Debug)]
pub struct Sampler {
    /// Its name as an option.
    pub name: &'static str,
    /// Its name in pictures' parameters, as AUTOMATIC1111's web UI writes it.
    pub title: &'static str,
    /// diffusers' class.
    pub class: &'static str,
    /// Whether its noise levels are those of Karras et al.
    pub karras: bool,
}

const fn sampler(name: &'static str, title: &'static str, class: &'static str, karras: bool) -> Sampler {
    Sampler { name, title, class, karras }
}

/// All of them.
pub const SAMPLERS: [Sampler; 17] = [
    sampler("ddim", "DDIM", "DDIMScheduler", false),
    sampler("ddpm", "DDPM", "DDPMScheduler", false),
    sampler("pndm", "PLMS", "PNDMScheduler", false),
    sampler("lms", "LMS", "LMSDiscreteScheduler", false),
    sampler("lms-karras", "LMS Karras", "LMSDiscreteScheduler", true),
    sampler("euler", "Euler", "EulerDiscreteScheduler", false),
    sampler("euler-karras", "Euler Karras", "EulerDiscreteScheduler", true),
    sampler("euler-a", "Euler a", "EulerAncestralDiscreteScheduler", false),
    sampler("heun", "Heun", "HeunDiscreteScheduler", false),
    sampler("heun-karras", "Heun Karras", "HeunDiscreteScheduler", true),
    sampler("dpm++2m", "DPM++ 2M", "DPMSolverMultistepScheduler", false),
    sampler("dpm++2m-karras", "DPM++ 2M Karras", "DPMSolverMultistepScheduler", true),
    sampler("dpm++sde", "DPM++ SDE", "DPMSolverSDEScheduler", false),
    sampler("dpm++sde-karras", "DPM++ SDE Karras", "DPMSolverSDEScheduler", true),
    sampler("unipc", "UniPC", "UniPCMultistepScheduler", false),
    sampler("unipc-karras", "UniPC Karras", "UniPCMultistepScheduler", true),
    sampler("lcm", "LCM", "LCMScheduler", false),
];

/// The title of a class with or without those noise levels; the class itself where there is none.
pub fn title(class: &str, karras: bool) -> &str {
    let same = |sampler: &&Sampler| sampler.class == class && sampler.karras == karras;
    SAMPLERS.iter().find(same).map_or(class, |sampler| sampler.title)
}
