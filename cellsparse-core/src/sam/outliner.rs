//! A network with the embeddings of the images that it looked at last, and objects instead of masks: what every front end of
//! click to outline works with.

use std::hash::Hasher as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ndarray::{Array2, Array3};
use twox_hash::XxHash64;

use super::prompt::Prompt;
use super::{Embedding, EncodeOptions, Mask, Outputs, Sam};
use crate::error::{Error, Result};
use crate::model::{Segmentation, Threads, segmentation_of_labels};
use crate::raster::regions::Region;
use crate::raster::{Connectivity, Image, LabelImage, label_components, runs_where};

/// Bytes of embeddings that are kept, at most; with little memory, an eighth of what a call may take.
const KEPT: u64 = 256 << 20;
const SHARE: u64 = 8;

/// An image is looked at whole up to that many times the side of what the network sees: a cell of 20 pixels then has 10.
const WHOLE: usize = 2;

/// How long a call that waits for another one sleeps before it looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// Samples that are hashed at a time.
const AT_A_TIME: usize = 1 << 14;

/// A network that remembers what it saw: an image is encoded when it is first asked about, one at a time (but calls from threads of a
/// pool of rayon do not wait), and its embedding is kept until others that were used later fill the room. Images are told apart by
/// their samples, so a change of contrast or channels is another image. May be shared between threads.
#[derive(Debug)]
pub struct Outliner {
    sam: Sam,
    threads: Option<usize>,
    pool: Threads,
    kept: Mutex<Kept>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one that was used last is the last one.
    embeddings: Vec<(Digest, Embedding)>,
    encoding: bool,
    encoded: u64,
}

/// What tells images apart.
type Digest = [u64; 2];

/// One object.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outline {
    /// How well the network believes it to fit: the estimated overlap (IoU) with the object.
    pub score: f32,
    /// Its pixels `[row, first, end]` in the whole image, by rows; none where nothing was found.
    pub pixels: Vec<[u32; 3]>,
}

impl Outliner {
    /// With that many compute threads; one per core when `None`. A caller inside a pool of rayon works in that one.
    pub fn new(sam: Sam, threads: Option<usize>) -> Self {
        Self { sam, threads, pool: Threads::default(), kept: Mutex::default(), changed: Condvar::new() }
    }

    /// The network.
    pub fn sam(&self) -> &Sam {
        &self.sam
    }

    /// Images that were encoded so far.
    pub fn encoded(&self) -> u64 {
        self.lock().encoded
    }

    /// What the network sees in an image, found now if it is not known.
    ///
    /// # Errors
    /// As [`Sam::encode`].
    pub fn embedding(&self, image: &Image, options: &EncodeOptions) -> Result<Embedding> {
        let digest = digest(image);
        let mut kept = self.lock();
        loop {
            options.cancel.check()?;
            if let Some(place) = kept.embeddings.iter().position(|(known, _)| *known == digest) {
                let found = kept.embeddings.remove(place);
                let embedding = found.1.clone();
                kept.embeddings.push(found);
                return Ok(embedding);
            }
            // On a thread of a pool, the call that encodes may lie below this one on the stack: rayon begins other work there while a
            // part of the first is done elsewhere. It would not end while this one waits.
            if !kept.encoding || rayon::current_thread_index().is_some() {
                break;
            }
            kept = self.changed.wait_timeout(kept, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        let first = !std::mem::replace(&mut kept.encoding, true);
        drop(kept);
        let _turn = first.then(|| Turn(self));
        let embedding = self.pool.install(self.threads, || self.sam.encode(image, options))?;
        let most = options.memory.map_or(KEPT, |memory| KEPT.min(memory.bytes() / SHARE));
        self.keep(digest, &embedding, most);
        Ok(embedding)
    }

    /// Masks for prompts; see [`Sam::masks`].
    ///
    /// # Errors
    /// As [`Sam::encode`] and [`Sam::masks`].
    pub fn masks(
        &self,
        embedding: &Embedding,
        prompts: &[Prompt],
        outputs: Outputs,
        options: &EncodeOptions,
    ) -> Result<Vec<Mask>> {
        options.cancel.check()?;
        self.pool.install(self.threads, || self.sam.masks(embedding, prompts, outputs))
    }

    /// The part of an image of `[rows, columns]` to look at, so that what is in `view` (all of it without one) is seen about as fine as
    /// the network sees: a small image whole, of a larger one a square around the view. Views near each other lead to the same
    /// part, which is then encoded once. All of the prompt lies in it, as far as it lies in the image.
    pub fn part(&self, size: [usize; 2], view: Option<Region>, prompt: &Prompt) -> Region {
        part(size, self.sam.size(), view, prompt)
    }

    /// The object that a prompt points at, without specks beside it and without holes. `pixels` are those of the part `at` of an image
    /// that [`part`](Self::part) gave; the prompt and the result are in the coordinates of the whole image.
    ///
    /// # Errors
    /// [`Error::Config`] for a part of another size than `pixels`; as [`embedding`](Self::embedding) and [`Sam::masks`].
    pub fn outline(&self, pixels: &Image, at: Region, prompt: &Prompt, options: &EncodeOptions) -> Result<Outline> {
        if (pixels.height(), pixels.width()) != (at.height, at.width) {
            return Err(Error::Config(format!(
                "a part of {} x {} pixels is said to be {} x {}; give the pixels of the part",
                pixels.width(),
                pixels.height(),
                at.width,
                at.height
            )));
        }
        let moved = moved(prompt, at);
        // Before the image is encoded, which takes seconds.
        moved.check([at.height, at.width])?;
        let embedding = self.embedding(pixels, options)?;
        let masks = self.masks(&embedding, std::slice::from_ref(&moved), Outputs::Best, options)?;
        let Some(mask) = masks.first() else { return Err(Error::Internal("no mask for a prompt".into())) };
        let object = self.pool.install(self.threads, || object(&mask.pixels()?, &moved))?;
        Ok(Outline { score: mask.score, pixels: runs_where(object.view(), [at.top, at.left], |inside| *inside) })
    }

    /// The objects that prompts point at, as a label image: object `i + 1` is that of prompt `i`. A pixel of several belongs to the
    /// first. Probabilities are the scores of the network.
    ///
    /// # Errors
    /// As [`outline`](Self::outline).
    pub fn segment(&self, image: &Image, prompts: &[Prompt], options: &EncodeOptions) -> Result<Segmentation> {
        let (rows, columns, _) = image.shape();
        prompts.iter().try_for_each(|prompt| prompt.check([rows, columns]))?;
        let count = rows.saturating_mul(columns);
        let blank = crate::budget::zeros::<i32>(count, "a label image")?;
        let unsure = crate::budget::zeros::<f32>(count, "the probabilities of objects")?;
        let fit = |error: ndarray::ShapeError| Error::Internal(error.to_string());
        let mut labels = LabelImage::from_shape_vec((rows, columns), blank).map_err(fit)?;
        let mut confidence = Array2::from_shape_vec((rows, columns), unsure).map_err(fit)?;
        let embedding = self.embedding(image, options)?;
        for (index, prompt) in prompts.iter().enumerate() {
            let masks = self.masks(&embedding, std::slice::from_ref(prompt), Outputs::Best, options)?;
            let Some(mask) = masks.first() else { continue };
            let object = self.pool.install(self.threads, || object(&mask.pixels()?, prompt))?;
            for (place, _) in object.indexed_iter().filter(|(_, inside)| **inside) {
                if labels[place] == 0 {
                    labels[place] = index as i32 + 1;
                    confidence[place] = mask.score.clamp(0.0, 1.0);
                }
            }
        }
        segmentation_of_labels(labels, confidence.view(), &options.cancel)
    }

    fn keep(&self, digest: Digest, embedding: &Embedding, most: u64) {
        let mut kept = self.lock();
        kept.encoded += 1;
        kept.embeddings.retain(|(known, _)| *known != digest);
        kept.embeddings.push((digest, embedding.clone()));
        let bytes = |kept: &Kept| kept.embeddings.iter().map(|(_, embedding)| embedding.bytes()).sum::<u64>();
        while kept.embeddings.len() > 1 && bytes(&kept) > most {
            kept.embeddings.remove(0);
        }
    }

    /// Locks, also after a panic in another thread: what is locked is complete at any time.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn to encode, given back when dropped.
struct Turn<'a>(&'a Outliner);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().encoding = false;
        self.0.changed.notify_all();
    }
}

/// See [`Outliner::part`]; `seen` is the side of what the network sees.
fn part([rows, columns]: [usize; 2], seen: usize, view: Option<Region>, prompt: &Prompt) -> Region {
    let longest = rows.max(columns);
    let view = view.unwrap_or(Region { top: 0, left: 0, height: rows, width: columns });
    let mut side = seen.max(1);
    loop {
        if longest <= side || longest <= WHOLE * seen {
            return Region { top: 0, left: 0, height: rows, width: columns };
        }
        // Steps of a quarter move the middle by an eighth at most, so a view of three quarters lies within.
        if 4 * view.height.min(rows).max(view.width.min(columns)) <= 3 * side {
            let along = |first: usize, length: usize, all: usize| {
                let step = side.div_ceil(4);
                let middle = first.min(all) + length.min(all - first.min(all)) / 2;
                let first = (middle.saturating_sub(side / 2) + step / 2) / step * step;
                first.min(all.saturating_sub(side))
            };
            let found = Region {
                top: along(view.top, view.height, rows),
                left: along(view.left, view.width, columns),
                height: side.min(rows),
                width: side.min(columns),
            };
            if reaches(prompt).all(|[x, y]| holds(found, [rows, columns], x, y)) {
                return found;
            }
        }
        side *= 2;
    }
}

/// The points and corners of a prompt.
fn reaches(prompt: &Prompt) -> impl Iterator<Item = [f64; 2]> {
    let corners = prompt.rectangle.into_iter().flat_map(|[x0, y0, x1, y1]| [[x0, y0], [x1, y1]]);
    prompt.points.iter().map(|point| [point.x, point.y]).chain(corners)
}

/// Whether a point lies in a part and not at a border of it that cuts the image, where its object may be cut too. What lies outside
/// the image is refused elsewhere.
fn holds(part: Region, [rows, columns]: [usize; 2], x: f64, y: f64) -> bool {
    let along = |at: f64, first: usize, length: usize, all: usize| {
        let margin = (length / 16) as f64;
        let low = if first == 0 { f64::NEG_INFINITY } else { first as f64 + margin };
        let high = if first + length >= all { f64::INFINITY } else { (first + length) as f64 - margin };
        !at.is_finite() || (low..=high).contains(&at)
    };
    along(x, part.left, part.width, columns) && along(y, part.top, part.height, rows)
}

/// The prompt in the coordinates of a part.
fn moved(prompt: &Prompt, at: Region) -> Prompt {
    let mut moved = prompt.clone();
    let (left, top) = (at.left as f64, at.top as f64);
    for point in &mut moved.points {
        point.x -= left;
        point.y -= top;
    }
    moved.rectangle = prompt.rectangle.map(|[x0, y0, x1, y1]| [x0 - left, y0 - top, x1 - left, y1 - top]);
    moved
}

/// The parts of a mask that the points lie in, or the largest one where they lie in none, with the holes filled that no point is
/// said to be outside in.
fn object(mask: &Array2<bool>, prompt: &Prompt) -> Result<Array2<bool>> {
    let (parts, count) = label_components(mask.view(), Connectivity::Four)?;
    let at = |labels: &LabelImage, x: f64, y: f64| {
        let place = |value: f64| value.round().max(0.0) as usize;
        labels.get([place(y), place(x)]).copied().unwrap_or(0)
    };
    let points = |inside: bool| prompt.points.iter().filter(move |point| point.inside == inside);
    let mut wanted: Vec<bool> = vec![false; count + 1];
    points(true).for_each(|point| wanted[at(&parts, point.x, point.y) as usize] = true);
    wanted[0] = false;
    if !wanted.contains(&true) {
        let mut areas = vec![0_usize; count + 1];
        parts.iter().for_each(|part| areas[*part as usize] += 1);
        if let Some(largest) = (1..=count).max_by_key(|part| areas[*part]) {
            wanted[largest] = true;
        }
    }
    let object = parts.mapv(|part| wanted[part as usize]);
    let (around, count) = label_components(object.mapv(|inside| !inside).view(), Connectivity::Four)?;
    let mut open = vec![false; count + 1];
    open[0] = true;
    let (rows, columns) = around.dim();
    for ((row, column), part) in around.indexed_iter() {
        if row == 0 || column == 0 || row + 1 == rows || column + 1 == columns {
            open[*part as usize] = true;
        }
    }
    points(false).for_each(|point| open[at(&around, point.x, point.y) as usize] = true);
    Ok(ndarray::Zip::from(&object).and(&around).map_collect(|inside, part| *inside || !open[*part as usize]))
}

/// What tells an image from others: its type, shape and samples.
fn digest(image: &Image) -> Digest {
    [0, 1].map(|seed| {
        let mut hash = XxHash64::with_seed(seed);
        let (rows, columns, channels) = image.shape();
        [rows, columns, channels].iter().for_each(|side| hash.write_u64(*side as u64));
        match image {
            Image::U8(pixels) => add(&mut hash, 1, pixels, |value| [value]),
            Image::U16(pixels) => add(&mut hash, 2, pixels, u16::to_le_bytes),
            Image::F32(pixels) => add(&mut hash, 3, pixels, f32::to_le_bytes),
        }
        hash.finish()
    })
}

fn add<T: Copy, const BYTES: usize>(
    hash: &mut XxHash64,
    kind: u8,
    pixels: &Array3<T>,
    bytes: impl Fn(T) -> [u8; BYTES],
) {
    hash.write(&[kind]);
    let mut gathered = Vec::with_capacity(AT_A_TIME * BYTES);
    for value in pixels {
        gathered.extend(bytes(*value));
        if gathered.len() >= AT_A_TIME * BYTES {
            hash.write(&gathered);
            gathered.clear();
        }
    }
    hash.write(&gathered);
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::RecvTimeoutError;

    use ndarray::array;

    use super::super::prompt::Point;
    use super::*;
    use crate::model::Device;

    fn view(top: usize, left: usize, height: usize, width: usize) -> Option<Region> {
        Some(Region { top, left, height, width })
    }

    #[test]
    fn small_images_are_seen_whole_and_large_ones_around_the_view() {
        let nothing = Prompt::default();
        let whole = Region { top: 0, left: 0, height: 900, width: 2000 };
        assert_eq!(part([900, 2000], 1024, view(10, 10, 50, 50), &nothing), whole);
        let large = [5000, 8000];
        assert_eq!(part(large, 1024, None, &nothing), Region { top: 0, left: 0, height: 5000, width: 8000 });
        let found = part(large, 1024, view(3000, 6000, 400, 700), &nothing);
        assert_eq!((found.height, found.width), (1024, 1024));
        assert!(found.top <= 3000 && found.bottom() >= 3400 && found.left <= 6000 && found.left + 1024 >= 6700);
        assert_eq!(part(large, 1024, view(3010, 5990, 380, 720), &nothing), found, "a little further is the same part");
        let wide = part(large, 1024, view(0, 0, 900, 1500), &nothing);
        assert_eq!(wide, Region { top: 0, left: 0, height: 2048, width: 2048 });
        // At the end of the image, and beyond it.
        let last = part(large, 1024, view(4900, 7900, 500, 500), &nothing);
        assert_eq!((last.bottom(), last.left + last.width), (5000, 8000));
        part(large, 1024, view(9000, 9000, usize::MAX / 8, 3), &nothing);
    }

    #[test]
    fn every_view_and_the_prompt_lie_in_the_part() {
        for (top, left, side) in (0..40).flat_map(|n| [(n * 97, n * 151, 60 + n * 31), (n * 13, 7000, 767 - n)]) {
            let [rows, columns] = [4000, 9000];
            let asked = Region { top, left, height: side.min(rows - top), width: side.min(columns - left) };
            let points = vec![Point { x: (left + side) as f64, y: top as f64, inside: true }];
            let prompt = Prompt { points, rectangle: None };
            let found = part([rows, columns], 512, Some(asked), &prompt);
            assert!(found.top <= top && found.bottom() >= asked.bottom(), "{asked:?} {found:?}");
            assert!(found.left <= left && found.left + found.width >= left + asked.width, "{asked:?} {found:?}");
            assert!(holds(found, [rows, columns], (left + side) as f64, top as f64));
        }
        let far = Prompt::rectangle([10.0, 10.0, 3500.0, 20.0]);
        let found = part([4000, 9000], 512, view(0, 0, 100, 100), &far);
        assert!(found.width >= 3500 && found.width < 9000, "{found:?}");
    }

    #[test]
    fn an_object_is_what_was_pointed_at_without_specks_and_holes() {
        let mask = array![[1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 0, 0], [1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 1],]
            .mapv(|value| value == 1);
        let area = |prompt: &Prompt| object(&mask, prompt).unwrap().iter().filter(|inside| **inside).count();
        assert_eq!(area(&Prompt::point(4.6, 2.0)), 4);
        assert_eq!(area(&Prompt::point(0.0, 0.0)), 9, "with its hole");
        assert_eq!(area(&Prompt::point(3.0, 3.0)), 9, "beside all of them: the largest");
        let mut ring = Prompt::point(0.0, 0.0);
        ring.points.push(Point { x: 1.0, y: 1.0, inside: false });
        assert_eq!(area(&ring), 8);
        ring.points.push(Point { x: 5.0, y: 0.0, inside: true });
        assert_eq!(area(&ring), 9, "two parts");
        assert!(object(&Array2::from_elem((3, 4), false), &ring).unwrap().iter().all(|inside| !inside));
        let found = object(&mask, &Prompt::point(4.0, 3.0)).unwrap();
        let runs = runs_where(found.view(), [10, 100], |inside| *inside);
        assert_eq!(runs, [[12, 104, 106], [13, 104, 106]]);
    }

    #[test]
    fn a_thread_of_a_pool_does_not_wait_for_a_call_that_may_lie_below_it() {
        let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sam/small_weights.safetensors");
        let outliner = Outliner::new(Sam::load(weights, Device::Cpu).unwrap(), Some(1));
        // Another call encodes, as long as this one lasts.
        outliner.lock().encoding = true;
        let options = EncodeOptions::default();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let grey = Image::U8(Array3::zeros((8, 8, 1)));
        std::thread::scope(|scope| {
            let (done, ended) = std::sync::mpsc::channel::<()>();
            let cancel = options.cancel.clone();
            scope.spawn(move || {
                if ended.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                    cancel.cancel();
                }
            });
            let found = pool.install(|| outliner.embedding(&grey, &options));
            drop(done);
            assert_eq!(found.map(|found| found.image_size()).map_err(|error| error.to_string()), Ok([8, 8]));
        });
        assert_eq!(outliner.encoded(), 1);
        assert!(outliner.lock().encoding, "the turn is that of the other call");
    }

    #[test]
    fn images_are_told_apart_by_every_sample_and_their_shape() {
        let bytes = |shape, values: Vec<u8>| Image::U8(Array3::from_shape_vec(shape, values).unwrap());
        let digests = [
            digest(&bytes((2, 3, 1), vec![0; 6])),
            digest(&bytes((3, 2, 1), vec![0; 6])),
            digest(&bytes((2, 3, 1), vec![0, 0, 0, 0, 0, 1])),
            digest(&Image::U16(Array3::zeros((2, 3, 1)))),
            digest(&Image::F32(Array3::zeros((2, 3, 1)))),
            digest(&Image::U16(Array3::zeros((200, 300, 1)))),
        ];
        for (place, one) in digests.iter().enumerate() {
            assert!(digests.iter().skip(place + 1).all(|other| other != one && other[0] != one[0]), "{place}");
        }
        assert_eq!(digest(&bytes((2, 3, 1), vec![0; 6])), digests[0]);
    }
}
