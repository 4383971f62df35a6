alias MaskElem = Elem;
