//! Points and directions in millimetres, (x, y, z) = (right, anterior, superior).

/// A point or direction, in millimetres.
pub(crate) type Point = [f32; 3];

pub(crate) fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(crate) fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn scale(a: Point, by: f32) -> Point {
    a.map(|v| v * by)
}

pub(crate) fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn length(a: Point) -> f32 {
    dot(a, a).sqrt()
}

/// Between `a` (at 0) and `b` (at 1).
pub(crate) fn mix(a: Point, b: Point, at: f32) -> Point {
    add(scale(a, 1.0 - at), scale(b, at))
}

/// Three orthonormal rows: first turned about z, then about y, then about x (radians).
pub(crate) fn rotation(about_x: f32, about_y: f32, about_z: f32) -> [Point; 3] {
    let ((sx, cx), (sy, cy), (sz, cz)) = (about_x.sin_cos(), about_y.sin_cos(), about_z.sin_cos());
    [
        [cy * cz, -cy * sz, sy],
        [sx * sy * cz + cx * sz, cx * cz - sx * sy * sz, -sx * cy],
        [sx * sz - cx * sy * cz, cx * sy * sz + sx * cz, cx * cy],
    ]
}

/// The rows of a matrix applied to a point.
pub(crate) fn turn(rows: &[Point; 3], p: Point) -> Point {
    rows.map(|row| dot(row, p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_keep_lengths_and_angles() {
        let rows = rotation(0.3, -0.8, 2.1);
        for i in 0..3 {
            for j in 0..3 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(rows[i], rows[j]) - expected).abs() < 1e-6);
            }
        }
        let p = [3.0, -4.0, 12.0];
        assert!((length(turn(&rows, p)) - 13.0).abs() < 1e-4);
        assert!(length(sub(turn(&rotation(0.0, 0.0, 0.0), p), p)) < 1e-6);
    }
}
