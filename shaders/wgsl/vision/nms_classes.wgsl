// Boxes suppress those of their own class alone.
@group(0) @binding(6) var<storage, read> classes: array<u32>;

fn compete(a: u32, b: u32) -> bool { return classes[a] == classes[b]; }
