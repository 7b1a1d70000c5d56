//! Segmentations and outlines.

use cellsparse::*;
use jni::objects::{JClass, JDoubleArray, JIntArray, JString};
use jni::sys::{jint, jlong};
use jni::{EnvUnowned, jni_mangle};

use crate::bridge::{
    Outcome, c, check, double_array, enter, handle, int_array, produce, produce_text, refuse, size, text, token,
};

/// A number that Java can index with.
fn int(value: usize) -> Outcome<jint> {
    jint::try_from(value).map_err(|_| refuse(format!("{value} values are too many for an array of Java")))
}

fn shape(segmentation: jlong) -> Outcome<(usize, usize)> {
    let mut height = std::mem::MaybeUninit::uninit();
    let width = produce(|width| c!(cellsparse_segmentation_shape(token(segmentation), Some(&mut height), width)))?;
    // SAFETY: both outputs are written on success.
    Ok((unsafe { height.assume_init() }, width))
}

fn outlines_counts(outlines: jlong) -> Outcome<(usize, usize)> {
    let mut rings = std::mem::MaybeUninit::uninit();
    let points = produce(|points| c!(cellsparse_outlines_size(token(outlines), Some(&mut rings), points)))?;
    // SAFETY: both outputs are written on success.
    Ok((unsafe { rings.assume_init() }, points))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_shape<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
) -> JIntArray<'local> {
    enter(env, &class, |env| {
        let (height, width) = shape(segmentation)?;
        int_array(env, &[int(height)?, int(width)?])
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_labels<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
) -> JIntArray<'local> {
    enter(env, &class, |env| {
        let (height, width) = shape(segmentation)?;
        let count = height.saturating_mul(width);
        int(count)?;
        let mut labels = vec![0; count];
        check(c!(cellsparse_segmentation_labels(token(segmentation), labels.as_mut_ptr(), count)))?;
        int_array(env, &labels)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_object_count<'local>(env: EnvUnowned<'local>, class: JClass<'local>, segmentation: jlong) -> jint {
    enter(env, &class, |_| int(produce(|out| c!(cellsparse_segmentation_object_count(token(segmentation), out)))?))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_object<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
    index: jint,
    values: JDoubleArray<'local>,
) -> jint {
    enter(env, &class, |env| {
        let index = size(index)?;
        let object = produce(|out| c!(cellsparse_segmentation_object(token(segmentation), index, out)))?;
        let all = [f64::from(object.id), f64::from(object.probability), f64::from(object.object_class)];
        values.set_region(env, 0, &all)?;
        int(object.n_points)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_polygon<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
    index: jint,
) -> JDoubleArray<'local> {
    enter(env, &class, |env| {
        let index = size(index)?;
        let object = produce(|out| c!(cellsparse_segmentation_object(token(segmentation), index, out)))?;
        let mut points = vec![0.0; 2 * object.n_points];
        let (target, capacity) = (points.as_mut_ptr(), points.len());
        check(c!(cellsparse_segmentation_polygon(token(segmentation), index, target, capacity)))?;
        double_array(env, &points)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_geojson<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
    options: JString<'local>,
) -> JString<'local> {
    enter(env, &class, |env| {
        let options = text(env, &options)?;
        produce_text(env, |out| c!(cellsparse_segmentation_geojson(token(segmentation), options.as_ptr(), out)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_outlines<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
    options: JString<'local>,
) -> jlong {
    enter(env, &class, |env| {
        let options = text(env, &options)?;
        let outlines = produce(|out| c!(cellsparse_segmentation_outlines(token(segmentation), options.as_ptr(), out)))?;
        Ok(handle(outlines))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_notes<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    segmentation: jlong,
) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_segmentation_notes(token(segmentation), out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn segmentation_free<'local>(env: EnvUnowned<'local>, class: JClass<'local>, segmentation: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_segmentation_free(token(segmentation)))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn outlines_size<'local>(env: EnvUnowned<'local>, class: JClass<'local>, outlines: jlong) -> JIntArray<'local> {
    enter(env, &class, |env| {
        let (rings, points) = outlines_counts(outlines)?;
        int_array(env, &[int(rings)?, int(points)?])
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn outlines_copy<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    outlines: jlong,
    rings: JIntArray<'local>,
) -> JDoubleArray<'local> {
    enter(env, &class, |env| {
        let (n_rings, n_points) = outlines_counts(outlines)?;
        let empty = cellsparse_ring { id: 0, part: 0, hole: 0, first_point: 0, n_points: 0 };
        let mut copied = vec![empty; n_rings];
        let mut points = vec![0.0; 2 * n_points];
        let (ring_target, point_target, n_values) = (copied.as_mut_ptr(), points.as_mut_ptr(), points.len());
        check(c!(cellsparse_outlines_copy(token(outlines), ring_target, n_rings, point_target, n_values)))?;
        let mut flat = Vec::with_capacity(5 * n_rings);
        for ring in &copied {
            let places = [int(ring.part as usize)?, int(ring.hole as usize)?];
            flat.extend([ring.id, places[0], places[1], int(ring.first_point)?, int(ring.n_points)?]);
        }
        rings.set_region(env, 0, &flat)?;
        double_array(env, &points)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn outlines_free<'local>(env: EnvUnowned<'local>, class: JClass<'local>, outlines: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_outlines_free(token(outlines)))))
}
