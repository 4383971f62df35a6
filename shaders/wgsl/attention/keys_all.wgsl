fn key_count() -> u32 {
    return params.keys;
}
