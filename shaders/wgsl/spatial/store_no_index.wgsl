// For pools whose maxima's places nobody wants.
fn load_index(out: u32) -> Ints { return Ints(0); }

fn store_index(out: u32, at: Ints) {}
