// Half the squared distance of a vector x and a code e is |x|^2 / 2 + s for the score s = |e|^2 / 2 - x.e. By sums of n
// terms, in whatever order, a score is off by at most slack(n) (|e|^2 + |x|^2 / 2), and a sum of squared differences is off
// by less than slack(n) of itself. So
//     least = s - slack |e|^2    most = s + 3 slack |e|^2
// tell codes that may be nearest, by sums of squared differences: those whose least score is at most 3 slack |x|^2 above
// the most of every other one.

fn slack(terms: u32) -> f32 {
    return f32(terms + 8u) / 16777216.0;
}
