//! Outlines by click.

use cellsparse::*;
use jni::objects::{JClass, JIntArray, JObject, JString};
use jni::sys::{jboolean, jint, jlong};
use jni::{EnvUnowned, jni_mangle};

use crate::bridge::{
    Outcome, c, check, enter, handle, int_array, ints, produce, produce_text, refuse, size, text, token,
};
use crate::images::Described;

#[jni_mangle("io.github.cellsparse.Native")]
pub fn sam_load<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    path: JString<'local>,
    options: JString<'local>,
) -> jlong {
    enter(env, &class, |env| {
        let (path, options) = (text(env, &path)?, text(env, &options)?);
        Ok(handle(produce(|out| c!(cellsparse_sam_load(path.as_ptr(), options.as_ptr(), out)))?))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn sam_info<'local>(env: EnvUnowned<'local>, class: JClass<'local>, sam: jlong) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_sam_info(token(sam), out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn sam_masks<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    sam: jlong,
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
    prompts: JString<'local>,
    options: JString<'local>,
    cancel: jlong,
) -> jlong {
    enter(env, &class, |env| {
        let shape = [height, width, channels];
        let strides = [row_stride, column_stride, channel_stride];
        let image = Described { pixels: &pixels, direct, dtype, offset, shape, strides }.pin(env)?;
        let (prompts, options) = (text(env, &prompts)?, text(env, &options)?);
        let (sam, view, cancel) = (token(sam), image.view(), token(cancel));
        let found =
            produce(|out| c!(cellsparse_sam_masks(sam, Some(&view), prompts.as_ptr(), options.as_ptr(), cancel, out)))?;
        Ok(handle(found))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn sam_part<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    sam: jlong,
    height: jint,
    width: jint,
    view: JIntArray<'local>,
    prompts: JString<'local>,
) -> JIntArray<'local> {
    enter(env, &class, |env| {
        let prompts = text(env, &prompts)?;
        let view = ints(env, &view)?.into_iter().map(size).collect::<Outcome<Vec<usize>>>()?;
        let view: [usize; 4] = view.try_into().map_err(|_| refuse("a view is four numbers"))?;
        let mut part = [0; 4];
        check(c!(cellsparse_sam_part(
            token(sam),
            size(height)?,
            size(width)?,
            view.as_ptr(),
            prompts.as_ptr(),
            part.as_mut_ptr()
        )))?;
        // They lie in the image, whose sides are numbers of Java.
        int_array(env, &part.map(|side| jint::try_from(side).unwrap_or(jint::MAX)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn sam_free<'local>(env: EnvUnowned<'local>, class: JClass<'local>, sam: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_sam_free(token(sam)))))
}
