//! Public functions refuse what would lead them out of bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// The message of the panic that `work` ends in.
fn refused(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("this should have been refused");
    let message = panic.downcast_ref::<String>().cloned();
    message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

#[test]
fn narrow_maps_are_neither_pooled_nor_upsampled() {
    let (wide, narrow) = (Layout::new(1, 1, 8, 8), Layout::input(1, 1, 4, 4));
    let (fine, mut to) = (Buffer::zeros(wide.len()), [0.0; 36]);
    assert_eq!(narrow.len(), to.len());
    let level = Level::detect();
    let whole = "maps of whole blocks";
    assert!(refused(|| max_pool(level, &wide, fine.as_slice(), (2, 2), &narrow, &mut to)).contains(whole));
    assert!(
        refused(|| upsample(level, &narrow, &[0.0; 36], (2, 2), &wide, fine.clone().as_mut_slice())).contains(whole)
    );
    let pooling = || {
        let (values, gradient) = ((&wide, Some(fine.as_slice())), (&narrow, &[0.0; 36][..]));
        max_pool_gradient(level, values, (2, 2), gradient, fine.clone().as_mut_slice(), Store::default());
    };
    assert!(refused(pooling).contains(whole));
    let gradient = (&wide, fine.as_slice());
    let upsampling = || upsample_gradient(level, gradient, (2, 2), &narrow, &mut to, Store::default());
    assert!(refused(upsampling).contains(whole));
}

#[test]
fn sizes_that_wrap_around_are_no_layouts() {
    let huge = usize::MAX / 2 + 1;
    for size in [[huge, 1, 1, 1], [1, huge, 1, 1], [1, 1, huge, 1], [1, 1, 1, usize::MAX], [huge, 16, 2, 2]] {
        assert!(!Layout::checked(size), "{size:?}");
        let [batch, channels, height, width] = size;
        assert!(refused(|| _ = Layout::new(batch, channels, height, width)).contains("out of range"));
        assert!(refused(|| _ = Layout::input(batch, channels, height, width)).contains("out of range"));
    }
    // 2^57 planes of 36 pixels of 16 lanes: the product has more than 64 bits.
    assert!(!Layout::checked([1 << 57, 1, 4, 4]));
    for place in 0..4 {
        let mut size = [1; 4];
        size[place] = 0;
        assert!(!Layout::checked(size), "{size:?}");
    }
    assert!(Layout::checked([8, 32, 224, 224]));
    assert!(refused(|| _ = Layout::input(1, 0, 4, 4)).contains("out of range"));
}

#[test]
fn buffers_of_other_sizes_are_refused() {
    let level = Level::detect();
    let map = Layout::new(1, 16, 4, 4);
    let values = Buffer::zeros(map.len());
    let short = &values.as_slice()[..map.len() - 16];
    let mut to = values.clone();
    assert!(
        refused(|| affine(level, &map, short, [&[1.0; 16], &[0.0; 16]], None, to.as_mut_slice())).contains("shorter")
    );
    assert!(refused(|| drop(channel_moments(level, &map, short))).contains("shorter"));
    assert!(refused(|| drop(channel_products(level, &map, values.as_slice(), short, &[0.0; 16]))).contains("shorter"));
    assert!(refused(|| drop(channel_products(level, &map, short, short, &[0.0; 15]))).contains("one value"));
    let narrow = Layout::new(1, 16, 4, 9);
    assert!(refused(|| copy_rows((&map, short, 0), (&map, to.as_mut_slice(), 0), 1)).contains("shorter"));
    assert!(
        refused(|| copy_rows((&narrow, values.as_slice(), 0), (&map, to.as_mut_slice(), 0), 1))
            .contains("another width")
    );
    for (first, at, rows) in [(6, 0, 1), (0, 6, 1), (0, 0, 7), (usize::MAX, 0, 2)] {
        let copied = || copy_rows((&map, values.as_slice(), first), (&map, to.as_mut_slice(), at), rows);
        assert!(refused(copied).contains("does not have"));
    }
    copy_rows((&map, values.as_slice(), 0), (&map, to.as_mut_slice(), 0), 6);
    let mut conv = Conv::new(level, Method::Fast, 3, &[map], &[map]);
    assert!(refused(|| conv.forward(&[values.as_slice()], None, None, &mut [to.as_mut_slice()])).contains("not set"));
    assert!(refused(|| conv.set_weights(&[0.0; 9], &[])).contains("another size"));
    assert!(refused(|| conv.set_transposed_weights(&[0.0; 9])).contains("another size"));
    conv.set_weights(&[0.0; 9 * 256], &[]);
    assert!(refused(|| conv.forward(&[short], None, None, &mut [to.as_mut_slice()])).contains("shorter"));
    assert!(
        refused(|| conv.forward(&[values.as_slice()], Some(short), None, &mut [to.as_mut_slice()])).contains("shorter")
    );
    let mut space = Buffer::default();
    let mut gradient = |weights: usize, biases: usize| {
        let (mut weights, mut biases) = (vec![0.0; weights], vec![0.0; biases]);
        conv.weight_gradient(&[values.as_slice()], &[values.as_slice()], &mut weights, &mut biases, &mut space);
    };
    gradient(9 * 256, 16);
    assert!(refused(|| gradient(9 * 255, 16)).contains("another size"));
    assert!(refused(|| gradient(9 * 256, 17)).contains("another size"));
}
