//! Weights of PyTorch: files that `torch.save(model.state_dict(), FILE)` writes, read without Python, and written so
//! that `torch.load(FILE, weights_only=True)` reads them.
//!
//! Both forms are read: zip archives (PyTorch 1.6 and later) and the plain sequence of pickles before them. A file is
//! only data here: a function that it names is refused and never run. Memory is bounded by the size of the file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use super::archive::{Archive, Packer};
use super::numbers::put_floats;
use super::pickle::{self, Pickle, Tensor, Value};
use super::shortened::shortened;
use super::source::Source;
use super::tensors::{PlainArray, check_file};
use crate::error::{Error, Result, counted};
use crate::raster::write_atomically;

pub use super::state_dict::{NamedArray, StateDict};

/// Arrays of this name are counters, which PyTorch keeps as 64-bit integers.
const COUNTER: &str = "num_batches_tracked";
/// Names under which training programs keep the weights beside other things.
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "model_state", "model", "net", "network"];
/// The first number of the older form, 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Version of the older form.
const OLD_VERSION: i64 = 1001;
/// Most arrays of a file.
const MAX_ARRAYS: usize = 1 << 16;
/// Most bytes of a name.
const MAX_NAME: usize = 512;
/// Deepest nesting of dicts.
const MAX_DEPTH: usize = 6;
/// Values that are read beyond one for each byte of the file: views may repeat numbers, and small files use that most.
const SPARE_VALUES: usize = 1 << 16;
/// Bytes in which the descriptions of the older form are looked for, before the numbers.
const HEAD: u64 = 1 << 22;

/// Reads the weights of a PyTorch file as 32-bit floats, in the order of the file.
///
/// Wrappers such as `{"state_dict": ..., "epoch": ...}` are opened, dicts in dicts get names joined by points, of a list
/// of state dicts (an ensemble) the first is taken, and a prefix `module.` common to all names is removed; the notes of
/// the result say so. Half, bfloat16, double and integer tensors are converted.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::Limit`] for a file above 4 GiB, and [`Error::File`] when the file is
/// damaged, is not of PyTorch, names a function beyond those of a state dict, or holds no tensors.
pub fn read_state_dict(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    check_file(path)?;
    let failed = |source| Error::io(path, source);
    let file = Source::of_file(File::open(path).map_err(failed)?).map_err(failed)?;
    let found = match file.get(0, 2.min(file.len())).as_deref() {
        Some(b"PK") => Archive::of(file, false).and_then(|archive| parse_archive(&archive)),
        Some([0x80, 2..=5]) => parse_sequence(&file),
        Some([]) => Err("it is empty".to_string()),
        Some(_) => Err("it begins like no PyTorch file; it may be damaged or of another format".to_string()),
        None => return Err(failed(std::io::Error::other("it cannot be read"))),
    };
    found.map_err(|reason| Error::file(path, format!("not a file of PyTorch weights that can be read: {reason}")))
}

/// Writes named arrays (name, shape, row-major values) as a PyTorch file, atomically. Arrays whose name ends in
/// `num_batches_tracked` become 64-bit integers, all others 32-bit floats.
///
/// # Errors
/// [`Error::Weights`] for a name that occurs twice, a shape that does not fit its values, or a counter that is not a
/// whole number; [`Error::Limit`] beyond 4 GiB or 65,000 arrays; [`Error::Io`], [`Error::NotFound`] when the file cannot
/// be written.
pub fn write_state_dict<'a>(path: impl AsRef<Path>, arrays: impl IntoIterator<Item = PlainArray<'a>>) -> Result<()> {
    let made = |(name, shape, values): PlainArray<'a>| MadeArray {
        name,
        shape: shape.to_vec(),
        count: values.len(),
        make: Box::new(move || Cow::Borrowed(values)),
    };
    write_made_state_dict(path, arrays.into_iter().map(made).collect())
}

/// An array that is made when it is written.
pub struct MadeArray<'a> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its number of values.
    pub count: usize,
    /// Makes its values, row-major.
    pub make: Box<dyn Fn() -> Cow<'a, [f32]> + 'a>,
}

/// As [`write_state_dict`], for arrays that are made one after the other.
///
/// # Errors
/// As [`write_state_dict`].
pub fn write_made_state_dict(path: impl AsRef<Path>, arrays: Vec<MadeArray<'_>>) -> Result<()> {
    let path = path.as_ref();
    if arrays.len() > 65_000 {
        return Err(Error::Limit(format!("{} arrays; a PyTorch file is written with at most 65000", arrays.len())));
    }
    let mut names = HashSet::new();
    for array in &arrays {
        check_array(array)?;
        if !names.insert(array.name.as_str()) {
            return Err(Error::Weights(format!("two arrays have the name '{}'", shortened(&array.name))));
        }
    }
    write_atomically(path, |writer| {
        pack(&arrays, writer).map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidInput => Error::limit(path, "the weights take more than 4 GiB"),
            _ => Error::io(path, source),
        })
    })
}

fn parse_archive(archive: &Archive<'_>) -> std::result::Result<StateDict, String> {
    let of_pickle =
        |name: &&str| name.strip_suffix("data.pkl").is_some_and(|folder| folder.is_empty() || folder.ends_with('/'));
    let name = archive.names().filter(of_pickle).min_by_key(|name| name.len());
    let name = name.ok_or("it is a zip archive without a data.pkl; it may be of another program")?;
    let folder = name.strip_suffix("data.pkl").unwrap_or_default();
    if archive.names().any(|other| other.strip_prefix(folder) == Some("constants.pkl")) {
        return Err("it is a TorchScript program; save its weights with torch.save(model.state_dict(), FILE)".into());
    }
    if archive.read(&format!("{folder}byteorder"))?.is_some_and(|order| &order[..] != b"little") {
        return Err("its numbers are big-endian; load and save it on an ordinary computer".into());
    }
    let description = archive.read(name)?.unwrap_or_default();
    let (pickle, root, _) = pickle::read(&description)?;
    let block = |key: &str| {
        let name = format!("{folder}data/{key}");
        archive.stored(&name)?.ok_or_else(|| format!("its entry '{}' is missing", shortened(&name)))
    };
    collect(&pickle, root, block, archive.len())
}

/// The older form: magic number, version, facts of the machine, the objects, the keys of the storages, and for each
/// storage its number of elements (64 bit) and its data.
fn parse_sequence(file: &Source<'_>) -> std::result::Result<StateDict, String> {
    let unreadable = || "it cannot be read".to_string();
    // Descriptions are short, and the whole file is read where they are not.
    let head = file.get(0, file.len().min(HEAD)).ok_or_else(unreadable)?;
    let found = pickles(&head);
    if found.is_ok() || head.len() as u64 == file.len() {
        return parse_blocks(&found?, file);
    }
    parse_blocks(&pickles(&file.get(0, file.len()).ok_or_else(unreadable)?)?, file)
}

/// The pickles of a file of the older form.
struct Pickles<'b> {
    objects: (Pickle<'b>, Value<'b>),
    keys: (Pickle<'b>, Value<'b>),
    /// Bytes of all.
    length: usize,
}

fn pickles(bytes: &[u8]) -> std::result::Result<Pickles<'_>, String> {
    let mut at = 0;
    let mut next = || -> std::result::Result<_, String> {
        let (pickle, root, length) = pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += length;
        Ok((pickle, root))
    };
    if next()?.1 != Value::Long(MAGIC) {
        return Err("it is a pickle, not a file that torch.save wrote".into());
    }
    if next()?.1 != Value::Int(OLD_VERSION) {
        return Err(format!("its version is not {OLD_VERSION}, the only one of this form"));
    }
    let (machine, facts) = next()?;
    let endian = (Value::Text("little_endian"), Value::Bool(false));
    if matches!(facts, Value::Dict(index) if machine.dicts.get(index).is_some_and(|dict| dict.contains(&endian))) {
        return Err("its numbers are big-endian; load and save it on an ordinary computer".into());
    }
    let (objects, keys) = (next()?, next()?);
    Ok(Pickles { objects, keys, length: at })
}

fn parse_blocks(found: &Pickles<'_>, file: &Source<'_>) -> std::result::Result<StateDict, String> {
    let Pickles { objects: (pickle, root), keys: (keys, list), length } = found;
    let sizes: HashMap<&str, usize> =
        pickle.storages.iter().map(|storage| (storage.key, storage.number.size())).collect();
    let keys = match list {
        Value::List(index) => keys.lists.get(*index).map(Vec::as_slice).unwrap_or_default(),
        _ => return Err("its list of blocks is damaged".into()),
    };
    let mut blocks = HashMap::new();
    let mut at = *length as u64;
    for key in keys {
        let Value::Text(key) = *key else { return Err("its list of blocks is damaged".into()) };
        let size = sizes.get(key).ok_or("its list of blocks does not fit its tensors")?;
        let data = block(file, &mut at, *size as u64).ok_or("it is cut off within its numbers")?;
        blocks.insert(key, data);
    }
    let block = |key: &str| blocks.get(key).cloned().ok_or_else(|| "a block of its numbers is missing".to_string());
    collect(pickle, *root, block, usize::try_from(file.len()).unwrap_or(usize::MAX))
}

fn block<'a>(file: &Source<'a>, at: &mut u64, element: u64) -> Option<Source<'a>> {
    let count = u64::from_le_bytes(*file.get(*at, 8)?.first_chunk()?);
    let (start, length) = (at.checked_add(8)?, count.checked_mul(element)?);
    let data = file.part(start, length)?;
    *at = start + length;
    Some(data)
}

/// The weights of a pickle; `block` finds the numbers of a storage, which are asked for one storage at a time.
fn collect<'b>(
    pickle: &Pickle<'_>,
    root: Value<'_>,
    block: impl Fn(&str) -> std::result::Result<Source<'b>, String>,
    file_size: usize,
) -> std::result::Result<StateDict, String> {
    let mut notes = Vec::new();
    let dict = unwrap(pickle, root, &mut notes)?;
    let mut found = Found {
        pickle,
        tensors: Vec::new(),
        places: HashMap::new(),
        left_out: Vec::new(),
        left_out_count: 0,
        visited: 0,
    };
    found.visit(dict, "", 0)?;
    if found.tensors.is_empty() {
        return Err(match found.left_out.is_empty() {
            true => "its state dict is empty".to_string(),
            false => format!("it holds no tensors, only {}", quoted(&found.left_out)),
        });
    }
    if !found.left_out.is_empty() {
        let count = found.left_out_count;
        let are = if count == 1 { "that is no tensor is" } else { "that are not tensors are" };
        notes.push(format!("{} {are} left out: {}", counted(count, "entry"), quoted(&found.left_out)));
    }
    if found.tensors.iter().all(|(name, _)| name.starts_with("module.")) {
        notes.push("the prefix 'module.' is removed from all names".to_string());
        found.tensors.iter_mut().for_each(|(name, _)| drop(name.drain(.."module.".len())));
    }
    // A view may repeat numbers without end, so what all arrays take together is bounded by the file.
    let mut budget = file_size.saturating_add(SPARE_VALUES);
    let mut arrays: Vec<NamedArray> = Vec::with_capacity(found.tensors.len());
    let mut of_storage: BTreeMap<&str, Vec<(usize, &Tensor)>> = BTreeMap::new();
    for (index, (name, tensor)) in found.tensors.into_iter().enumerate() {
        let key = pickle.storages.get(tensor.storage).map(|storage| storage.key);
        let key = key.ok_or_else(|| format!("its tensor '{}' has no block of numbers", shortened(&name)))?;
        of_storage.entry(key).or_default().push((index, tensor));
        arrays.push(NamedArray { name, shape: tensor.shape.clone(), values: Vec::new() });
    }
    for (key, tensors) in of_storage {
        let data = block(key)?;
        for (index, tensor) in tensors {
            arrays[index].values = values(pickle, tensor, &data, &mut budget)
                .map_err(|reason| format!("its tensor '{}' {reason}", shortened(&arrays[index].name)))?;
        }
    }
    Ok(StateDict { arrays, notes })
}

/// The dict with the weights inside lists and wrappers.
fn unwrap(pickle: &Pickle<'_>, root: Value<'_>, notes: &mut Vec<String>) -> std::result::Result<usize, String> {
    let mut value = root;
    for _ in 0..MAX_DEPTH {
        match value {
            Value::List(_) | Value::Tuple(_) => {
                let items = match value {
                    Value::List(index) => pickle.lists.get(index),
                    Value::Tuple(index) => pickle.tuples.get(index),
                    _ => None,
                };
                let items = items.map(Vec::as_slice).unwrap_or_default();
                value = *items.first().ok_or("it holds an empty list")?;
                if items.len() > 1 {
                    notes.push(format!("a list of {} state dicts (an ensemble); the first is taken", items.len()));
                }
            }
            Value::Dict(index) => {
                let dict = pickle.dicts.get(index).map(Vec::as_slice).unwrap_or_default();
                let wrapped = WRAPPERS.iter().find_map(|wrapper| {
                    let inner = dict.iter().rev().find(|(key, _)| *key == Value::Text(wrapper))?.1;
                    matches!(inner, Value::Dict(_) | Value::List(_)).then_some((wrapper, inner))
                });
                let Some((wrapper, inner)) = wrapped else { return Ok(index) };
                notes.push(format!("the weights are those under '{wrapper}'"));
                value = inner;
            }
            Value::Tensor(_) => return Err("it holds one tensor without a name, not a state dict".into()),
            _ => return Err("it holds no state dict".into()),
        }
    }
    Err("its state dict is nested too deeply".into())
}

/// The tensors of a dict and of the dicts in it, by name.
struct Found<'p, 'a> {
    pickle: &'p Pickle<'a>,
    tensors: Vec<(String, &'p Tensor)>,
    places: HashMap<String, usize>,
    /// The first few entries that are not tensors, one more than a message names.
    left_out: Vec<String>,
    left_out_count: usize,
    visited: usize,
}

impl Found<'_, '_> {
    fn visit(&mut self, dict: usize, prefix: &str, depth: usize) -> std::result::Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("its state dict is nested too deeply".into());
        }
        for (key, value) in self.pickle.dicts.get(dict).map(Vec::as_slice).unwrap_or_default() {
            // Dicts can hold one another many times over: the work is bounded, not only the depth.
            self.visited += 1;
            if self.visited > 4 * MAX_ARRAYS {
                return Err(format!("it has more than {} entries", 4 * MAX_ARRAYS));
            }
            let key = match key {
                Value::Text(text) => text.to_string(),
                Value::Int(number) => number.to_string(),
                _ => "(a key that is not a text)".to_string(),
            };
            if prefix.len() + key.len() > MAX_NAME {
                return Err(format!("it has a name of more than {MAX_NAME} bytes, '{}'", shortened(&key)));
            }
            let name = format!("{prefix}{key}");
            match value {
                Value::Tensor(index) => {
                    let tensor = self.pickle.tensors.get(*index).ok_or("its description of the weights is damaged")?;
                    let place = *self.places.entry(name.clone()).or_insert(self.tensors.len());
                    match self.tensors.get_mut(place) {
                        Some(earlier) => earlier.1 = tensor,
                        None => self.tensors.push((name, tensor)),
                    }
                    if self.tensors.len() > MAX_ARRAYS {
                        return Err(format!("it has more than {MAX_ARRAYS} tensors"));
                    }
                }
                Value::Dict(inner) => self.visit(*inner, &format!("{name}."), depth + 1)?,
                _ => {
                    self.left_out_count += 1;
                    if self.left_out.len() < 5 {
                        self.left_out.push(name);
                    }
                }
            }
        }
        Ok(())
    }
}

fn quoted(names: &[String]) -> String {
    let mut words: Vec<String> = names.iter().take(4).map(|name| format!("'{}'", shortened(name))).collect();
    if names.len() > words.len() {
        words.push("...".to_string());
    }
    words.join(", ")
}

/// The values of a tensor in row-major order; takes their number off the budget.
fn values(
    pickle: &Pickle<'_>,
    tensor: &Tensor,
    data: &Source<'_>,
    budget: &mut usize,
) -> std::result::Result<Vec<f32>, String> {
    let storage = pickle.storages.get(tensor.storage).ok_or("has no block of numbers")?;
    let number = storage.number;
    if storage.length.checked_mul(number.size()).map(|length| length as u64) != Some(data.len()) {
        return Err(format!(
            "should have a block of {} numbers of {} bytes, and the block has {} bytes",
            storage.length,
            number.size(),
            data.len()
        ));
    }
    let (start, length) = storage.view.unwrap_or((0, storage.length));
    let beyond = || "reaches beyond its block of numbers".to_string();
    if start.checked_add(length).is_none_or(|end| end > storage.length) {
        return Err(beyond());
    }
    let (shape, rank) = (&tensor.shape, tensor.shape.len());
    if tensor.strides.len() != rank {
        return Err(format!("has {rank} axes and {} strides", tensor.strides.len()));
    }
    // Empty axes count as one here, so that no product of the shape can overflow later.
    let extent = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side.max(1)));
    let extent = extent.filter(|extent| extent <= budget);
    let extent = extent.ok_or_else(|| format!("has the shape {shape:?}, more than the file can hold"))?;
    if shape.contains(&0) {
        return Ok(Vec::new());
    }
    // The stride of an axis of length 1 is never used, and may be anything.
    let strides: Vec<usize> =
        shape.iter().zip(&tensor.strides).map(|(&side, &stride)| if side == 1 { 0 } else { stride }).collect();
    let reach = shape
        .iter()
        .zip(&strides)
        .try_fold(0_usize, |reach, (&side, &stride)| reach.checked_add(stride.checked_mul(side - 1)?));
    let reach = reach.filter(|reach| reach.checked_add(tensor.offset).is_some_and(|last| last < length));
    let reach = reach.ok_or_else(beyond)?;
    *budget -= extent;
    let first = ((start + tensor.offset) * number.size()) as u64;
    let unreadable = || "cannot be read, or there is no memory for it".to_string();
    if is_row_major(shape, &strides) {
        return data.floats(first, extent, number).ok_or_else(unreadable);
    }
    let bytes = data.get(first, ((reach + 1) * number.size()) as u64).ok_or_else(unreadable)?;
    let mut values = Vec::with_capacity(extent);
    let mut index = vec![0; rank];
    let mut position = 0;
    for _ in 0..extent {
        values.push(number.read(&bytes, position).ok_or_else(beyond)?);
        for axis in (0..rank).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                position += strides[axis];
                break;
            }
            position -= strides[axis] * (shape[axis] - 1);
            index[axis] = 0;
        }
    }
    Ok(values)
}

/// Whether values lie one after the other in row-major order; strides of axes of length 1 are 0.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1_usize;
    shape.iter().zip(strides).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == expected;
        expected = expected.saturating_mul(side);
        fits
    })
}

fn check_array(array: &MadeArray<'_>) -> Result<()> {
    let MadeArray { name, shape, count, make } = array;
    // Empty axes count as one in the first product, which bounds every product of the shape.
    let bound = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side.max(1)));
    if bound.is_none() || shape.iter().product::<usize>() != *count {
        return Err(Error::Weights(format!("array '{}' has the shape {shape:?} and {count} values", shortened(name))));
    }
    if name.len() > MAX_NAME {
        return Err(Error::Weights(format!("the name '{}' has more than {MAX_NAME} bytes", shortened(name))));
    }
    if name.ends_with(COUNTER)
        && let Some(value) = make().iter().find(|value| value.fract() != 0.0)
    {
        return Err(Error::Weights(format!(
            "'{}' counts batches and holds {value}, which is not a whole number",
            shortened(name)
        )));
    }
    Ok(())
}

fn pack(arrays: &[MadeArray<'_>], writer: impl std::io::Write) -> std::io::Result<()> {
    let mut packer = Packer::new(writer);
    packer.add("archive/data.pkl", &described(arrays)?)?;
    packer.add("archive/byteorder", b"little")?;
    for (index, array) in arrays.iter().enumerate() {
        let values = (array.make)();
        let counts = array.name.ends_with(COUNTER);
        packer.add_made(&format!("archive/data/{index}"), &|writer: &mut dyn std::io::Write| match counts {
            true => values.iter().try_for_each(|value| writer.write_all(&(*value as i64).to_le_bytes())),
            false => put_floats(writer, values.iter()),
        })?;
    }
    packer.add("archive/version", b"3\n")?;
    packer.finish()
}

/// The pickle of an `OrderedDict` of tensors, in protocol 2.
fn described(arrays: &[MadeArray<'_>]) -> std::io::Result<Vec<u8>> {
    const EMPTY_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = b"\x80\x02".to_vec();
    out.extend(EMPTY_DICT);
    out.push(b'(');
    for (index, MadeArray { name, shape, count, .. }) in arrays.iter().enumerate() {
        put_text(&mut out, name)?;
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        put_text(&mut out, "storage")?;
        out.extend(if name.ends_with(COUNTER) { &b"ctorch\nLongStorage\n"[..] } else { b"ctorch\nFloatStorage\n" });
        put_text(&mut out, &index.to_string())?;
        put_text(&mut out, "cpu")?;
        put_int(&mut out, *count)?;
        out.extend(b"tQK\x00(");
        for side in shape {
            put_int(&mut out, *side)?;
        }
        out.extend(b"t(");
        for axis in 0..shape.len() {
            put_int(&mut out, shape[axis + 1..].iter().map(|side| *side.max(&1)).product())?;
        }
        out.extend(b"t\x89");
        out.extend(EMPTY_DICT);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn put_text(out: &mut Vec<u8>, text: &str) -> std::io::Result<()> {
    out.push(b'X');
    out.extend(u32::try_from(text.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?.to_le_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

fn put_int(out: &mut Vec<u8>, number: usize) -> std::io::Result<()> {
    out.push(b'J');
    out.extend(i32::try_from(number).map_err(|_| std::io::ErrorKind::InvalidInput)?.to_le_bytes());
    Ok(())
}
