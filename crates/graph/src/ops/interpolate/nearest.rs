//! Kernels that move pixels: the nearest kinds.

use kiln_shaders as shaders;

use super::axis::Axis;
use super::{Interpolate, InterpolateMode};
use crate::ops::slabs::{self, Rows};
use crate::ops::spatial::{bind, groups, lanes, lanes_unit, words};
use crate::ops::units;
use crate::{Dispatch, Io, Kernel, Launch, OpError, Source, Tier, params};

params! {
    struct NearestParams {
        first_row: u32, rows: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32, channels: u32,
        x_origin: u32, y_origin: u32,
    }
}

params! {
    struct RepeatParams {
        first_row: u32, rows: u32, in_width: u32, vertical: u32, horizontal: u32, channels: u32,
        x_origin: u32, y_origin: u32,
    }
}

/// Repeats pixels where the factors are whole, looks positions up in a table elsewhere.
pub(super) fn launches(
    op: &Interpolate,
    axes: &[Axis; 2],
    io: &Io,
    tier: &Tier,
) -> Result<Vec<Launch>, OpError> {
    let mut launches = Vec::new();
    if let Some(factors) = op.repeats(&io.inputs[0]) {
        launches.push(repeat(factors, io, tier)?);
    }
    launches.push(look_up(op, axes, io, tier)?);
    Ok(launches)
}

fn repeat([vertical, horizontal]: [usize; 2], io: &Io, tier: &Tier) -> Result<Launch, OpError> {
    let (x, y) = (&io.inputs[0], &io.outputs[0]);
    let lanes = lanes(x.last());
    // Rows of this launch are input rows: `vertical` output rows stand for each.
    let y_rows = Rows { count: Rows::of(x, 2).count, bytes: Rows::of(y, 2).bytes * vertical as u64 };
    let mut launch = Launch { name: "repeat", ..Launch::default() };
    for slab in slabs::cut(Rows::of(x, 2), &[y_rows], |row| row..row + 1, tier)? {
        let (workgroup, groups) = groups(slab.rows.len() * x.shape[2] * x.last() / lanes, tier);
        let params = RepeatParams {
            first_row: slab.rows.start as u32,
            rows: slab.rows.len() as u32,
            in_width: x.shape[2] as u32,
            vertical: vertical as u32,
            horizontal: horizontal as u32,
            channels: (x.last() / lanes) as u32,
            x_origin: slabs::origin(&slab.x, x, lanes),
            y_origin: slabs::origin(&slab.y[0], y, lanes),
            ..Default::default()
        };
        let parts = [units::elem(x.dtype), shaders::GRID, lanes_unit(lanes), shaders::SPATIAL_REPEAT_NEAREST];
        let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
        launch.dispatches.push(bind(Dispatch::new(kernel, params, groups), &slab));
    }
    Ok(launch)
}

fn look_up(op: &Interpolate, [rows, columns]: &[Axis; 2], io: &Io, tier: &Tier) -> Result<Launch, OpError> {
    let (x, y) = (&io.inputs[0], &io.outputs[0]);
    let lanes = lanes(x.last());
    let exact = op.mode == InterpolateMode::NearestExact;
    let (from_rows, from_columns) = (rows.nearest(exact), columns.nearest(exact));
    let reads = |line: usize| {
        let row = line / rows.output * rows.input + from_rows[line % rows.output];
        row..row + 1
    };
    let mut launch = Launch { name: "nearest", ..Launch::default() };
    for slab in slabs::cut(Rows::of(x, 2), &[Rows::of(y, 2)], reads, tier)? {
        let (workgroup, groups) = groups(slab.rows.len() * columns.output * y.last() / lanes, tier);
        let params = NearestParams {
            first_row: slab.rows.start as u32,
            rows: slab.rows.len() as u32,
            in_height: rows.input as u32,
            in_width: columns.input as u32,
            out_height: rows.output as u32,
            out_width: columns.output as u32,
            channels: (y.last() / lanes) as u32,
            x_origin: slabs::origin(&slab.x, x, lanes),
            y_origin: slabs::origin(&slab.y[0], y, lanes),
            ..Default::default()
        };
        let parts = [units::elem(x.dtype), shaders::GRID, lanes_unit(lanes), shaders::SPATIAL_RESIZE_NEAREST];
        let kernel = Kernel::new(parts).set("WORKGROUP", workgroup);
        let dispatch = Dispatch::new(kernel, params, groups).bind("sources", Source::Table(0));
        launch.dispatches.push(bind(dispatch, &slab));
    }
    launch.tables.push(words(from_rows.iter().chain(&from_columns).map(|&source| source as u32)));
    Ok(launch)
}
