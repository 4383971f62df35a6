@group(0) @binding(4) var<storage, read_write> indices: array<Ints>;

fn load_index(out: u32) -> Ints { return indices[out]; }

fn store_index(out: u32, at: Ints) {
    indices[out] = at;
}
