//! Data sets and label images.

use cellsparse::*;
use jni::objects::{JClass, JDoubleArray, JIntArray, JObject, JString};
use jni::sys::{jboolean, jdouble, jint, jlong};
use jni::{Env, EnvUnowned, jni_mangle};

use crate::bridge::{
    Outcome, c, check, double_array, doubles, enter, handle, ints, produce, produce_text, refuse, size, text, token,
};
use crate::images::Described;

/// A label image for the C library; `values` must live longer.
fn view(values: &[jint], encoding: jint, height: jint, width: jint) -> Outcome<cellsparse_labels> {
    Ok(cellsparse_labels {
        data: values.as_ptr().cast(),
        size: size_of_val(values),
        offset: 0,
        dtype: cellsparse_dtype::I32 as u32,
        encoding: u32::try_from(encoding).unwrap_or(u32::MAX),
        height: size(height)?,
        width: size(width)?,
        row_stride: 0,
        column_stride: 0,
    })
}

/// Polygons of Java, whose rings lie one after the other.
struct Polygons {
    points: Vec<f64>,
    ring_lengths: Vec<usize>,
    ring_counts: Vec<usize>,
    kinds: Vec<u32>,
}

impl Polygons {
    fn read(
        env: &Env<'_>,
        points: &JDoubleArray<'_>,
        ring_lengths: &JIntArray<'_>,
        ring_counts: &JIntArray<'_>,
        kinds: &JIntArray<'_>,
    ) -> Outcome<Self> {
        let sizes = |array: &JIntArray<'_>| ints(env, array)?.into_iter().map(size).collect::<Outcome<Vec<usize>>>();
        Ok(Self {
            points: doubles(env, points)?,
            ring_lengths: sizes(ring_lengths)?,
            ring_counts: sizes(ring_counts)?,
            kinds: ints(env, kinds)?.into_iter().map(|kind| u32::try_from(kind).unwrap_or(0)).collect(),
        })
    }

    /// The polygons, valid as long as `self`.
    fn views(&self) -> Outcome<Vec<cellsparse_polygon>> {
        let short = || refuse("the arrays of the polygons do not fit each other");
        let (mut points, mut lengths) = (self.points.as_slice(), self.ring_lengths.as_slice());
        let mut views = Vec::new();
        for (count, kind) in self.ring_counts.iter().zip(&self.kinds) {
            let (own, other_lengths) = lengths.split_at_checked(*count).ok_or_else(short)?;
            let n_points = own.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length)).ok_or_else(short)?;
            let values = n_points.checked_mul(2).ok_or_else(short)?;
            let (own_points, other_points) = points.split_at_checked(values).ok_or_else(short)?;
            views.push(cellsparse_polygon {
                points: own_points.as_ptr(),
                n_points,
                ring_lengths: own.as_ptr(),
                n_rings: own.len(),
                kind: *kind,
            });
            (points, lengths) = (other_points, other_lengths);
        }
        Ok(views)
    }
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_new<'local>(env: EnvUnowned<'local>, class: JClass<'local>) -> jlong {
    enter(env, &class, |_| Ok(handle(produce(|out| c!(cellsparse_dataset_new(out)))?)))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_add<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    dataset: jlong,
    pixels: JObject<'local>,
    direct: jboolean,
    dtype: jint,
    offset: jlong,
    height: jint,
    width: jint,
    channels: jint,
    row_stride: jlong,
    column_stride: jlong,
    channel_stride: jlong,
    labels: JIntArray<'local>,
    encoding: jint,
    label_height: jint,
    label_width: jint,
) {
    enter(env, &class, |env| {
        let shape = [height, width, channels];
        let strides = [row_stride, column_stride, channel_stride];
        let image = Described { pixels: &pixels, direct, dtype, offset, shape, strides }.pin(env)?;
        let values = ints(env, &labels)?;
        let labels = view(&values, encoding, label_height, label_width)?;
        check(c!(cellsparse_dataset_add(token(dataset), Some(&image.view()), Some(&labels))))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_add_polygons<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    dataset: jlong,
    pixels: JObject<'local>,
    direct: jboolean,
    dtype: jint,
    offset: jlong,
    height: jint,
    width: jint,
    channels: jint,
    row_stride: jlong,
    column_stride: jlong,
    channel_stride: jlong,
    points: JDoubleArray<'local>,
    ring_lengths: JIntArray<'local>,
    ring_counts: JIntArray<'local>,
    kinds: JIntArray<'local>,
) {
    enter(env, &class, |env| {
        let shape = [height, width, channels];
        let strides = [row_stride, column_stride, channel_stride];
        let image = Described { pixels: &pixels, direct, dtype, offset, shape, strides }.pin(env)?;
        let polygons = Polygons::read(env, &points, &ring_lengths, &ring_counts, &kinds)?;
        let views = polygons.views()?;
        check(c!(cellsparse_dataset_add_polygons(token(dataset), Some(&image.view()), views.as_ptr(), views.len())))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_set_classes<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    dataset: jlong,
    index: jint,
    ids: JIntArray<'local>,
    classes: JIntArray<'local>,
) {
    enter(env, &class, |env| {
        let ids = ints(env, &ids)?;
        let negative = || refuse("a class is negative; classes begin at 1");
        let classes = ints(env, &classes)?.into_iter().map(|value| u32::try_from(value).map_err(|_| negative()));
        let classes = classes.collect::<Outcome<Vec<u32>>>()?;
        let count = ids.len();
        if classes.len() != count {
            return Err(refuse(format!("{} classes for {count} objects; give one for each", classes.len())));
        }
        let index = size(index)?;
        check(c!(cellsparse_dataset_set_classes(token(dataset), index, ids.as_ptr(), classes.as_ptr(), count)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_set_pixel_size<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    dataset: jlong,
    index: jint,
    height: jdouble,
    width: jdouble,
) {
    enter(env, &class, |_| {
        let index = size(index)?;
        check(c!(cellsparse_dataset_set_pixel_size(token(dataset), index, height, width)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_size<'local>(env: EnvUnowned<'local>, class: JClass<'local>, dataset: jlong) -> jint {
    enter(env, &class, |_| Ok(produce(|out| c!(cellsparse_dataset_size(token(dataset), out)))? as jint))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_advice<'local>(env: EnvUnowned<'local>, class: JClass<'local>, dataset: jlong) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_dataset_advice(token(dataset), out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn dataset_free<'local>(env: EnvUnowned<'local>, class: JClass<'local>, dataset: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_dataset_free(token(dataset)))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn polygons_to_labels<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    points: JDoubleArray<'local>,
    ring_lengths: JIntArray<'local>,
    ring_counts: JIntArray<'local>,
    kinds: JIntArray<'local>,
    height: jint,
    width: jint,
) -> JIntArray<'local> {
    enter(env, &class, |env| {
        let polygons = Polygons::read(env, &points, &ring_lengths, &ring_counts, &kinds)?;
        let views = polygons.views()?;
        let (height, width) = (size(height)?, size(width)?);
        let count = height.checked_mul(width).filter(|count| *count <= jint::MAX as usize);
        let count = count.ok_or_else(|| refuse(format!("{height} x {width} pixels are too many for an array")))?;
        // First what Java refuses with an exception when memory is short.
        let array = env.new_int_array(count)?;
        let mut labels = vec![0; count];
        let (polygons, target) = (views.as_ptr(), labels.as_mut_ptr());
        check(c!(cellsparse_polygons_to_labels(polygons, views.len(), height, width, target, count)))?;
        array.set_region(env, 0, &labels)?;
        Ok(array)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn labels_geojson<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    labels: JIntArray<'local>,
    encoding: jint,
    height: jint,
    width: jint,
    options: JString<'local>,
) -> JString<'local> {
    enter(env, &class, |env| {
        let values = ints(env, &labels)?;
        let labels = view(&values, encoding, height, width)?;
        let options = text(env, &options)?;
        produce_text(env, |out| c!(cellsparse_labels_geojson(Some(&labels), options.as_ptr(), out)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn labels_outlines<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    labels: JIntArray<'local>,
    encoding: jint,
    height: jint,
    width: jint,
    options: JString<'local>,
) -> jlong {
    enter(env, &class, |env| {
        let values = ints(env, &labels)?;
        let labels = view(&values, encoding, height, width)?;
        let options = text(env, &options)?;
        Ok(handle(produce(|out| c!(cellsparse_labels_outlines(Some(&labels), options.as_ptr(), out)))?))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn matching<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    truth: JIntArray<'local>,
    truth_height: jint,
    truth_width: jint,
    predicted: JIntArray<'local>,
    height: jint,
    width: jint,
    thresh: jdouble,
) -> JDoubleArray<'local> {
    enter(env, &class, |env| {
        let (truth, predicted) = (ints(env, &truth)?, ints(env, &predicted)?);
        let truth = view(&truth, cellsparse_encoding::Signed as jint, truth_height, truth_width)?;
        let predicted = view(&predicted, cellsparse_encoding::Signed as jint, height, width)?;
        let scores = produce(|out| c!(cellsparse_matching(Some(&truth), Some(&predicted), thresh, out)))?;
        double_array(env, &numbers(&scores))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn matching_dataset<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    truths: JIntArray<'local>,
    predictions: JIntArray<'local>,
    sizes: JIntArray<'local>,
    thresholds: JDoubleArray<'local>,
    by_image: jboolean,
) -> JDoubleArray<'local> {
    enter(env, &class, |env| {
        let (truths, predictions, sizes) = (ints(env, &truths)?, ints(env, &predictions)?, ints(env, &sizes)?);
        let thresholds = doubles(env, &thresholds)?;
        let (truths, predictions) = (views(&truths, &sizes)?, views(&predictions, &sizes)?);
        let (images, count) = (truths.len(), thresholds.len());
        let mut scores = vec![cellsparse_scores::default(); count];
        let (truths, predictions) = (truths.as_ptr(), predictions.as_ptr());
        let (thresholds, by_image, out) = (thresholds.as_ptr(), i32::from(by_image), scores.as_mut_ptr());
        check(c!(cellsparse_matching_dataset(truths, predictions, images, thresholds, count, by_image, out)))?;
        double_array(env, &scores.iter().flat_map(numbers).collect::<Vec<f64>>())
    })
}

/// Signed label images that lie one after the other. `sizes` are rows, columns, rows, columns, ...
fn views(values: &[jint], sizes: &[jint]) -> Outcome<Vec<cellsparse_labels>> {
    let mut rest = values;
    let mut views = Vec::new();
    for &[rows, columns] in sizes.as_chunks().0 {
        let count = size(rows)?.checked_mul(size(columns)?);
        let split = count.and_then(|count| rest.split_at_checked(count));
        let (one, others) = split.ok_or_else(|| refuse("the label images are smaller than their sizes say"))?;
        views.push(view(one, cellsparse_encoding::Signed as jint, rows, columns)?);
        rest = others;
    }
    Ok(views)
}

/// In the order of `Scores` of Java.
fn numbers(s: &cellsparse_scores) -> [f64; 13] {
    let [fp, tp, missed, n_true, n_pred] = [s.fp, s.tp, s.r#fn, s.n_true, s.n_pred].map(|count| count as f64);
    let (mean_true, mean_matched, quality) = (s.mean_true_score, s.mean_matched_score, s.panoptic_quality);
    let rates = [s.precision, s.recall, s.accuracy, s.f1];
    let [precision, recall, accuracy, f1] = rates;
    [s.thresh, fp, tp, missed, precision, recall, accuracy, f1, n_true, n_pred, mean_true, mean_matched, quality]
}
