//! Pixels of an object as runs along rows.

use ndarray::ArrayView2;

/// The pixels of which `inside` is true, as runs `[row, first, end]`, row by row; `pixels` begins at row and column `at`.
pub fn runs_where<T>(pixels: ArrayView2<'_, T>, at: [usize; 2], inside: impl Fn(&T) -> bool) -> Vec<[u32; 3]> {
    let mut runs = Vec::new();
    for (row, line) in pixels.outer_iter().enumerate() {
        let mut begun = None;
        for (column, inside) in line.iter().map(&inside).chain([false]).enumerate() {
            match (begun, inside) {
                (None, true) => begun = Some(column),
                (Some(first), false) => {
                    runs.push([at[0] + row, at[1] + first, at[1] + column].map(|n| n as u32));
                    begun = None;
                }
                _ => {}
            }
        }
    }
    runs
}
