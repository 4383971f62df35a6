//! Common shapes, from the models that use them.

use anyhow::Result;
use kiln::graph::ops::{AttentionOptions, Conv2d, Interpolate, InterpolateMode, Unary};
use kiln::graph::{Builder, DType, Graph, Value};

use super::random;

/// A shape of an op.
pub struct Shape {
    pub op: &'static str,
    pub label: String,
    pub build: Box<dyn Fn() -> Result<Graph>>,
}

/// One op applied to inputs of these shapes.
fn shape(
    op: &'static str,
    label: impl Into<String>,
    inputs: &[&[usize]],
    build: impl Fn(&mut Builder, &[Value]) -> Result<Value> + 'static,
) -> Shape {
    let inputs: Vec<Vec<usize>> = inputs.iter().map(|shape| shape.to_vec()).collect();
    let build = move || {
        let mut b = Builder::new();
        let mut values = Vec::new();
        for (i, shape) in inputs.iter().enumerate() {
            values.push(b.input(format!("input{i}"), shape.clone(), DType::F32)?);
        }
        let y = build(&mut b, &values)?;
        b.output("y", y)?;
        Ok(b.finish())
    };
    Shape { op, label: label.into(), build: Box::new(build) }
}

/// Every shape, ops in the registry's order.
pub fn all() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for [rows, outputs, depth] in [
        [1024, 1024, 1024],
        [197, 3072, 768],
        [197, 768, 768],
        [197, 768, 3072],
        [1, 768, 768],
        [1, 4096, 1024],
    ] {
        shapes.push(shape(
            "matmul",
            format!("{rows} x {depth} to {outputs}"),
            &[&[rows, depth]],
            move |b, v| {
                let weight = b.constant(random(&[outputs, depth])?);
                Ok(b.linear(v[0], weight, None)?)
            },
        ));
    }
    // Next to which the look-up of as many codes is to be judged.
    shapes.push(shape("matmul", "1024 x 256 by 256 x 16384", &[&[1024, 256], &[256, 16384]], |b, v| {
        Ok(b.matmul(v[0], v[1])?)
    }));
    for (side, from, to, kernel) in [(64, 320, 320, 3), (32, 640, 640, 3), (64, 320, 320, 1)] {
        let label = format!("{kernel}x{kernel}, {from} to {to} channels at {side}x{side}");
        shapes.push(shape("conv2d", label, &[&[1, side, side, from]], move |b, v| {
            let weight = b.constant(random(&[to, from, kernel, kernel])?);
            Ok(b.conv2d(v[0], weight, None, Conv2d::default().padding(kernel / 2))?)
        }));
    }
    for (heads, length, size) in [(12, 197, 64), (8, 4096, 40)] {
        let inner: &[usize] = &[1, length, heads * size];
        let label = format!("{heads} heads x {length} x {size}");
        shapes.push(shape("attention", label, &[inner; 3], move |b, v| {
            Ok(b.scaled_dot_product_attention(v[0], v[1], v[2], &AttentionOptions::heads(heads))?)
        }));
    }
    shapes.push(shape("binary", "add, 4 M elements", &[&[4, 1024, 1024], &[4, 1024, 1024]], |b, v| {
        Ok(b.add(v[0], v[1])?)
    }));
    shapes.push(shape("unary", "gelu, 4 M elements", &[&[4, 1024, 1024]], |b, v| {
        Ok(b.unary(Unary::Gelu, v[0])?)
    }));
    shapes.push(shape("group_norm", "32 groups of 320 channels at 64x64", &[&[1, 64, 64, 320]], |b, v| {
        let (weight, bias) = (b.constant(random(&[320])?), b.constant(random(&[320])?));
        Ok(b.group_norm(v[0], 32, Some(weight), Some(bias), 1e-5)?)
    }));
    shapes.push(shape("layer_norm", "197 x 768", &[&[197, 768]], |b, v| {
        let (weight, bias) = (b.constant(random(&[768])?), b.constant(random(&[768])?));
        Ok(b.layer_norm(v[0], Some(weight), Some(bias), 1e-6)?)
    }));
    shapes.push(shape("softmax", "2364 rows of 197", &[&[12, 197, 197]], |b, v| Ok(b.softmax(v[0], -1)?)));
    shapes.push(shape("nearest_code", "1024 x 256, 16384 codes", &[&[1024, 256], &[16384, 256]], |b, v| {
        Ok(b.nearest_code(v[0], v[1])?)
    }));
    for mode in [InterpolateMode::Nearest, InterpolateMode::Bilinear, InterpolateMode::Bicubic] {
        let label = format!("{mode:?}, 32x32 to 64x64, 320 channels").to_lowercase();
        shapes.push(shape("interpolate", label, &[&[1, 32, 32, 320]], move |b, v| {
            Ok(b.interpolate(v[0], Interpolate::size(mode, [64, 64]))?)
        }));
    }
    shapes.push(shape("permute", "64x64x320 to 320x64x64", &[&[1, 64, 64, 320]], |b, v| {
        Ok(b.permute(v[0], [0, 3, 1, 2])?)
    }));
    shapes
}
