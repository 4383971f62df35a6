fn first_position() -> u32 {
    return 0u;
}
