@group(0) @binding(1) var<storage, read> new_rows: array<Elem>;
@group(0) @binding(3) var<storage, read_write> cache: array<Elem>;
