use serde_json::json;

use super::*;

const MASK: i32 = 9;

fn scheduler(masking_schedule: MaskingSchedule) -> AmusedScheduler {
    AmusedScheduler { mask_token_id: MASK, masking_schedule }
}

/// How many of so many codes are masked behind each step.
fn masked(codes: usize, steps: usize, schedule: MaskingSchedule) -> Vec<usize> {
    let timetable = scheduler(schedule).timetable(steps, [2.0, 0.0], 1.0);
    let mut left = codes;
    let behind = (0..steps).map(|step| {
        left = timetable.masked_after(step, codes, left);
        left
    });
    behind.collect()
}

#[test]
fn as_many_codes_are_masked_as_in_diffusers() {
    let (cosine, linear) = (MaskingSchedule::Cosine, MaskingSchedule::Linear);
    assert_eq!(masked(256, 12, cosine), [253, 247, 236, 221, 203, 181, 155, 127, 97, 66, 33, 0]);
    // A third of pi has a cosine just below a half in f32.
    assert_eq!(masked(256, 3, cosine), [221, 127, 0]);
    assert_eq!(masked(256, 8, linear), [224, 192, 160, 128, 96, 64, 32, 0]);
    assert_eq!(masked(5, 9, cosine), [4, 3, 2, 1, 1, 1, 1, 1, 0]);
    assert_eq!(masked(1, 2, cosine), [0, 0]);
}

#[test]
fn the_surest_codes_stay_where_nothing_is_left_to_chance() {
    let timetable = scheduler(MaskingSchedule::Linear).timetable(2, [0.0, 0.0], 1.0);
    let drawn = Draw { codes: vec![1, 2, 3, 4], probabilities: vec![0.3, 0.9, 0.2, 0.8] };
    let mut generator = Generator::new(0);
    let (next, predicted) = timetable.step(0, &[MASK; 4], &drawn, MASK, &mut generator);
    assert_eq!((next, predicted), (vec![MASK, 2, MASK, 4], vec![1, 2, 3, 4]));
    // A code that is known stays, whatever is drawn for it.
    let (next, predicted) = timetable.step(0, &[MASK, 7, MASK, MASK], &drawn, MASK, &mut generator);
    assert_eq!((next, predicted), (vec![MASK, 7, MASK, 4], vec![1, 7, 3, 4]));
    let (next, _) = timetable.step(1, &[MASK, 7, MASK, 5], &drawn, MASK, &mut generator);
    assert_eq!(next, [1, 7, 3, 5]);
}

#[test]
fn schedulers_are_read_or_refused() {
    let read = |json| AmusedScheduler::from_json(&json);
    let plain = json!({"_class_name": "AmusedScheduler", "mask_token_id": MASK});
    assert_eq!(read(plain).unwrap(), scheduler(MaskingSchedule::Cosine));
    let linear = json!({"mask_token_id": MASK, "masking_schedule": "linear"});
    assert_eq!(read(linear).unwrap(), scheduler(MaskingSchedule::Linear));
    for (json, reason) in [
        (json!({"mask_token_id": MASK, "masking_schedule": "sqrt"}), "sqrt"),
        (json!({}), "no mask_token_id"),
        (json!({"_class_name": "DDIMScheduler", "mask_token_id": MASK}), "DDIMScheduler"),
    ] {
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
