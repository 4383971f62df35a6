// The number of keys that a cache holds so far.
@group(0) @binding(6) var<storage, read> kv_len: array<u32>;

fn key_count() -> u32 {
    return min(kv_len[0], params.keys);
}
