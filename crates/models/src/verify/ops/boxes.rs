//! `box`: torchvision's `ops.boxes`.

use kiln_graph::ops::{BoxFormat, IouKind};

use crate::verify::{OpCase, VerifyError};

fn format(case: &OpCase, name: &str) -> Result<BoxFormat, VerifyError> {
    match case.str(name)?.as_str() {
        "xyxy" => Ok(BoxFormat::Xyxy),
        "xywh" => Ok(BoxFormat::Xywh),
        "cxcywh" => Ok(BoxFormat::Cxcywh),
        other => Err(VerifyError::Unsupported(format!("Kiln has no box format {other:?}"))),
    }
}

pub(super) fn build(case: &mut OpCase) -> Result<(), VerifyError> {
    let kind = case.str("kind")?;
    let y = match kind.as_str() {
        "nms" | "batched_nms" => {
            let (boxes, scores) = (case.input("boxes")?, case.input("scores")?);
            let threshold = case.float("iou_threshold")? as f32;
            let (indices, count) = if kind == "nms" {
                case.builder.nms(boxes, scores, threshold)?
            } else {
                let classes = case.input("idxs")?;
                case.builder.batched_nms(boxes, scores, classes, threshold)?
            };
            return case.counted_output("y", indices, count);
        }
        "remove_small_boxes" => {
            let (boxes, min_size) = (case.input("boxes")?, case.float("min_size")? as f32);
            let (indices, count) = case.builder.remove_small_boxes(boxes, min_size)?;
            return case.counted_output("y", indices, count);
        }
        "box_convert" => {
            let (boxes, from, to) = (case.input("boxes")?, format(case, "in_fmt")?, format(case, "out_fmt")?);
            case.builder.box_convert(boxes, from, to)?
        }
        "clip_boxes_to_image" => {
            let (boxes, [height, width]) = (case.input("boxes")?, case.pair("size")?);
            case.builder.clip_boxes(boxes, height as f32, width as f32)?
        }
        "box_area" => {
            let boxes = case.input(if case.has("boxes") { "boxes" } else { "a" })?;
            case.builder.box_area(boxes)?
        }
        _ => {
            let measure = match kind.as_str() {
                "box_iou" => IouKind::Iou,
                "generalized_box_iou" => IouKind::Generalized,
                "distance_box_iou" => IouKind::Distance,
                "complete_box_iou" => IouKind::Complete,
                other => return Err(VerifyError::Unsupported(format!("Kiln has no {other:?}"))),
            };
            let (a, b) = (case.input("a")?, case.input("b")?);
            case.builder.pairwise_iou(measure, a, b)?
        }
    };
    case.output("y", y)
}
