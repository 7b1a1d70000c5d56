//! Non-maximum suppression of candidates that come strip by strip, in the memory of a few strips.

use super::candidates::StarCandidates;
use super::neighbours::Neighbours;
use super::nms::{ALL, Stars, Workspace};
use crate::budget::{gathered, no_memory, zeros};
use crate::control::CancelToken;
use crate::error::{Error, Result};

const WHAT: &str = "the suppression of object candidates";

/// Suppression over an image that is seen from top to bottom, with the survivors of the whole image.
///
/// Of candidates in order of their scores, one that is still there removes the later ones that overlap it too much: what
/// becomes of a candidate depends on those before it that it meets. So when the rows above a
/// frontier are known and no polygon from below it reaches further up than `reach`, the fate of every candidate is known
/// but of those that could meet an unseen one, and of those that meet one whose fate is open. These wait for the next
/// strip; the rest is settled, and forgotten unless it survives. No candidate is decided on a guess: the result is that of
/// all candidates at once.
#[derive(Debug)]
pub struct StripSuppression {
    overlap: f32,
    /// Pixels that an unseen polygon may reach over the frontier; `None` when nothing can be said.
    reach: Option<i32>,
    /// Candidates seen so far.
    seen: u64,
    /// What is not settled, in order of arrival.
    open: Numbered,
    settled: Numbered,
    /// Whether the fate of any candidate was decided.
    decided: bool,
    cancel: CancelToken,
}

/// Candidates with their numbers in order of arrival and something that belongs to each.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// The candidates.
    pub stars: StarCandidates,
    /// The place of each among all that were seen.
    pub numbers: Vec<u64>,
    /// A tag for each, or none at all.
    pub tags: Vec<u8>,
}

/// What a suppression knows between two strips, to go on from later.
#[derive(Debug, Clone, PartialEq)]
pub struct StripState {
    /// Candidates seen so far.
    pub seen: u64,
    /// The reach that is promised.
    pub reach: Option<i32>,
    /// Those whose fate is open.
    pub open: Numbered,
    /// Those that survived and were not [handed over](StripSuppression::take_settled). A later state of the same suppression has
    /// these at its beginning.
    pub settled: Numbered,
}

/// What a strip did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strip {
    /// It was taken in.
    Taken,
    /// A polygon reaches further than was promised when others had been decided on that promise: the result would not be
    /// exact, begin again without a reach.
    ReachExceeded,
}

/// What becomes of a candidate; `Kept` until something else is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fate {
    Open,
    #[default]
    Kept,
    Lost,
}

impl StripSuppression {
    /// For candidates of `rays` rays. `overlap` is the fraction of the smaller polygon above which two count as the same
    /// object; no ray is longer than `reach` pixels, or with `None` of any length, in which case all candidates are kept
    /// until the end.
    pub fn new(rays: usize, overlap: f32, reach: Option<i32>, cancel: &CancelToken) -> Self {
        Self {
            overlap,
            reach,
            seen: 0,
            open: Numbered::empty(rays),
            settled: Numbered::empty(rays),
            decided: false,
            cancel: cancel.clone(),
        }
    }

    /// Takes in the candidates of a strip, in their order, with a tag for each (or none at all). The points of all later
    /// ones lie in the rows from `frontier` on.
    ///
    /// # Errors
    /// [`Error::Image`] for values that are not usable, [`Error::Cancelled`].
    pub fn add(&mut self, strip: &StarCandidates, tags: &[u8], frontier: i32) -> Result<Strip> {
        let taken = self.hold(strip, tags)?;
        if taken == Strip::Taken
            && let Some(reach) = self.reach
        {
            // One pixel for rounding on either side.
            self.settle(i64::from(frontier) - i64::from(reach) - 2)?;
        }
        Ok(taken)
    }

    /// Takes in a part of a strip, of which nothing is decided yet.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn hold(&mut self, part: &StarCandidates, tags: &[u8]) -> Result<Strip> {
        part.check()?;
        let longest = part.dist.iter().fold(0.0f32, |longest, ray| longest.max(ray.abs()));
        if self.reach.is_some_and(|reach| longest > reach as f32) {
            if self.decided {
                return Ok(Strip::ReachExceeded);
            }
            self.reach = None;
        }
        self.open.append(part, tags, self.seen)?;
        self.seen += part.len() as u64;
        Ok(Strip::Taken)
    }

    /// Goes on from a state that was [taken](Self::state) before.
    ///
    /// # Errors
    /// [`Error::Image`] for lists that do not fit each other.
    pub fn resumed(state: StripState, overlap: f32, cancel: &CancelToken) -> Result<Self> {
        for list in [&state.open, &state.settled] {
            list.stars.check()?;
            let n = list.stars.len();
            if list.numbers.len() != n || !(list.tags.is_empty() || list.tags.len() == n) {
                return Err(Error::Image(format!(
                    "{} numbers and {} tags for {n} candidates",
                    list.numbers.len(),
                    list.tags.len()
                )));
            }
        }
        let StripState { seen, reach, open, settled } = state;
        Ok(Self { overlap, reach, seen, open, settled, decided: true, cancel: cancel.clone() })
    }

    /// Candidates seen so far, the promised reach, and those whose fate is open.
    pub fn state(&self) -> (u64, Option<i32>, &Numbered) {
        (self.seen, self.reach, &self.open)
    }

    /// Those that survived so far, in the order in which they were settled.
    pub fn settled(&self) -> &Numbered {
        &self.settled
    }

    /// Hands over those that survived so far and were not handed over yet, in the order in which they were settled. Nothing that is
    /// still to be decided depends on them, so they may be kept elsewhere; [`finish`](Self::finish) then gives the others alone.
    pub fn take_settled(&mut self) -> Numbered {
        let rays = self.settled.stars.dist.ncols();
        std::mem::replace(&mut self.settled, Numbered::empty(rays))
    }

    /// Decides about all candidates, of which no more come.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn settle_all(&mut self) -> Result<()> {
        self.settle(i64::MAX)
    }

    /// Bytes of the candidates that are held.
    pub fn bytes(&self) -> u64 {
        [&self.open, &self.settled]
            .map(|list| list.stars.dist.len() as u64 * 4 + list.numbers.len() as u64 * 21)
            .iter()
            .sum()
    }

    /// The survivors by descending score (of equal scores the later one first), with their tags.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn finish(mut self) -> Result<(StarCandidates, Vec<u8>)> {
        self.settle_all()?;
        let order = self.settled.order()?;
        let tags = if self.settled.tags.is_empty() {
            Vec::new()
        } else {
            order.iter().map(|&k| self.settled.tags[k]).collect()
        };
        Ok((self.settled.stars.select(&order)?, tags))
    }

    /// Decides what can be decided when no unseen polygon reaches above the row `unseen`.
    fn settle(&mut self, unseen: i64) -> Result<()> {
        let order = self.open.order()?;
        let sorted = self.open.stars.select(&order)?;
        let fates = fates(&Stars::new(&sorted)?, unseen, self.overlap, &self.cancel)?;
        drop(sorted);
        let of = |fate: Fate| -> Result<Vec<usize>> {
            let places = || order.iter().zip(&fates).filter(|(_, found)| **found == fate).map(|(place, _)| *place);
            let mut places = gathered(places().count(), places(), WHAT)?;
            places.sort_unstable();
            Ok(places)
        };
        let (stay, leave) = (of(Fate::Open)?, of(Fate::Kept)?);
        self.decided |= stay.len() < fates.len();
        let settled = self.open.select(&leave)?;
        self.settled.append_all(settled)?;
        self.open = self.open.select(&stay)?;
        Ok(())
    }
}

/// What becomes of candidates in order of their scores when those that reach down to the row `unseen` may meet unseen ones.
fn fates(stars: &Stars<'_>, unseen: i64, overlap: f32, cancel: &CancelToken) -> Result<Vec<Fate>> {
    let grid = Neighbours::new(&stars.bounds)?;
    let mut fates: Vec<Fate> = zeros(stars.bounds.len(), WHAT)?;
    let mut rivals = Vec::new();
    let mut workspace = Workspace::default();
    for i in 0..fates.len() {
        if fates[i] == Fate::Lost {
            continue;
        }
        cancel.check()?;
        if i64::from(stars.bounds[i].y[1]) >= unseen {
            fates[i] = Fate::Open;
        }
        if overlap >= ALL {
            continue;
        }
        let open = fates[i] == Fate::Open;
        rivals.clear();
        grid.visit(&stars.bounds[i], |j| {
            // A candidate in doubt need not be doubted twice.
            let asked = fates[j] == Fate::Kept || (fates[j] == Fate::Open && !open);
            if j > i && asked && stars.may_overlap(i, j) {
                rivals.push(j);
            }
        });
        if rivals.is_empty() {
            continue;
        }
        for (j, lost) in stars.losers(overlap, i, &rivals, &mut workspace, cancel)? {
            if lost {
                fates[j] = if open { Fate::Open } else { Fate::Lost };
            }
        }
    }
    Ok(fates)
}

impl Numbered {
    /// No candidates, of `rays` rays.
    pub fn empty(rays: usize) -> Self {
        Self { stars: StarCandidates::empty(rays), numbers: Vec::new(), tags: Vec::new() }
    }

    /// Places by descending score, of equal scores the later arrival first.
    fn order(&self) -> Result<Vec<usize>> {
        let score = |place: usize| self.stars.prob[place] + 0.0;
        let mut order = gathered(self.stars.len(), 0..self.stars.len(), WHAT)?;
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(self.numbers[b].cmp(&self.numbers[a])));
        Ok(order)
    }

    fn select(&self, places: &[usize]) -> Result<Self> {
        let count = if self.tags.is_empty() { 0 } else { places.len() };
        Ok(Self {
            stars: self.stars.select(places)?,
            numbers: gathered(places.len(), places.iter().map(|&k| self.numbers[k]), WHAT)?,
            tags: gathered(count, places.iter().take(count).map(|&k| self.tags[k]), WHAT)?,
        })
    }

    fn append(&mut self, stars: &StarCandidates, tags: &[u8], first: u64) -> Result<()> {
        if !tags.is_empty() && tags.len() != stars.len() {
            return Err(Error::Image(format!("{} tags for {} candidates; give one for each", tags.len(), stars.len())));
        }
        self.stars.append(stars)?;
        let numbers = first..first + stars.len() as u64;
        self.numbers.try_reserve(stars.len()).map_err(|_| no_memory(8 * stars.len() as u64, WHAT))?;
        self.numbers.extend(numbers);
        self.tags.extend_from_slice(tags);
        Ok(())
    }

    fn append_all(&mut self, other: Self) -> Result<()> {
        self.stars.append(&other.stars)?;
        let count = other.numbers.len();
        self.numbers.try_reserve(count).map_err(|_| no_memory(8 * count as u64, WHAT))?;
        self.numbers.extend(other.numbers);
        self.tags.extend(other.tags);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::postprocess::nms::non_maximum_suppression;
    use crate::random::Random;

    /// Candidates in raster order, as a dense network gives them, with many equal scores.
    fn field(random: &mut Random, n: usize, sides: [f64; 2], radius: f64) -> StarCandidates {
        let mut points: Vec<[i32; 2]> = (0..n).map(|_| sides.map(|side| random.uniform(0.0, side) as i32)).collect();
        points.sort_unstable();
        let mut dist = Array2::zeros((n, 16));
        for mut row in dist.outer_iter_mut() {
            let radius = random.uniform(0.2 * radius, radius);
            row.mapv_inplace(|_: f32| (radius * random.uniform(0.7, 1.0)).max(1e-3) as f32);
        }
        let prob = (0..n).map(|_| (random.uniform(0.0, 1.0) * 20.0).round() as f32 / 20.0).collect();
        StarCandidates { points, prob, dist }
    }

    fn strip(all: &StarCandidates, rows: std::ops::Range<i32>) -> (StarCandidates, Vec<u8>) {
        let places: Vec<usize> = (0..all.len()).filter(|&k| rows.contains(&all.points[k][0])).collect();
        (all.select(&places).unwrap(), places.iter().map(|k| (k % 251) as u8).collect())
    }

    #[test]
    fn strips_of_any_height_give_the_survivors_of_the_whole() {
        let mut random = Random::new(11, 0);
        for round in 0..9 {
            let sides = [300.0, [15.0, 60.0, 200.0][round % 3]];
            let n = 40 + random.below(400);
            let all = field(&mut random, n, sides, [3.0, 12.0, 40.0][round / 3 % 3]);
            let sorted = all.sorted().unwrap();
            for overlap in [0.0, 0.4, 1.0] {
                let whole = sorted.select(&non_maximum_suppression(&sorted, overlap).unwrap()).unwrap();
                for height in [11, 90, 400] {
                    let mut suppression = StripSuppression::new(16, overlap, Some(40), &CancelToken::new());
                    for top in (0..300).step_by(height) {
                        let (part, tags) = strip(&all, top..top + height as i32);
                        assert_eq!(suppression.add(&part, &tags, top + height as i32).unwrap(), Strip::Taken);
                    }
                    let (found, tags) = suppression.finish().unwrap();
                    assert_eq!(found, whole, "round {round}, overlap {overlap}, strips of {height}");
                    for (k, tag) in tags.iter().enumerate() {
                        let place = all.points.iter().enumerate().filter(|(_, point)| **point == found.points[k]);
                        assert!(place.map(|(place, _)| (place % 251) as u8).any(|place| place == *tag));
                    }
                }
            }
        }
    }

    #[test]
    fn a_suppression_that_was_cut_off_goes_on_where_it_was() {
        let mut random = Random::new(14, 0);
        let all = field(&mut random, 500, [300.0, 60.0], 9.0);
        let cancel = CancelToken::new();
        let mut whole = StripSuppression::new(16, 0.4, Some(20), &cancel);
        let mut cut = StripSuppression::new(16, 0.4, Some(20), &cancel);
        for top in (0..300).step_by(50) {
            let (part, tags) = strip(&all, top..top + 50);
            let half = part.len() / 2;
            let pieces: [Vec<usize>; 2] = [(0..half).collect(), (half..part.len()).collect()];
            for places in &pieces {
                let of_piece: Vec<u8> = places.iter().map(|place| tags[*place]).collect();
                assert_eq!(whole.hold(&part.select(places).unwrap(), &of_piece).unwrap(), Strip::Taken);
            }
            whole.add(&StarCandidates::empty(16), &[], top + 50).unwrap();
            let (seen, reach, open) = cut.state();
            let state = StripState { seen, reach, open: open.clone(), settled: cut.settled().clone() };
            assert!(
                StripSuppression::resumed(
                    StripState { open: Numbered { numbers: vec![1], ..open.clone() }, ..state.clone() },
                    0.4,
                    &cancel
                )
                .is_err()
                    || open.stars.len() == 1
            );
            cut = StripSuppression::resumed(state, 0.4, &cancel).unwrap();
            cut.add(&part, &tags, top + 50).unwrap();
        }
        assert_eq!(cut.finish().unwrap(), whole.finish().unwrap());
    }

    #[test]
    fn survivors_that_are_handed_over_are_those_of_the_whole() {
        let mut random = Random::new(15, 0);
        let all = field(&mut random, 600, [300.0, 60.0], 9.0);
        let mut suppression = StripSuppression::new(16, 0.4, Some(20), &CancelToken::new());
        let mut list = Numbered::empty(16);
        for top in (0..300).step_by(50) {
            let (part, tags) = strip(&all, top..top + 50);
            suppression.add(&part, &tags, top + 50).unwrap();
            list.append_all(suppression.take_settled()).unwrap();
            assert!(suppression.settled().stars.is_empty());
        }
        suppression.settle_all().unwrap();
        list.append_all(suppression.take_settled()).unwrap();
        let sorted = list.select(&list.order().unwrap()).unwrap();
        let mut whole = StripSuppression::new(16, 0.4, None, &CancelToken::new());
        let (part, tags) = strip(&all, 0..300);
        whole.add(&part, &tags, 300).unwrap();
        assert_eq!((sorted.stars, sorted.tags), whole.finish().unwrap());
        assert!(suppression.finish().unwrap().0.is_empty());
    }

    #[test]
    fn memory_is_that_of_a_few_strips() {
        let mut random = Random::new(12, 0);
        let all = field(&mut random, 20_000, [4000.0, 100.0], 8.0);
        let mut suppression = StripSuppression::new(16, 0.4, Some(16), &CancelToken::new());
        let mut most = 0;
        for top in (0..4000).step_by(100) {
            suppression.add(&strip(&all, top..top + 100).0, &[], top + 100).unwrap();
            most = most.max(suppression.open.stars.len());
        }
        assert!(most < 1000, "{most} candidates were open at a time");
        let sorted = all.sorted().unwrap();
        assert_eq!(suppression.finish().unwrap().0.len(), non_maximum_suppression(&sorted, 0.4).unwrap().len());
    }

    #[test]
    fn a_broken_promise_is_noticed_and_a_cancelled_suppression_ends() {
        let mut random = Random::new(13, 0);
        let all = field(&mut random, 300, [200.0, 50.0], 10.0);
        let (top, bottom) = (strip(&all, 0..100).0, strip(&all, 100..200).0);
        let mut far = bottom.clone();
        far.dist[[0, 0]] = 90.0;
        let begin = || StripSuppression::new(16, 0.4, Some(10), &CancelToken::new());
        let mut suppression = begin();
        assert_eq!(suppression.add(&top, &[], 100).unwrap(), Strip::Taken);
        assert_eq!(suppression.add(&far, &[], 200).unwrap(), Strip::ReachExceeded);
        // Before anything was decided, the promise is given up.
        let mut suppression = begin();
        assert_eq!(suppression.add(&far, &[], 200).unwrap(), Strip::Taken);
        assert_eq!(suppression.reach, None);
        let cancel = CancelToken::new();
        let mut suppression = StripSuppression::new(16, 0.4, Some(10), &cancel);
        cancel.cancel();
        assert!(matches!(suppression.add(&all, &[], 200), Err(Error::Cancelled)));
        assert!(suppression.add(&all, &[1], 200).is_err());
    }
}
