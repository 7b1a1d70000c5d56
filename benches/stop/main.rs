//! How soon work ends when it is asked to, in each of its phases.
//!
//! ```sh
//! cargo run --release -p cellsparse-core --example stop -- [KEY=VALUE ...]
//! ```
//!
//! Keys: `only` phases whose name contains the text, `requests` for each (20), `seconds` of a phase in which they fall at most (10),
//! `seed` of their moments (the clock), `limit` in seconds (0.3). Each phase is first run to its end to learn how long it
//! lasts, then once for each request, which comes at a random moment of it. Printed are the median and the worst delay from the
//! request to the return: as time, which other programs on the machine lengthen, and as time that the busiest thread computed
//! meanwhile (Linux alone tells it). Ends with status 1 when a thread computed for longer than the limit.

mod phases;

use std::fs;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cellsparse_core::random::Random;
use cellsparse_core::{CancelToken, Error, Result};

/// Work that can be asked to stop, and can be begun again.
type Work = Box<dyn Fn(&Watch) -> Result<()> + Send + Sync>;

/// How work hears of a request, and says that the phase that is looked at begins.
struct Watch {
    cancel: CancelToken,
    begun: Sender<()>,
}

impl Watch {
    fn begins(&self) {
        // Nobody listens to the second call.
        let _ = self.begun.send(());
    }
}

/// What came of one run.
struct Run {
    /// From the beginning of the phase to the end of the work, or to the request.
    lasted: Duration,
    /// From the request to the end: by the clock, and of the busiest thread. `None` when the work had ended before.
    heard: Option<(Duration, Option<Duration>)>,
    outcome: Result<()>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |key: &str| arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str, usual: f64| value(key).map_or(usual, |text| text.parse().expect("a number"));
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    let (requests, limit) = (number("requests", 20.0) as usize, number("limit", 0.3));
    let longest = Duration::from_secs_f64(number("seconds", 10.0));
    let mut random = Random::new(number("seed", f64::from(clock)) as u64, 0);
    let mut kept = true;
    println!("| phase | lasts, s | requests | median, ms | worst, ms | median computing, ms | worst computing, ms |");
    println!("|---|---|---|---|---|---|---|");
    for (name, prepare) in phases::ALL {
        if !name.contains(value("only").unwrap_or_default()) {
            continue;
        }
        let work = prepare().unwrap_or_else(|error| panic!("{name}: {error}"));
        let whole = run(&work, longest);
        assert!(usable(&whole), "{name}: {:?}", whole.outcome);
        let mut heard: Vec<(Duration, Option<Duration>)> = Vec::new();
        for _ in 0..requests {
            let run = run(&work, whole.lasted.mul_f64(random.unit()));
            assert!(usable(&run), "{name}: {:?}", run.outcome);
            heard.extend(run.heard);
        }
        let [median, worst] = spread(heard.iter().map(|(wall, _)| Some(*wall)).collect());
        let [usual, most] = spread(heard.iter().map(|(_, computed)| *computed).collect());
        kept &= !(most.is_nan() && worst > limit * 1e3) && (most.is_nan() || most <= limit * 1e3);
        let lasts = whole.lasted.as_secs_f64();
        let more = if whole.heard.is_some() { " or more" } else { "" };
        println!("| {name} | {lasts:.2}{more} | {} | {median:.0} | {worst:.0} | {usual:.0} | {most:.0} |", heard.len());
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usable(run: &Run) -> bool {
    matches!(run.outcome, Ok(()) | Err(Error::Cancelled))
}

/// Median and largest in milliseconds.
fn spread(times: Vec<Option<Duration>>) -> [f64; 2] {
    let mut times: Vec<f64> = times.into_iter().flatten().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied().unwrap_or(f64::NAN);
    [at(times.len() / 2), at(times.len().saturating_sub(1))]
}

/// Begins `work` and asks it to stop `after` the beginning of its phase.
fn run(work: &Work, after: Duration) -> Run {
    let (begun, begins) = channel();
    let watch = Watch { cancel: CancelToken::new(), begun };
    let cancel = watch.cancel.clone();
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let outcome = work(&watch);
            (outcome, Instant::now(), computed())
        });
        // An error when the work ended without it.
        let _ = begins.recv();
        let began = Instant::now();
        while began.elapsed() < after && !worker.is_finished() {
            thread::sleep(Duration::from_millis(1).min(after.saturating_sub(began.elapsed())));
        }
        let before = computed();
        let asked = Instant::now();
        cancel.cancel();
        let (outcome, ended, computed) = worker.join().expect("no panic");
        let late = ended <= asked;
        let busiest = computed.iter().map(|(thread, time)| {
            let earlier = before.iter().find(|(other, _)| other == thread).map_or(Duration::ZERO, |(_, time)| *time);
            time.saturating_sub(earlier)
        });
        let lasted = if late { ended } else { asked }.saturating_duration_since(began);
        Run { lasted, heard: (!late).then(|| (ended - asked, busiest.max())), outcome }
    })
}

/// How long each thread of this program has computed; nothing where the system does not tell.
fn computed() -> Vec<(String, Duration)> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let time = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), Duration::from_nanos(nanoseconds)))
    };
    threads.filter_map(time).collect()
}
