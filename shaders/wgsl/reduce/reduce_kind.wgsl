// What a reduction does, and which elements it takes.

struct Params {
    first_group: u32,
    groups: u32,
    outputs: u32,
    // Elements that go into one output.
    count: u32,
    // Subtracted from the count under a variance.
    correction: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
    // Innermost first: extent, stride.
    kept0: vec4<u32>,
    kept1: vec4<u32>,
    kept2: vec4<u32>,
    kept3: vec4<u32>,
    reduced0: vec4<u32>,
    reduced1: vec4<u32>,
    reduced2: vec4<u32>,
    reduced3: vec4<u32>,
}

override KIND = 0u;
override KEPT_AXES = 4u;
override REDUCED_AXES = 4u;

const SUM = 0u;
const MEAN = 1u;
const PROD = 2u;
const MAX = 3u;
const MIN = 4u;
const VAR = 5u;
const STD = 6u;
const LOGSUMEXP = 7u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

// Takes the index along one axis off the rest: (what is left, place in x).
fn advance(walk: vec2<u32>, axis: vec4<u32>) -> vec2<u32> {
    let left = walk.x / axis.x;
    return vec2<u32>(left, walk.y + (walk.x - left * axis.x) * axis.y);
}

// Where the elements of an output start.
fn start_of(output: u32) -> u32 {
    var walk = advance(vec2<u32>(output, 0u), params.kept0);
    if KEPT_AXES > 1u { walk = advance(walk, params.kept1); }
    if KEPT_AXES > 2u { walk = advance(walk, params.kept2); }
    if KEPT_AXES > 3u { walk = advance(walk, params.kept3); }
    return walk.y;
}

// Element i of those that start there.
fn load(start: u32, i: u32) -> f32 {
    if REDUCED_AXES == 1u {
        return f32(x[start + i * params.reduced0.y]);
    }
    var walk = advance(vec2<u32>(i, start), params.reduced0);
    if REDUCED_AXES > 1u { walk = advance(walk, params.reduced1); }
    if REDUCED_AXES > 2u { walk = advance(walk, params.reduced2); }
    if REDUCED_AXES > 3u { walk = advance(walk, params.reduced3); }
    return f32(x[walk.y]);
}

fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }
fn is_infinite(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) == 0x7f800000u; }

// NaN wins, as in PyTorch.
fn larger(a: f32, b: f32) -> f32 {
    if is_nan(a) { return a; }
    if is_nan(b) || b > a { return b; }
    return a;
}

fn smaller(a: f32, b: f32) -> f32 {
    if is_nan(a) { return a; }
    if is_nan(b) || b < a { return b; }
    return a;
}

// The value that changes nothing; largest and smallest have none but one of their elements.
fn neutral(first: f32) -> f32 {
    if KIND == PROD { return 1.0; }
    if KIND == MAX || KIND == MIN { return first; }
    return 0.0;
}

fn combine(a: f32, b: f32) -> f32 {
    if KIND == PROD { return a * b; }
    if KIND == MAX { return larger(a, b); }
    if KIND == MIN { return smaller(a, b); }
    return a + b;
}

// What an element adds, relative to the centre: the mean of a variance, the largest of a logsumexp.
fn term(v: f32, centre: f32) -> f32 {
    if KIND == VAR || KIND == STD { return (v - centre) * (v - centre); }
    if KIND == LOGSUMEXP { return exp(v - centre); }
    return v;
}

fn finish(total: f32, centre: f32) -> f32 {
    if KIND == MEAN { return total / f32(params.count); }
    if KIND == VAR { return total / (f32(params.count) - params.correction); }
    if KIND == STD { return sqrt(total / (f32(params.count) - params.correction)); }
    if KIND == LOGSUMEXP { return centre + log(total); }
    return total;
}
