use kiln::models::image::Picture;

use super::judge::Asked;
use super::reading::{light, shows};
use super::things::ink;

#[test]
fn captions_are_read_and_nothing_else() {
    let asked = Asked::parse("a red 3 right of a blue 7").unwrap();
    assert_eq!(asked, Asked { things: vec![(Some("blue"), "seven"), (Some("red"), "three")], axis: 0 });
    let asked = Asked::parse("a white 0 above a purple 9").unwrap();
    assert_eq!(asked, Asked { things: vec![(Some("white"), "zero"), (Some("purple"), "nine")], axis: 1 });
    assert_eq!(Asked::parse("a green 4").unwrap().things, [(Some("green"), "four")]);
    for other in ["", "a red", "a red 10", "a pink 3", "red 3", "a red 3 near a blue 7", "a red 3 above"] {
        assert_eq!(Asked::parse(other), None, "{other}");
    }
}

#[test]
fn ink_is_what_is_bright_in_a_box() {
    // A dark ground, and right of the middle something blue.
    let pixels = (0..64).flat_map(|i| if i % 8 < 4 { [30, 30, 40] } else { [58, 120, 250] });
    let picture = Picture::new(8, 8, pixels.collect()).unwrap();
    assert_eq!(ink(&picture, [2.0, 1.0, 7.0, 6.0]), Some("blue"));
    assert_eq!(ink(&picture, [0.0, 0.0, 3.6, 8.0]), None);
    assert_eq!(ink(&picture, [5.0, 5.0, 2.0, 2.0]), None);
    assert_eq!(ink(&picture, [-9.0, f32::NAN, 900.0, 9.0]), Some("blue"));
}

#[test]
fn a_digit_is_read_in_its_colour() {
    let pixels = (0..64).flat_map(|i| if i % 8 < 4 { [30, 40, 30] } else { [58, 120, 250] });
    let picture = Picture::new(8, 8, pixels.collect()).unwrap();
    let grey = light(&picture);
    assert_eq!((&grey.rgb[..3], &grey.rgb[12..15]), (&[40; 3][..], &[250; 3][..]));
    assert!(shows(&picture, "blue 3", "three"));
    for (class, label) in [("red 3", "three"), ("blue 3", "four"), ("blue", "three"), ("", "")] {
        assert!(!shows(&picture, class, label), "{class} {label}");
    }
}
