//! Removing corners of rings one after the other so that the rings stay simple and apart.

/// Passes over all corners at most. One is enough for almost every outline; what is left then was blocked by its
/// neighbours in every order that was tried.
const PASSES: usize = 64;

/// The corners of the rings of one object, some of them removed.
///
/// A corner may go when the triangle of it and its two neighbours holds no other corner, and no edge joins these neighbours
/// already. If rings are simple and meet each other in common corners at most, which are never removed, they stay so: the
/// new edge is a side of that triangle, and an edge that crosses it would have to end inside, or cross one of the other
/// two sides before.
pub(super) struct Thinning {
    corners: Vec<Corner>,
    /// First corner and number of corners of each ring.
    rings: Vec<(usize, usize)>,
    bands: Bands,
}

struct Corner {
    point: [f64; 2],
    before: usize,
    after: usize,
    present: bool,
}

impl Thinning {
    /// All corners of closed rings (first point = last point).
    pub fn new(rings: &[&[[f64; 2]]]) -> Self {
        let mut corners = Vec::new();
        let mut places = Vec::new();
        for ring in rings {
            let (first, count) = (corners.len(), ring.len().saturating_sub(1));
            places.push((first, count));
            corners.extend(ring.iter().take(count).enumerate().map(|(at, point)| Corner {
                point: *point,
                before: first + (at + count - 1) % count,
                after: first + (at + 1) % count,
                present: true,
            }));
        }
        let bands = Bands::new(&corners);
        Self { corners, rings: places, bands }
    }

    /// Removes the corners that are not marked, as far as possible; returns marks of those that are left.
    pub fn remove_all_but(&mut self, kept: &[Vec<bool>]) -> Vec<Vec<bool>> {
        let mut pending: Vec<usize> = Vec::new();
        let mut left: Vec<usize> = self.rings.iter().map(|(_, count)| *count).collect();
        let mut ring_of = vec![0; self.corners.len()];
        for (ring, ((first, count), kept)) in self.rings.iter().zip(kept).enumerate() {
            ring_of[*first..first + count].fill(ring);
            pending.extend((0..*count).filter(|at| !kept[*at]).map(|at| first + at));
        }
        for _ in 0..PASSES {
            let before = pending.len();
            pending.retain(|&at| {
                if left[ring_of[at]] <= 3 || self.is_blocked(at) {
                    return true;
                }
                self.remove(at);
                left[ring_of[at]] -= 1;
                false
            });
            if pending.is_empty() || pending.len() == before {
                break;
            }
        }
        let present = |(first, count): &(usize, usize)| {
            self.corners[*first..first + count].iter().map(|corner| corner.present).collect()
        };
        self.rings.iter().map(present).collect()
    }

    fn remove(&mut self, at: usize) {
        let (before, after) = (self.corners[at].before, self.corners[at].after);
        self.corners[before].after = after;
        self.corners[after].before = before;
        self.corners[at].present = false;
    }

    /// Whether another corner lies in the closed triangle, but for those of other rings on its own corners, or an edge of
    /// another ring is where the new one would be.
    fn is_blocked(&self, at: usize) -> bool {
        let corner = &self.corners[at];
        let point = |at: usize| self.corners[at].point;
        let triangle = [point(corner.before), corner.point, point(corner.after)];
        self.bands.any_within(&triangle, |index| {
            let other = &self.corners[index];
            if !other.present || index == at || index == corner.before || index == corner.after {
                return false;
            }
            if other.point == triangle[0] {
                return [other.before, other.after].iter().any(|next| point(*next) == triangle[2]);
            }
            !triangle.contains(&other.point) && is_inside(&triangle, other.point)
        })
    }
}

/// Whether a point lies in a closed triangle, which may be flat. Exact for whole numbers below 2^25.
fn is_inside(triangle: &[[f64; 2]; 3], point: [f64; 2]) -> bool {
    let [a, b, c] = *triangle;
    let side = |a: [f64; 2], b: [f64; 2]| (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]);
    let sides = [side(a, b), side(b, c), side(c, a)];
    let within = |axis: usize| {
        let values = [a[axis], b[axis], c[axis]];
        values.iter().any(|value| *value <= point[axis]) && values.iter().any(|value| *value >= point[axis])
    };
    (sides.iter().all(|side| *side >= 0.0) || sides.iter().all(|side| *side <= 0.0)) && within(0) && within(1)
}

/// Corners in bands of rows, each sorted by `x`.
struct Bands {
    bottom: f64,
    height: f64,
    bands: Vec<Vec<(f64, usize)>>,
}

impl Bands {
    fn new(corners: &[Corner]) -> Self {
        let ys = || corners.iter().map(|corner| corner.point[1]);
        let (bottom, top) = (ys().fold(f64::INFINITY, f64::min), ys().fold(f64::NEG_INFINITY, f64::max));
        // Not more bands than corners, however far apart they are.
        let height = ((top - bottom) / corners.len().max(1) as f64).max(1.0);
        let mut made = Self { bottom, height, bands: Vec::new() };
        for (at, corner) in corners.iter().enumerate() {
            let band = made.band(corner.point[1]);
            if band >= made.bands.len() {
                made.bands.resize_with(band + 1, Vec::new);
            }
            made.bands[band].push((corner.point[0], at));
        }
        for band in &mut made.bands {
            band.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        made
    }

    fn band(&self, y: f64) -> usize {
        ((y - self.bottom) / self.height) as usize
    }

    /// Whether any of the corners that may lie in the triangle answers the question with yes.
    fn any_within(&self, triangle: &[[f64; 2]; 3], question: impl Fn(usize) -> bool) -> bool {
        let low = triangle.iter().map(|point| point[1]).fold(f64::INFINITY, f64::min);
        let high = triangle.iter().map(|point| point[1]).fold(f64::NEG_INFINITY, f64::max);
        (self.band(low)..=self.band(high)).any(|index| {
            let Some(band) = self.bands.get(index) else { return false };
            let bottom = self.bottom + index as f64 * self.height;
            let (from, to) = extent(triangle, bottom, bottom + self.height);
            let first = band.partition_point(|(x, _)| *x < from);
            band[first..].iter().take_while(|(x, _)| *x <= to).any(|(_, corner)| question(*corner))
        })
    }
}

/// Smallest and largest `x` of a triangle between two rows, a little more rather than less.
fn extent(triangle: &[[f64; 2]; 3], bottom: f64, top: f64) -> (f64, f64) {
    let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
    for index in 0..3 {
        let (a, b) = (triangle[index], triangle[(index + 1) % 3]);
        let (a, b) = if a[1] <= b[1] { (a, b) } else { (b, a) };
        if a[1] > top || b[1] < bottom {
            continue;
        }
        let along = |y: f64| {
            let share = if b[1] > a[1] { (y - a[1]) / (b[1] - a[1]) } else { 0.0 };
            a[0] + share.clamp(0.0, 1.0) * (b[0] - a[0])
        };
        let ends = if b[1] > a[1] { [along(bottom), along(top)] } else { [a[0], b[0]] };
        from = from.min(ends[0]).min(ends[1]);
        to = to.max(ends[0]).max(ends[1]);
    }
    let margin = 1e-9 * (from.abs() + to.abs());
    (from - margin, to + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
        points.iter().chain(points.first()).copied().collect()
    }

    #[test]
    fn a_corner_in_the_way_keeps_another_one() {
        let roof = ring(&[[0.0, 0.0], [8.0, 0.0], [8.0, 4.0], [4.0, 6.0], [0.0, 4.0]]);
        let marks = vec![vec![true, true, true, false, true]];
        assert_eq!(Thinning::new(&[&roof]).remove_all_but(&marks), marks);
        let hole = ring(&[[4.0, 5.0], [4.5, 4.5], [4.0, 4.5]]);
        let marks = vec![marks[0].clone(), vec![true; 3]];
        let left = Thinning::new(&[&roof, &hole]).remove_all_but(&marks);
        assert_eq!(left[0], [true; 5], "the hole would be outside");
    }

    #[test]
    fn two_rings_do_not_share_an_edge() {
        // A notch whose mouth is an edge of the other ring.
        let notched = ring(&[[4.0, 3.0], [5.0, 3.0], [5.0, 2.0], [4.0, 2.0], [4.0, 0.0], [6.0, 0.0], [6.0, 4.0]]);
        let neighbour = ring(&[[2.0, 2.0], [4.0, 2.0], [4.0, 3.0], [2.0, 3.0]]);
        let marks = [vec![true, false, false, true, true, true, true], vec![true; 4]];
        let left = Thinning::new(&[&notched, &neighbour]).remove_all_but(&marks);
        assert_eq!(left[0][1..3].iter().filter(|left| **left).count(), 1);
    }

    #[test]
    fn three_corners_stay() {
        let square = ring(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
        let left = Thinning::new(&[&square]).remove_all_but(&[vec![false; 4]]);
        assert_eq!(left[0].iter().filter(|left| **left).count(), 3);
        assert!(Thinning::new(&[]).remove_all_but(&[]).is_empty());
    }
}
