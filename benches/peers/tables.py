"""Tables of what run.py measured: medians, ranges, ratios, and signs that the sides did not do the same work.

Results are kept as `results[(name of the side, task, load)]`, a list of one result for each round.
"""

import statistics

from sides import GROUPS, OURS, PEERS

# Rows: title, task, name of the times in the result or None for the peak memory, unit, divisor.
ROWS = (
    ("training step", "step", "step", "ms", 1),
    ("peak memory, training steps", "step", None, "MB", 1),
    ("prediction 1024x1024, network alone", "predict", "network", "ms", 1),
    ("prediction 1024x1024, file to objects", "predict", "full", "ms", 1),
    ("peak memory, prediction", "predict", None, "MB", 1),
    ("training end to end", "train200", "train", "s", 1000),
    ("peak memory, training end to end", "train200", None, "MB", 1),
    ("cold start to first result", "cold", "cold", "ms", 1),
    ("training step, network of the package", "cellpose-step", "step", "ms", 1),
    ("peak memory, training steps", "cellpose-step", None, "MB", 1),
    ("training step, default network of cellsparse", "cellpose-narrow", "step", "ms", 1),
    ("peak memory, its training steps", "cellpose-narrow", None, "MB", 1),
    ("1024x1024, image to flows", "cellpose-predict", "network", "ms", 1),
    ("peak memory, image to flows", "cellpose-predict", None, "MB", 1),
    *(
        (f"{side}x{side}, {title}", "cellpose-masks", f"{name}{side}", "ms", 1)
        for side in (1024, 2048)
        for name, title in (
            ("flows", "masks to flows"), ("filtered", "flows to masks"), ("unfiltered", "flows to masks, no flow filter"),
        )
    ),
    ("peak memory, flows and masks", "cellpose-masks", None, "MB", 1),
    ("training step", "elephant-step", "step", "ms", 1),
    ("peak memory, training steps", "elephant-step", None, "MB", 1),
)

# Numbers that must agree between the sides: task, name, largest relative difference, and that of 16-bit numbers.
CHECKS = (
    ("step", "loss", 0.002, 0.02), ("predict", "mean", 0.002, 0.02), ("predict", "objects", 0.02, 0.05),
    ("cellpose-step", "loss", 0.002, 0.02), ("cellpose-predict", "mean", 0.002, 0.05),
    ("cellpose-masks", "objects", 0.002, 0.002), ("elephant-step", "loss", 0.002, 0.02),
)
LOADS = {"none": "nothing else", "low": "a busy process of the lowest priority on each core", "same": "a busy process on each core"}


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value):
    return f"{value:.2f}"


def spread(values, write=number):
    """Median [smallest, largest]."""
    if len(values) == 1:
        return write(values[0])
    return f"{write(statistics.median(values))} [{write(min(values))}, {write(max(values))}]"


def values_of(result, key, divisor=1):
    values = [result["peak_mb"]] if key is None else result["ms"].get(key, [])
    return [value / divisor for value in values if value is not None]


def rounds_of(results, name, task, load, key, divisor=1):
    return [values_of(result, key, divisor) for result in results.get((name, task, load), [])]


def ratios(above, below):
    """Within each round, median to median."""
    return [statistics.median(a) / statistics.median(b) for a, b in zip(above, below) if a and b]


def lines_of(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def beside_the_usual(results, chosen, group, load):
    """One row for each figure of the group, one column for each side, and the ratios of this crate to each peer."""
    tasks = [task for task in GROUPS[group] if task in chosen.tasks]
    names = [name for name in (*chosen.ours, *chosen.peers) if any((name, task, load) in results for task in tasks)]
    peers = [name for name in names if name in PEERS]
    pairs = [(name, peer) for name in names if name in OURS for peer in peers]
    rows = []
    for title, task, key, unit, divisor in ROWS:
        if task not in tasks:
            continue
        if task == "train200" and key:
            title = f"{title}, {chosen.train_steps} steps"
        rounds = {name: rounds_of(results, name, task, load, key, divisor) for name in names}
        cells = [f"{title}, {unit}"]
        for name in names:
            pooled = [value for values in rounds[name] for value in values]
            cells.append(spread(pooled) if pooled else "-")
        for name, peer in pairs:
            found = ratios(rounds[name], rounds[peer])
            cells.append(spread(found, ratio) if found else "-")
        rows.append(cells)
    return lines_of(["", *names, *(f"{name} / {peer}" for name, peer in pairs)], rows)


def least(rounds, names):
    """The name with the smallest median, or none."""
    medians = {name: statistics.median(sum(rounds[name], [])) for name in names if any(rounds[name])}
    return min(medians, key=medians.get, default=None)


def against_rivals(results, chosen, load):
    """A table for each figure with everyone's time and memory, and one of the ratios to the best of the peers."""
    sections, summary = [], []
    for title, task, key, unit, divisor in ROWS:
        if key is None or task not in chosen.tasks:
            continue
        sides = {name: side for name, side in {**OURS, **PEERS}.items() if (name, task, load) in results}
        times = {name: rounds_of(results, name, task, load, key, divisor) for name in sides}
        sides = {name: side for name, side in sides.items() if any(times[name])}
        peaks = {name: rounds_of(results, name, task, load, None) for name in sides}
        peers = [name for name in sides if name in PEERS]
        fastest, leanest = least(times, peers), least(peaks, peers)
        fastest32 = least(times, [name for name in peers if PEERS[name].bits == 32])
        rows = []
        for name, side in sides.items():
            pooled, base = sum(times[name], []), [result.get("before_mb") for result in results[name, task, load]]
            peak, share = sum(peaks[name], []), ratios(times[name], times[fastest]) if fastest else []
            work = [high - low for high, low in zip(peak, base) if low is not None]
            best = {fastest: " (fastest peer)", fastest32: " (fastest peer of 32 bits)"}
            rows.append([
                name + best.get(name, ""), str(side.bits), spread(pooled), spread(share, ratio) if share else "-",
                spread(peak) if peak else "-", spread(work) if work else "-",
            ])
        heads = [f"{task}: {title}", "bits", unit, "of the fastest peer's time", "peak memory, MB", "of that for the work, MB"]
        sections.append(lines_of(heads, rows))
        for name in (name for name in sides if name in OURS):
            cells = [f"{task}: {title}", name]
            for rounds, rival in ((times, fastest), (times, fastest32), (peaks, leanest)):
                found = ratios(rounds[name], rounds[rival]) if rival else []
                cells.append(f"{spread(found, ratio)} {rival}" if found else "-")
            summary.append(cells)
    heads = ["", "", "time / that of the fastest peer", "time / that of the fastest of 32 bits", "peak memory / that of the leanest"]
    sections.append(lines_of(heads, summary))
    return "\n\n".join(sections)


def under_load(results, chosen):
    """How many times as long everything takes beside busy processes; taken within a round."""
    loads = [load for load in chosen.load if load != "none"]
    rows = []
    for title, task, key, _, _ in ROWS:
        if key is None or task not in chosen.tasks:
            continue
        for name in (*chosen.ours, *chosen.peers):
            alone = rounds_of(results, name, task, "none", key)
            found = [ratios(rounds_of(results, name, task, load, key), alone) for load in loads]
            if any(found):
                rows.append([f"{task}: {title}", name, *(spread(values, ratio) if values else "-" for values in found)])
    heads = ["time / that beside nothing else", "", *(LOADS[load] for load in loads)]
    return lines_of(heads, rows)


def disagreements(results, chosen):
    """Signs that the sides did not do the same work."""
    found = []
    last = {(name, task): runs[-1] for (name, task, _), runs in results.items()}
    for task, what, share32, share16 in CHECKS:
        first = next((name for name in chosen.ours if what in last.get((name, task), {})), None)
        for name, side in {**OURS, **PEERS}.items():
            if first is None or name == first or what not in last.get((name, task), {}):
                continue
            pair = [last[who, task][what] for who in (first, name)]
            if what == "loss":
                # The first loss belongs to the same weights and batch; later ones drift with rounding.
                pair = [values[:1] for values in pair]
            pair = [values if isinstance(values, list) else [values] for values in pair]
            share = share32 if side.bits == OURS[first].bits == 32 else share16
            for ours, theirs in zip(*pair):
                if not abs(ours - theirs) <= share * max(abs(ours), abs(theirs)):
                    found.append(f"{task}: {what} is {ours:.6g} with {first} and {theirs:.6g} with {name}")
    for (name, task, _), runs in results.items():
        if name in OURS and task == "predict" and any(run.get("objects") == 0 for run in runs):
            found.append(f"predict: {name} finds no objects; remove {chosen.data} and raise --data-steps")
        if (name == "cellsparse-avx2" or (name in OURS and chosen.avx2)) and runs[-1].get("instructions") != "avx2":
            found.append(f"{task}: {name} ran with the instructions {runs[-1].get('instructions')}")
        if runs[-1].get("graph_breaks"):
            found.append(f"{task}: {name} compiled the network in parts, with {runs[-1]['graph_breaks']} breaks")
    return list(dict.fromkeys(found))
