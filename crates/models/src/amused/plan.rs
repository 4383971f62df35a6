//! What a request comes to, and whether it can be done.

use super::scheduler::{AmusedScheduler, MaskingSchedule, Timetable};
use super::{CONDS, Request};
use crate::Error;
use crate::stable_diffusion::pictures;
use crate::uvit2d::UVit2d;
use crate::vq_model::VqModel;

/// Longest side of a picture in pixels.
const MAX_SIDE: usize = 8192;

/// Most pictures of a batch.
const MAX_BATCH: usize = 256;

/// Most steps.
const MAX_STEPS: usize = 1000;

/// A request that can be done.
pub(super) struct Plan {
    /// Pictures.
    pub batch: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Rows and columns of codes.
    pub codes: [usize; 2],
    /// Codes to choose from.
    pub codebook: usize,
    /// Whether negative prompts lead.
    pub guided: bool,
    pub guidance_scale: f32,
    pub timetable: Timetable,
    /// The first step that is carried out.
    pub first: usize,
    /// Which codes are to change, row by row, where a mask says so.
    pub open: Option<Vec<bool>>,
    /// Width, height, crop and score, as the model wants them.
    pub micro_conds: [f32; CONDS],
}

impl Plan {
    pub fn new(
        request: &Request,
        scheduler: &AmusedScheduler,
        model: &UVit2d,
        autoencoder: &VqModel,
    ) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::Input(reason));
        let factor = autoencoder.spatial_factor();
        let size = request.size.unwrap_or([model.config().sample_size * factor; 2]);
        let [height, width] = size;
        if size.iter().any(|&side| side == 0 || side > MAX_SIDE || side % factor != 0) {
            return wrong(format!(
                "a picture of {width} x {height} cannot be made: both have to be multiples of {factor} up to {MAX_SIDE}"
            ));
        }
        let codes = size.map(|side| side / factor);
        model.check_size(codes)?;
        let (batch, steps) = (request.seeds.len(), request.steps);
        if batch == 0 || batch > MAX_BATCH {
            return wrong(format!("{batch} pictures at once are not 1 to {MAX_BATCH}"));
        }
        if steps == 0 || steps > MAX_STEPS {
            return wrong(format!("{steps} steps are not 1 to {MAX_STEPS}"));
        }
        let scale = request.guidance_scale;
        let [first, last] = request.temperature;
        if let Some(number) =
            [scale, first, last, request.aesthetic_score].into_iter().find(|number| !number.is_finite())
        {
            return wrong(format!("{number} is no scale, no temperature and no score"));
        }
        let first = match &request.start {
            None => 0,
            Some(start) if !(0.0..=1.0).contains(&start.strength) => {
                return wrong(format!("a strength of {} is not between 0 and 1", start.strength));
            }
            Some(start) => match (steps as f64 * start.strength) as usize {
                0 => {
                    return wrong(format!("of {steps} steps, a strength of {} leaves none", start.strength));
                }
                carried => steps - carried.min(steps),
            },
        };
        let [top, left] = request.crop;
        let micro_conds = [width as f32, height as f32, top as f32, left as f32, request.aesthetic_score];
        let mask = request.start.as_ref().and_then(|start| start.mask.as_ref());
        let open = mask.map(|mask| pictures::mask(mask, codes).pixels().to_vec());
        let timetable = match &open {
            None => scheduler.timetable(steps, request.temperature, 1.0),
            Some(open) => {
                let count = open.iter().filter(|&&open| open).count();
                if count == 0 {
                    return wrong("the mask leaves no code that is to change".into());
                }
                // As diffusers has it for inpainting, whatever the folder says.
                let linear = AmusedScheduler { masking_schedule: MaskingSchedule::Linear, ..*scheduler };
                linear.timetable(steps, request.temperature, count as f32 / open.len() as f32)
            }
        };
        Ok(Self {
            batch,
            size,
            codes,
            codebook: model.config().codebook_size,
            guided: scale > 1.0,
            guidance_scale: scale,
            timetable,
            first,
            open,
            micro_conds,
        })
    }
}
