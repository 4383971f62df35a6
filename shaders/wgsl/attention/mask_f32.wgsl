alias MaskElem = f32;
