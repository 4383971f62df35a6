use kiln_graph::random::SplitMix64;

use super::*;

const BOOK: Codebook = Codebook { size: 1024, fingerprint: 0x1234_5678 };

fn book(size: u32) -> Codebook {
    Codebook { size, ..BOOK }
}

fn random(name: &str, i: usize, below: u32) -> u32 {
    (SplitMix64::named(name).affine(i as u64, 0.5, 0.5) * below as f32) as u32 % below
}

fn map(size: [usize; 2], book: Codebook, code: impl Fn(usize) -> u32) -> CodeMap {
    let codes = (0..size[0] * size[1]).map(code).collect();
    CodeMap::new(size, codes, size.map(|side| side * 16 - 3), book).unwrap()
}

/// With its checksum set right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 4);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[test]
fn maps_are_read_as_they_were_written_and_never_take_more_than_fixed_bits() {
    let flat = |_| 3;
    let cases: [(&str, CodeMap); 14] = [
        ("one code", map([1, 1], book(1024), flat)),
        ("one code of one", map([1, 1], book(1), |_| 0)),
        ("many of one", map([40, 40], book(1), |_| 0)),
        ("two codes", map([3, 5], book(2), |i| (i % 3 == 0).into())),
        ("a row", map([1, 100], book(5), |i| i as u32 % 5)),
        ("a column", map([100, 1], book(5), |i| random("column", i, 5))),
        ("one used", map([16, 16], book(1024), flat)),
        ("one used, large", map([512, 512], book(16384), flat)),
        ("all codes", map([32, 32], book(1024), |i| i as u32)),
        ("all of 16384", map([128, 128], book(16384), |i| (i as u32 * 4099) % 16384)),
        ("at random", map([16, 16], book(1024), |i| random("16", i, 1024))),
        ("no power of two", map([33, 31], book(1000), |i| random("33", i, 1000))),
        ("few of many", map([64, 64], book(16384), |i| random("64", i, 97) * 167)),
        ("the largest book", map([8, 8], book(Codebook::MAX_SIZE), |i| Codebook::MAX_SIZE - 1 - i as u32)),
    ];
    for (name, map) in cases {
        let bytes = map.to_bytes();
        assert_eq!(CodeMap::from_bytes(&bytes).as_ref(), Ok(&map), "{name}");
        // The rest takes 14 bytes, and five numbers of no more than 3.
        assert!(bytes.len() <= 29 + fixed(&map).len(), "{name}: {}", bytes.len());
    }
}

#[test]
fn repetitions_take_little() {
    let len = |map: CodeMap| map.to_bytes().len();
    assert!(len(map([16, 16], BOOK, |_| 3)) < 40);
    assert!(len(map([512, 512], book(16384), |_| 3)) < 120);
    // Eight rows at random, again and again: 1280 bits each time with fixed bits.
    let tiled = map([64, 16], BOOK, |i| random("tile", i % 128, 1024));
    assert!(len(tiled.clone()) < 256 && fixed(&tiled).len() == 1280, "{}", len(tiled));
    // 97 codes tell 6.6 bits each, of 14.
    let few = map([64, 64], book(16384), |i| random("64", i, 97) * 167);
    assert!(len(few.clone()) < 3700, "{}", len(few));
}

#[test]
fn every_way_to_write_codes_is_taken_where_it_is_the_shortest() {
    let coding = |map: CodeMap| map.to_bytes()[5];
    assert_eq!(coding(map([16, 16], BOOK, |i| random("16", i, 1024))), 0);
    assert_eq!(coding(map([16, 16], BOOK, |i| random("square", i, 32) * random("root", i, 32))), 2);
    assert_eq!(coding(map([64, 64], book(16384), |i| random("64", i, 97) * 167)), 4);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    for map in [
        map([4, 4], BOOK, |i| random("16", i, 1024)),
        map([16, 16], BOOK, |i| random("tile", i % 20, 1024)),
        map([1, 1], book(1), |_| 0),
    ] {
        let bytes = map.to_bytes();
        for len in 0..bytes.len() {
            assert!(CodeMap::from_bytes(&bytes[..len]).is_err(), "{len} bytes of {}", bytes.len());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(CodeMap::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        assert_eq!(CodeMap::from_bytes(&[&bytes[..], &[0]].concat()), Err(CodesError::Damaged));
    }
}

#[test]
fn files_with_a_right_checksum_and_wrong_content_are_refused() {
    let map = map([2, 2], book(5), |i| i as u32);
    let bytes = map.to_bytes();
    assert_eq!(bytes.len(), 6 + 5 + 4 + 2 + 4);
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes.splice(at..at + 1, new.iter().copied());
        CodeMap::from_bytes(&sealed(bytes)).unwrap_err()
    };
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(with(0, b"k"), CodesError::Magic);
    assert_eq!(with(4, &[2]).to_string(), "is a .codes file of version 2, and Kiln reads version 1");
    for coding in [1, 2, 3, 4, 5, 255] {
        assert_eq!(with(5, &[coding]), CodesError::Damaged);
    }
    for (at, new) in [(6, &[1][..]), (6, &huge), (8, &[0]), (8, &huge), (9, &[30]), (10, &[0]), (10, &huge)] {
        assert!(matches!(with(at, new), CodesError::Size(_)), "{at}");
    }
    // A number that takes more than 32 bits, or has no end.
    assert_eq!(with(6, &[0xff, 0xff, 0xff, 0xff, 0x1f]), CodesError::Damaged);
    assert_eq!(with(6, &[0xff; 9]), CodesError::Damaged);
    // More codes than there are bits, and none that is written.
    assert_eq!(with(9, &[3]), CodesError::Damaged);
    assert_eq!(with(15, &[0b1110_0000]), CodesError::Code { code: 7, size: 5 });
    assert_eq!(with(16, &[0b0011_0001]), CodesError::Damaged);
}

#[test]
fn more_codes_than_bytes_can_hold_take_no_memory() {
    // A picture of 23168x23168 pixels with a code each, in 2 bytes.
    for coding in 0..=4 {
        let mut bytes = [&MAGIC[..], &[VERSION, coding]].concat();
        for number in [23168, 23168, 23168, 23168, 1024] {
            write_number(&mut bytes, number);
        }
        bytes.extend([0; 4 + 2 + 4]);
        assert_eq!(CodeMap::from_bytes(&sealed(bytes)), Err(CodesError::Damaged));
    }
}

#[test]
fn whatever_bytes_say_is_refused_or_is_a_map() {
    let mut read = 0;
    for i in 0..4000 {
        let byte = |j: usize| random(&format!("bytes {i}"), j, 256) as u8;
        let mut bytes = [&MAGIC[..], &[VERSION, i as u8 % 5]].concat();
        for number in [900, 900, 1 + i % 30, 1 + i / 7 % 30, 1 + i * i % 3000] {
            write_number(&mut bytes, number);
        }
        bytes.extend((0..4 + i % 60).map(byte));
        bytes.extend([0; 4]);
        if let Ok(map) = CodeMap::from_bytes(&sealed(bytes)) {
            assert_eq!(CodeMap::from_bytes(&map.to_bytes()).unwrap(), map);
            read += 1;
        }
    }
    assert!(read > 0);
}
