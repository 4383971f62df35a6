// The first query's place among the keys.
@group(0) @binding(7) var<storage, read> position: array<u32>;

fn first_position() -> u32 {
    return position[0];
}
