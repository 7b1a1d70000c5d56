//! How much memory a call may take, asked for before it is taken.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array, ArrayView, Dimension, IntoDimension};

use crate::error::{Error, Result};

/// Bytes that a call may take at a time, beyond what was there before it.
///
/// Networks, resized images, tiles and the work after the network are counted; short-lived small pieces are not. Work that
/// would take more is done in smaller pieces where that gives the same result, and refused with [`Error::Limit`]
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    bytes: u64,
    /// Bytes of it that are taken.
    taken: u64,
}

/// The part of the free memory that a call takes when nothing else is said: one over this.
const SHARE: u64 = 2;

/// The least that a budget from free memory is: below, not even small images could be worked on.
const LEAST: u64 = 128 << 20;

/// Free memory where the system does not tell it.
const UNKNOWN: u64 = if cfg!(target_pointer_width = "64") { 8 << 30 } else { 1 << 30 };

impl Budget {
    /// That many bytes.
    ///
    /// # Errors
    /// [`Error::Config`] for 0.
    pub fn new(bytes: u64) -> Result<Self> {
        if bytes == 0 {
            return Err(Error::Config("memory is 0 bytes; give a number like 4G".into()));
        }
        Ok(Self { bytes, taken: 0 })
    }

    /// Half of the memory that is free now, and at least 128 MiB.
    ///
    /// On Linux, that is the least of what the system, the control groups (version 1 and 2) of this process and its limit
    /// on address space leave. Other systems are taken to have 8 GiB free.
    pub fn of_free_memory() -> Self {
        let free = free::memory().unwrap_or(UNKNOWN);
        Self { bytes: (free / SHARE).max(LEAST), taken: 0 }
    }

    /// The same with that many bytes more in use.
    pub fn less(self, taken: u64) -> Self {
        Self { taken: self.taken.saturating_add(taken), ..self }
    }

    /// The bytes that are not taken.
    pub fn left(self) -> u64 {
        self.bytes.saturating_sub(self.taken)
    }

    /// All bytes.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// Refuses work that would take more than is left. `what` names it, `cure` says what can be done instead.
    ///
    /// # Errors
    /// [`Error::Limit`] with what it would take, what is allowed and `cure`.
    pub fn require(self, bytes: u64, what: impl fmt::Display, cure: impl fmt::Display) -> Result<()> {
        if bytes <= self.left() {
            return Ok(());
        }
        let beside = if self.taken > 0 { format!(" beside {}", Size(self.taken)) } else { String::new() };
        Err(Error::Limit(format!(
            "{what} would take about {} of memory{beside}, {} are allowed; {cure}",
            Size(bytes),
            Size(self.bytes)
        )))
    }
}

/// The refusal of work for which the system gave no memory.
pub fn no_memory(bytes: u64, what: impl fmt::Display) -> Error {
    Error::Limit(format!("{what}: the system has no {} of memory to give", Size(bytes)))
}

/// Room for `len` values, or a refusal.
///
/// # Errors
/// [`Error::Limit`] that names `what` when there is no memory.
pub fn reserve<T>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
    values.try_reserve_exact(len).map_err(|_| no_memory(bytes, what))?;
    Ok(values)
}

/// `len` default values (zeros), or a refusal.
///
/// # Errors
/// As [`reserve`].
pub fn zeros<T: Clone + Default>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut values = reserve(len, what)?;
    values.resize(len, T::default());
    Ok(values)
}

/// So many of the `values`, or a refusal.
///
/// # Errors
/// As [`reserve`].
pub fn gathered<T>(len: usize, values: impl IntoIterator<Item = T>, what: &str) -> Result<Vec<T>> {
    let mut all = reserve(len, what)?;
    all.extend(values.into_iter().take(len));
    Ok(all)
}

/// Makes a list exactly `len` values long, of default values where it grows, or a refusal; the list is then as it was.
///
/// # Errors
/// As [`reserve`].
pub fn resized<T: Clone + Default>(list: &mut Vec<T>, len: usize, what: &str) -> Result<()> {
    let more = len.saturating_sub(list.len());
    list.try_reserve_exact(more).map_err(|_| no_memory((more as u64).saturating_mul(size_of::<T>() as u64), what))?;
    list.resize(len, T::default());
    Ok(())
}

/// Puts a value behind a list that grows, or a refusal.
///
/// # Errors
/// As [`reserve`].
pub fn pushed<T>(list: &mut Vec<T>, value: T, what: &str) -> Result<()> {
    if list.len() == list.capacity() {
        let bytes = 2 * list.len() as u64 * size_of::<T>() as u64;
        list.try_reserve(1).map_err(|_| no_memory(bytes, what))?;
    }
    list.push(value);
    Ok(())
}

/// As [`pushed`], for loops that go on until it suits them to stop: whether there was memory; the value is lost without it.
#[inline]
pub fn try_push<T>(list: &mut Vec<T>, value: T) -> bool {
    let room = list.len() < list.capacity() || list.try_reserve(1).is_ok();
    if room {
        list.push(value);
    }
    room
}

/// An array of default values (zeros), or a refusal.
///
/// # Errors
/// As [`reserve`].
pub fn array<T: Clone + Default, D: Dimension>(shape: impl IntoDimension<Dim = D>, what: &str) -> Result<Array<T, D>> {
    let shape = shape.into_dimension();
    let len = shape.slice().iter().try_fold(1_usize, |len, side| len.checked_mul(*side));
    let values = zeros(len.unwrap_or(usize::MAX), what)?;
    Array::from_shape_vec(shape, values).map_err(|error| Error::Internal(format!("{what}: {error}")))
}

/// What `map` makes of every value of an array, or a refusal.
///
/// # Errors
/// As [`reserve`].
pub fn mapped<T: Copy, U, D: Dimension>(
    from: ArrayView<'_, T, D>,
    what: &str,
    map: impl FnMut(T) -> U,
) -> Result<Array<U, D>> {
    let values = gathered(from.len(), from.iter().copied().map(map), what)?;
    Array::from_shape_vec(from.raw_dim(), values).map_err(|error| Error::Internal(format!("{what}: {error}")))
}

/// A copy of an array, or a refusal.
///
/// # Errors
/// As [`reserve`].
pub fn copied<T: Copy, D: Dimension>(from: ArrayView<'_, T, D>, what: &str) -> Result<Array<T, D>> {
    mapped(from, what, |value| value)
}

/// The product of sizes as bytes of `each`, the largest number there is when it is larger.
pub fn bytes_of(sizes: &[usize], each: u64) -> u64 {
    sizes.iter().fold(each, |product, size| product.saturating_mul(*size as u64))
}

impl FromStr for Budget {
    type Err = Error;

    /// A number of bytes, with `K`, `M`, `G` or `T` for powers of 1024: `1500M`, `4G`, `2.5GiB`.
    fn from_str(text: &str) -> Result<Self> {
        let unusable = || Error::Config(format!("memory is '{text}'; give bytes, like 4G, 1500M or 4294967296"));
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.trim_end_matches("ib").trim_end_matches('b');
        let (number, power) = match digits.chars().last() {
            Some('k') => (&digits[..digits.len() - 1], 10),
            Some('m') => (&digits[..digits.len() - 1], 20),
            Some('g') => (&digits[..digits.len() - 1], 30),
            Some('t') => (&digits[..digits.len() - 1], 40),
            _ => (digits, 0),
        };
        let number: f64 = number.trim().parse().map_err(|_| unusable())?;
        let bytes = number * (1u64 << power) as f64;
        if !(1.0..=1e18).contains(&bytes) {
            return Err(unusable());
        }
        Self::new(bytes as u64)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.bytes).fmt(f)
    }
}

/// A number of bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        for (unit, power) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let amount = bytes / (1u64 << power) as f64;
            if amount >= 1.0 {
                let decimals = if amount < 10.0 { 1 } else { 0 };
                return write!(f, "{amount:.decimals$} {unit}");
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

/// What is free, from the files in which Linux tells it.
mod free {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Bytes that this process can still take; `None` where no file says so.
    pub(super) fn memory() -> Option<u64> {
        let root = Path::new("/");
        [system(root), groups(root), address_space(root)].into_iter().flatten().min()
    }

    fn read(root: &Path, path: &str) -> Option<String> {
        fs::read_to_string(root.join(path)).ok()
    }

    /// The number of kilobytes in the line `name: ... kB`, in bytes.
    fn kilobytes(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    fn system(root: &Path) -> Option<u64> {
        kilobytes(&read(root, "proc/meminfo")?, "MemAvailable")
    }

    /// What the limit on address space (`ulimit -v`) leaves.
    fn address_space(root: &Path) -> Option<u64> {
        let limits = read(root, "proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
        let used = kilobytes(&read(root, "proc/self/status")?, "VmSize")?;
        Some(limit.saturating_sub(used))
    }

    /// What the control groups of this process and those around them leave; cached files count as free.
    fn groups(root: &Path) -> Option<u64> {
        let lines = read(root, "proc/self/cgroup")?;
        let mut least: Option<u64> = None;
        for line in lines.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let found = match controllers {
                "" => up(&root.join("sys/fs/cgroup"), path, ["memory.max", "memory.current", "inactive_file"]),
                _ if controllers.split(',').any(|name| name == "memory") => up(
                    &root.join("sys/fs/cgroup/memory"),
                    path,
                    ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
                ),
                _ => None,
            };
            least = [least, found].into_iter().flatten().min();
        }
        least
    }

    /// The least that a group and all groups around it leave. In a container the path may be that of the host, which is not
    /// there; the mount itself then is the group.
    fn up(mount: &Path, path: &str, names: [&str; 3]) -> Option<u64> {
        let mut least: Option<u64> = None;
        let mut group: PathBuf = mount.join(path.trim_start_matches('/'));
        loop {
            least = [least, left(&group, names)].into_iter().flatten().min();
            if group == mount || !group.pop() || !group.starts_with(mount) {
                return least;
            }
        }
    }

    fn left(group: &Path, [limit, used, cached]: [&str; 3]) -> Option<u64> {
        let number = |name: &str| read(group, name)?.trim().parse::<u64>().ok();
        let (limit, used) = (number(limit)?, number(used)?);
        let stat = read(group, "memory.stat").unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(cached)?.trim().parse::<u64>().ok()).unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_tightest_limit_counts() {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            assert_eq!(system(root.path()).or(groups(root.path())).or(address_space(root.path())), None);
            write("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:       5000 kB\n");
            assert_eq!(system(root.path()), Some(5000 * 1024));
            write(
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax address space  1000000  unlimited  bytes\n",
            );
            write("proc/self/status", "VmPeak: 1 kB\nVmSize:\t 100 kB\n");
            assert_eq!(address_space(root.path()), Some(1_000_000 - 102_400));
            write("proc/self/limits", "Max address space         unlimited            unlimited            bytes\n");
            assert_eq!(address_space(root.path()), None);
            // Version 2: a group without a limit inside one with a limit.
            write("proc/self/cgroup", "0::/outer/inner\n");
            write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
            write("sys/fs/cgroup/outer/inner/memory.current", "10\n");
            write("sys/fs/cgroup/outer/memory.max", "4000\n");
            write("sys/fs/cgroup/outer/memory.current", "3000\n");
            write("sys/fs/cgroup/outer/memory.stat", "anon 5\ninactive_file 2500\n");
            assert_eq!(groups(root.path()), Some(3500));
            // Version 1, in a container that sees its own group as the mount.
            write("proc/self/cgroup", "9:cpu,memory:/docker/abc\n0::/nowhere\n");
            write("sys/fs/cgroup/memory/memory.limit_in_bytes", "700\n");
            write("sys/fs/cgroup/memory/memory.usage_in_bytes", "800\n");
            assert_eq!(groups(root.path()), Some(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_said() {
        for (text, bytes) in
            [("1", 1), ("4G", 4 << 30), ("1500m", 1500 << 20), ("2.5 GiB", 5 << 29), ("64kb", 65536), ("1T", 1 << 40)]
        {
            assert_eq!(text.parse::<Budget>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "0", "G", "-1", "nan", "1e30", "4 apples", "0.1"] {
            assert!(matches!(text.parse::<Budget>(), Err(Error::Config(_))), "{text}");
        }
        assert!(Budget::new(0).is_err());
        assert_eq!(Budget::new(3 << 29).unwrap().to_string(), "1.5 GiB");
        assert_eq!(Budget::new(999).unwrap().to_string(), "999 bytes");
        assert!(Budget::of_free_memory().bytes() >= LEAST);
    }

    #[test]
    fn what_is_too_much_is_refused_with_both_numbers() {
        let budget = Budget::new(1 << 30).unwrap();
        assert!(budget.require(1 << 30, "it", "do less").is_ok());
        let message = budget.require(3 << 30, "a batch", "take a smaller one").unwrap_err().to_string();
        assert!(message.contains("3.0 GiB") && message.contains("1.0 GiB") && message.contains("smaller"), "{message}");
        let rest = budget.less(1 << 29);
        assert!(rest.left() == 1 << 29 && rest.bytes() == 1 << 30 && budget.less(u64::MAX).left() == 0);
        let message = rest.require(1 << 30, "a batch", "take a smaller one").unwrap_err().to_string();
        assert!(message.contains("beside 512 MiB, 1.0 GiB are allowed"), "{message}");
        assert!(matches!(reserve::<u64>(usize::MAX, "a list"), Err(Error::Limit(_))));
        assert_eq!(zeros::<f32>(3, "a list").unwrap(), [0.0; 3]);
        assert!(matches!(array::<f32, _>((usize::MAX, 2), "a map"), Err(Error::Limit(_))));
        assert_eq!(array::<i32, _>((2, 1), "a map").unwrap(), ndarray::array![[0], [0]]);
        let map = ndarray::array![[1, 2], [3, 4]];
        assert_eq!(mapped(map.t(), "a map", |value| 2 * value).unwrap(), ndarray::array![[2, 6], [4, 8]]);
        let mut list = vec![7_u8];
        pushed(&mut list, 8, "a list").unwrap();
        assert!(matches!(resized(&mut list, usize::MAX, "a list"), Err(Error::Limit(_))) && list == [7, 8]);
        resized(&mut list, 3, "a list").unwrap();
        assert_eq!(list, [7, 8, 0]);
        assert_eq!(bytes_of(&[usize::MAX, 4], 4), u64::MAX);
    }
}
