"""Graded calls: reads them, has the program score them, and tells how well values order them.

benches/faithfulness and benches/evidence_grid share it. CALLS holds a call a line (schemas/call.v1.json), gzip where
its name ends in .gz; LABELS holds `request_id<TAB>supported|unsupported` a line. The set of a call is its request_id
up to the last `-`, its half the parity of the last number in it.
"""

import bisect
import collections
import gzip
import importlib.util
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import tomllib
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/aftercheck"
PYTHON = ROOT / ".runtime/venv/bin/python"
# Settings under which faithfulness is the mean entailment, whatever the windows, and needs no sentence encoder.
UNCALIBRATED = {"AFTERCHECK__CASCADE__CALIBRATED": "false", "AFTERCHECK__INFERENCE__EMBEDDING": ""}


class Graded(typing.NamedTuple):
    """A call and what a person said of its answer."""

    request_id: str
    part_of: str
    call: dict
    supported: bool


def arguments_for(parser, half):
    """Adds what both benches take."""
    parser.add_argument("calls", type=pathlib.Path, metavar="CALLS", help="JSON lines of calls, plain or .gz")
    parser.add_argument("labels", type=pathlib.Path, metavar="LABELS", help="request_id<TAB>supported|unsupported")
    parser.add_argument("--half", choices=("even", "odd", "all"), default=half,
                        help="calls by the parity of the last number of their request_id (default: %(default)s)")
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM, help="aftercheck as built")


def need_packages(*names):
    """Starts the script again under .runtime/venv where this Python lacks a package."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if not PYTHON.exists() or pathlib.Path(sys.prefix).resolve() == PYTHON.parent.parent.resolve():
        raise SystemExit(
            f"Python packages missing: {', '.join(missing)}; create .runtime/venv with scripts/test, or with\n"
            "  python3 -m venv .runtime/venv\n"
            "  .runtime/venv/bin/python -m pip install -r tests/fixtures/requirements.txt"
        )
    os.execv(PYTHON, [str(PYTHON), *sys.argv])


def lines(path):
    """The lines of a text file, unpacked where its name ends in .gz."""
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; --help tells the form of CALLS and LABELS")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file if line.strip())


def read_labels(path):
    """Whether a person called the answer supported, by request_id."""
    labels = {}
    for number, line in enumerate(lines(path), 1):
        request_id, _, label = line.partition("\t")
        if label not in ("supported", "unsupported"):
            raise SystemExit(f"{path}, line {number}: need request_id<TAB>supported|unsupported, got {line[:80]!r}")
        labels[request_id] = label == "supported"
    return labels


def is_in_half(request_id, half):
    """Whether the last number of the request_id has the parity asked for."""
    if half == "all":
        return True
    numbers = re.findall(r"[0-9]+", request_id)
    if not numbers:
        raise SystemExit(f"request_id {request_id!r} holds no number: use --half all, or number the calls")
    return int(numbers[-1]) % 2 == (half == "odd")


def read(arguments, sample=None):
    """The labelled calls of the half, of each set the first `sample`; what has no partner is counted on stderr."""
    labels, found, per_set, bare = read_labels(arguments.labels), {}, collections.Counter(), 0
    for number, line in enumerate(lines(arguments.calls), 1):
        try:
            call = json.loads(line)
            request_id = call["request_id"]
        except (ValueError, KeyError, TypeError):
            form = "no call; `aftercheck schema call` prints the form"
            raise SystemExit(f"{arguments.calls}, line {number}: {form}") from None
        part_of = request_id.rsplit("-", 1)[0]
        supported = labels.pop(request_id, None)
        if request_id in found:
            raise SystemExit(f"{arguments.calls}, line {number}: request_id {request_id!r} comes twice")
        if supported is None:
            bare += 1
        elif is_in_half(request_id, arguments.half) and (sample is None or per_set[part_of] < sample):
            per_set[part_of] += 1
            found[request_id] = Graded(request_id, part_of, call, supported)
    if bare or labels:
        print(f"left out: {bare} calls without a label, {len(labels)} labels without a call", file=sys.stderr)
    if not found:
        raise SystemExit(f"no labelled call in {arguments.calls}: are the labels of {arguments.labels} for it?")
    return sorted(found.values(), key=lambda one: one.part_of)


def told(program, *words, given="", settings=None):
    """How a command of the program ended, its output kept; what it says on stderr is seen."""
    program = program.resolve()
    if not program.is_file():
        raise SystemExit(f"{program}: no such program; build it with cargo build --release --locked")
    return subprocess.run([program, *words], input=given.encode(), stdout=subprocess.PIPE, cwd=ROOT,
                          env={**os.environ, **(settings or {})})


def score(program, graded, settings=None):
    """Evaluations by request_id, and the seconds that took, start-up included."""
    calls = "".join(json.dumps(one.call) + "\n" for one in graded)
    begun = time.perf_counter()
    done = told(program, "score", "-", given=calls, settings=settings)
    seconds = time.perf_counter() - begun
    evaluations = {row["request_id"]: row for row in map(json.loads, done.stdout.splitlines())}
    # 1 says that some calls could not be scored, which the scored share tells.
    if done.returncode not in (0, 1) or (graded and not evaluations):
        raise SystemExit(f"`{program.name} score` ended with {done.returncode}; see its words above. "
                         "ONNX Runtime is installed by scripts/onnxruntime, models lie in models/")
    return evaluations, seconds


def start_up(program):
    """Seconds until the program, its model loaded, has scored no call at all."""
    return score(program, [])[1]


def keys(program, section):
    """What the program's configuration schema says of the keys of a section."""
    done = told(program, "schema", "config")
    if done.returncode != 0:
        raise SystemExit(f"`{program.name} schema config` ended with {done.returncode}; see its words above")
    schema = json.loads(done.stdout)
    return schema["$defs"][schema["properties"][section]["$ref"].rsplit("/", 1)[-1]]["properties"]


def setting(program, section, key):
    """A setting as the program sees it: environment, then the configuration file, then the default."""
    given = os.environ.get(f"AFTERCHECK__{section}__{key}".upper())
    if given is not None:
        return given
    path = ROOT / os.environ.get("AFTERCHECK_CONFIG", "aftercheck.toml")
    file = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    return file[section][key] if key in file.get(section, {}) else keys(program, section)[key]["default"]


def places(values, others):
    """Share of the others that each value exceeds, ties half."""
    others = sorted(others)
    return [(bisect.bisect_left(others, value) + bisect.bisect_right(others, value)) / (2 * len(others)) for value in values]


def auc(supported, unsupported):
    """Probability that a supported answer has the higher value, ties counted half; None without one of each."""
    return statistics.fmean(places(supported, unsupported)) if supported and unsupported else None


def auc_error(supported, unsupported):
    """The standard error of the AUC, after DeLong and others, Biometrics 44 (1988); None with fewer than two of either."""
    if min(len(supported), len(unsupported)) < 2:
        return None
    return math.sqrt(statistics.variance(places(supported, unsupported)) / len(supported)
                     + statistics.variance(places(unsupported, supported)) / len(unsupported))


def mean_error(errors):
    """The standard error of a mean of independent figures; None where one is missing."""
    return None if not errors or None in errors else math.sqrt(sum(error ** 2 for error in errors)) / len(errors)


def aucs(graded, values):
    """The AUC of each set, calls without a value left out."""
    found = collections.defaultdict(lambda: ([], []))
    for one in graded:
        lists = found[one.part_of]
        if values.get(one.request_id) is not None:
            lists[0 if one.supported else 1].append(values[one.request_id])
    return {part_of: auc(*lists) for part_of, lists in found.items()}


def mean(values):
    """The mean of what is there; None of nothing."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def print_table(headings, rows):
    """Columns as wide as they need; numbers to the right, fractions with three places, `-` for what is missing."""
    def shown(value):
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    texts = [list(headings)] + [[shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)]
    for row in texts:
        print("  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))]))
