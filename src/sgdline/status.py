"""What is there of a results folder and what is not, at a glance (no torch).

What is expected stands in the folder's own record, which the workflow writes when it starts jobs. Of tables only the
schema, with its metadata, and the number of rows are read; of logs only the end.
"""

from __future__ import annotations

import os
import re
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from sgdline.analysis.made import Analysed
from sgdline.declare.registry import label
from sgdline.errors import SgdlineError
from sgdline.expected import read_expected
from sgdline.papers.asked import Asked, Named, asked
from sgdline.tables import Json, provenance
from sgdline.tables.seals import check_head, read_seal
from sgdline.workflow import layout
from sgdline.workflow.layout import Layout, RunKey, run_label, run_path
from sgdline.workflow.runs import Config, parent_run, planned_by, probe_segments, runs, toys
from sgdline.workflow.segments import segment_bounds
from sgdline.workflow.slices import probe_slice, training_slice
from sgdline.workflow.starts import start_of
from sgdline.workflow.tables import analyses

# Of a log, where its end says how a job ended; a traceback seldom has more.
_LOG_TAIL = 1 << 16
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ (.*)$")  # the format of sgdline.runtime.job
_TRACEBACK = "Traceback (most recent call last):"
# All paths here are below the results folder.
_BELOW = Layout()
# Logs of the jobs that `Survey` looks at one by one.
_RUN_RULES = ("train_run", "import_lines", "probe_run", "probe_segment")
# What reading a table may end with, if it is damaged. pyarrow's own errors are ValueErrors and the like.
_DAMAGE = (pa.ArrowException, OSError, ValueError)
_SHOWN = 5  # entries below a heading
_WIDTH = 110
_UNBROKEN: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}  # paths stay whole


class State(Enum):
    """How far a job of a run is; the value is what the reader sees."""

    DONE = "done"
    DIVERGED = "cut short by divergence"
    FAILED = "failed"
    DAMAGED = "damaged"
    OUTDATED = "of other settings"
    STARTED = "running or cut off"
    MISSING = "missing"

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do; a run that diverges is a result."""
        return self in (State.DONE, State.DIVERGED)


@dataclass(frozen=True)
class Finding:
    """What a reader has to know about one job."""

    subject: str  # "digits/mlp/lr0.1_bs64_seed1: line, segment 4 of 50"
    words: str
    log: str | None = None  # path below the results folder


@dataclass(frozen=True)
class _File:
    size: int  # bytes on disk
    changed: float  # seconds since the epoch


@dataclass(frozen=True)
class _Job:
    """A job of a run: what it makes, where it logs, what its table has to say about its making."""

    name: str
    table: str  # path below the results folder, as all of these
    log: str
    outputs: tuple[str, ...]
    slice: Mapping[str, Json] | None = None  # of the config, as the table's metadata has it; None leaves it unchecked
    end: int | None = None  # the update after its last one


@dataclass
class Survey:
    """What was found in a results folder."""

    folder: Path
    recorded: float  # when the configuration was written down, seconds since the epoch
    runs: Counter[str] = field(default_factory=Counter)
    segments: Counter[State] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)  # by kind of table
    files: dict[str, tuple[int, int]] = field(default_factory=dict)  # kind -> how many there are, how many are expected
    drift: tuple[float, str] | None = None  # the largest one, and its table
    disk: Counter[str] = field(default_factory=Counter)  # bytes by what they hold
    oldest: tuple[float, str] | None = None  # of the files that are expected
    newest: tuple[float, str] | None = None
    failed: list[Finding] = field(default_factory=list)
    damaged: list[Finding] = field(default_factory=list)
    diverged: list[Finding] = field(default_factory=list)
    unfinished: list[Finding] = field(default_factory=list)  # runs
    missing: list[str] = field(default_factory=list)  # expected files, those of the runs' own jobs apart
    left_over: list[str] = field(default_factory=list)  # folders of runs that nobody asks for
    nested: list[str] = field(default_factory=list)  # results folders inside this one, not counted
    untimely: list[tuple[str, str]] = field(default_factory=list)  # a file, and a newer one that it was made from

    @property
    def complete(self) -> bool:
        """Whether everything that the configuration asks for is there and sound."""
        return not (self.failed or self.damaged or self.unfinished or self.missing)


def survey(folder: str | Path) -> Survey:
    """Look through a results folder.

    Args:
        folder: The folder that the configuration calls `results`.

    Raises:
        SgdlineError: If there is no such folder, or nothing in it says what is expected.

    Cost: one look at every file's size; a tenth of a millisecond for each table that counts.
    """
    root = Path(folder)
    expected = read_expected(root)
    found = Survey(root, expected.recorded)
    _Surveyor(found, _walk(root, found), expected.config).survey(expected.files)
    return found


def _walk(root: Path, found: Survey) -> dict[str, _File]:
    """Return every file by its path below the root; other results folders inside it are left out."""
    files: dict[str, _File] = {}
    linked: set[tuple[int, int]] = set()  # files with several names take up their space once
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(root / below) as scan:
                entries = list(scan)
        except FileNotFoundError:
            continue  # a job that runs beside this has removed it
        except OSError as error:
            raise SgdlineError(f"{root / below} must be readable, got {error.strerror}. Mend its rights.") from error
        if below and any(entry.name == layout.RECORD for entry in entries):
            found.nested.append(below.rstrip("/"))
            continue
        for entry in entries:
            path = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path + "/")
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            again = facts.st_nlink > 1 and (facts.st_dev, facts.st_ino) in linked
            linked.add((facts.st_dev, facts.st_ino))
            files[path] = _File(0 if again else facts.st_blocks * 512, facts.st_mtime)
    return files


class _Surveyor:
    """Compares what is there with what is expected, run by run."""

    def __init__(self, found: Survey, files: Mapping[str, _File], config: Config) -> None:
        self._found = found
        self._files = files
        self._config = config
        self._analysed: dict[str, Mapping[str, Analysed]] = {}  # experiment -> its analyses by kind
        self._siblings: dict[str, list[str]] = {}  # folder -> its files
        for path in files:
            self._siblings.setdefault(path.rpartition("/")[0], []).append(path)

    def survey(self, expected: Mapping[str, Sequence[str]]) -> None:
        wanted = {path for paths in expected.values() for path in paths}
        asked = []
        looked_at: set[str] = set()
        for key in runs(self._config):
            measured = map(label, self._config["experiments"][key.experiment]["probes"])
            probes = [probe for probe in measured if _BELOW.table(key, probe) in wanted]
            if probes or _BELOW.table(key, "trace") in wanted:
                asked.append(key)
                looked_at |= self._survey_run(key, probes)
        parents = self._parents(asked)
        for key in parents:
            looked_at |= self._survey_run(key, ())
        for key in [*asked, *parents]:
            self._compare_times(key)
        claims = filter(layout.is_part_of_the_claims, self._files)
        self._note_untimely((_BELOW.claims("claims"), path) for path in claims)
        self._survey_files(expected, looked_at)
        self._survey_logs([*asked, *parents])
        self._measure_disk()
        known = {run_path(key) for key in [*runs(self._config), *parents]}
        traced = {run for path in self._files if (run := layout.traced_run(path)) is not None}
        self._found.left_over = sorted(traced - known)

    def _parents(self, asked: Sequence[RunKey]) -> list[RunKey]:
        """Return the runs that others continue and that nobody asks for by themselves."""
        known = dict.fromkeys(asked)
        waiting = list(asked)
        while waiting:
            parent = parent_run(self._config, waiting.pop())
            if parent is not None and parent not in known:
                known[parent] = None
                waiting.append(parent)
        return list(known)[len(asked) :]

    def _survey_run(self, key: RunKey, probes: Iterable[str]) -> set[str]:
        """Look at the jobs of one run; return the tables that were looked at."""
        run = run_path(key)
        training = self._training_job(key)
        state, diverged_at = self._survey_job(run, training, kind="trace")
        tables, states = {training.table}, [state]
        left = [] if state.complete else [f"{training.name} {state.value}{self._progress(state, training)}"]
        for probe in probes:
            gathered, segments = self._survey_probe(key, probe, training, diverged_at)
            tables.add(_BELOW.table(key, probe))
            self._found.segments.update(segments)
            states += [gathered, *segments]
            counts = Counter(state.value for state in segments if not state.complete)
            if counts:
                left.append(f"{probe} {len(segments) - counts.total()} of {len(segments)}, {_counts(counts)}")
            elif not gathered.complete:
                left.append(f"{probe} to be gathered")
        if diverged_at is not None:
            steps = self._config["experiments"][key.experiment]["steps"]
            self._found.diverged.append(Finding(run, f"at update {diverged_at:,} of {steps:,}"))
        self._conclude(run, states, left, diverged=diverged_at is not None)
        return tables

    def _survey_probe(
        self, key: RunKey, probe: str, training: _Job, diverged_at: int | None
    ) -> tuple[State, list[State]]:
        """Return how far the gathered table of a probe is, and its segments."""
        run = run_path(key)
        jobs = self._probe_jobs(key, probe, training)
        whole = _BELOW.table(key, probe)
        gathered = State.MISSING
        if jobs[0].table == whole:  # a single job writes it
            gathered = State.DONE
        elif whole in self._files:
            log = _BELOW.log("gather_segments", key, probe)
            gathered, _ = self._survey_job(run, _Job(probe, whole, log, (whole,), jobs[0].slice), kind=probe)
        if gathered is State.DONE and jobs[0].table != whole:
            states = [State.DONE] * len(jobs)  # nobody asks for the segments any more
        else:
            states = [self._survey_job(run, job, kind=probe)[0] for job in jobs]
        cut = [diverged_at is not None and job.end is not None and diverged_at < job.end for job in jobs]
        pairs = zip(states, cut, strict=True)
        return gathered, [State.DIVERGED if short and state is State.DONE else state for state, short in pairs]

    def _compare_times(self, key: RunKey) -> None:
        """Note what is older than a file that it was made from: Snakemake makes it again, whatever it holds."""
        block = self._config["experiments"][key.experiment]
        trace, checkpoints = _BELOW.table(key, "trace"), _BELOW.checkpoints(key)
        pairs: list[tuple[str, str]] = []
        if block["import_lines"] is None:
            pairs.append((trace, _BELOW.dataset(block["dataset"])))
            pairs += [(trace, _BELOW.sharpness(start)) for start in self._starts([key])]
            parent = parent_run(self._config, key)
            if parent is not None:
                pairs.append((trace, _BELOW.checkpoints(parent)))
        for probe in map(label, block["probes"]):
            whole = _BELOW.table(key, probe)
            beside = self._siblings.get(_BELOW.segment(key, probe, 0).rpartition("/")[0], ())
            segments = [path for path in beside if layout.is_segment(path)]
            pairs += [(whole, segment) for segment in segments]
            if block["import_lines"] is None:
                planned = planned_by(self._config, key.experiment, probe)
                sources = [checkpoints] if planned is None else [checkpoints, _BELOW.plan(key, planned)]
                pairs += [(own, source) for own in segments or [whole] for source in sources]
        for kind, analysis in self._analyses(key.experiment).items():
            pairs += [(_BELOW.table(key, kind), _BELOW.table(key, source)) for source in analysis.reads]
        for figure in _figures(block["figures"]):
            picture = _BELOW.figure(figure.folder, key, "png")
            pairs += [(picture, _BELOW.table(key, kind)) for kind in figure.figure.reads]
        self._note_untimely(pairs)

    def _analyses(self, experiment: str) -> Mapping[str, Analysed]:
        """Return the analyses of an experiment; none where one of the user's can no longer be imported."""
        if experiment not in self._analysed:
            try:
                self._analysed[experiment] = analyses(self._config, experiment)
            except SgdlineError:
                self._analysed[experiment] = {}
        return self._analysed[experiment]

    def _starts(self, keys: Iterable[RunKey]) -> list[str]:
        """Return the starts whose sharpness is measured for these runs."""
        blocks = self._config["experiments"]
        return [start_of(self._config, key) for key in keys if blocks[key.experiment]["lr_unit"] == "sharpness"]

    def _note_untimely(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note the files of pairs (made, source) that are older than their source."""
        for made, source in pairs:
            times = self._changed(made), self._changed(source)
            if times[0] is not None and times[1] is not None and times[0] < times[1]:
                self._found.untimely.append((made, source))

    def _changed(self, path: str) -> float | None:
        """Return when a file or a folder of checkpoints was changed, as Snakemake sees it; None without one."""
        if path in self._files:
            return self._files[path].changed
        stamp = self._files.get(f"{path}/.snakemake_timestamp")
        return None if stamp is None else stamp.changed

    def _conclude(self, run: str, states: Sequence[State], left: Sequence[str], *, diverged: bool) -> None:
        if State.FAILED in states or State.DAMAGED in states:
            self._found.runs["failed"] += 1
        elif not all(state.complete for state in states):
            self._found.runs["not finished"] += 1
        else:
            self._found.runs["diverged" if diverged else "done"] += 1
        if left:
            self._found.unfinished.append(Finding(run, "; ".join(left)))

    def _training_job(self, key: RunKey) -> _Job:
        trace = _BELOW.table(key, "trace")
        if self._config["experiments"][key.experiment]["import_lines"] is not None:
            return _Job("import", trace, _BELOW.log("import_lines", key), (trace, _BELOW.table(key, "line")))
        outputs = (trace, _BELOW.checkpoints(key))
        return _Job("training", trace, _BELOW.log("train_run", key), outputs, training_slice(self._config, key))

    def _probe_jobs(self, key: RunKey, probe: str, training: _Job) -> list[_Job]:
        block = self._config["experiments"][key.experiment]
        whole = _BELOW.table(key, probe)
        if block["import_lines"] is not None:  # one job makes both tables
            return [_Job(training.name, whole, training.log, (whole,))]
        expected = probe_slice(self._config, key, probe)
        if block["segments"] == 1:
            return [_Job(probe, whole, _BELOW.log("probe_run", key, probe), (whole,), expected, block["steps"])]
        bounds = segment_bounds(block["steps"], probe_segments(self._config, key.experiment, probe))
        return [
            _Job(
                f"{probe}, segment {number} (of {len(bounds)}, from 0)",
                _BELOW.segment(key, probe, number),
                _BELOW.log("probe_segment", key, probe, number),
                (_BELOW.segment(key, probe, number),),
                expected,
                end,
            )
            for number, (_, end) in enumerate(bounds)
        ]

    def _survey_job(self, run: str, job: _Job, *, kind: str) -> tuple[State, int | None]:
        """Return the state of a job and, of a training, the update at which it diverged; count rows and drift."""
        if not all(output in self._files or output in self._siblings for output in job.outputs):
            return self._unfinished_job(run, job), None
        try:
            rows, facts = _read_facts(self._found.folder / job.table)
        except FileNotFoundError:
            return State.MISSING, None  # a job that runs beside this has removed it
        except _DAMAGE as error:
            self._found.damaged.append(Finding(f"{run}: {job.name}", _damage_words(job.table, error)))
            return State.DAMAGED, None
        if job.slice is not None and facts.get("slice") != job.slice:
            return State.OUTDATED, None
        self._found.rows[kind] += rows
        drift = facts.get("replay_drift")
        if drift is not None and (self._found.drift is None or drift > self._found.drift[0]):
            self._found.drift = (drift, job.table)
        return State.DONE, facts.get("diverged_at")

    def _unfinished_job(self, run: str, job: _Job) -> State:
        if job.log not in self._files:
            return State.MISSING
        reason = _failure(self._found.folder / job.log)
        if reason is None:
            return State.STARTED
        # An import fails once, whatever it makes.
        finding = Finding(f"{run}: {job.name}", reason, job.log)
        if finding not in self._found.failed[-1:]:
            self._found.failed.append(finding)
        return State.FAILED

    def _progress(self, state: State, job: _Job) -> str:
        """Return the last line of a job's log, if it is under way."""
        if state is not State.STARTED:
            return ""
        lines = _tail(self._found.folder / job.log)
        stamped = [match[1] for match in map(_STAMP.match, lines) if match]
        return f" ({stamped[-1]})" if stamped else ""

    def _survey_files(self, expected: Mapping[str, Sequence[str]], looked_at: set[str]) -> None:
        """Count the expected files, and look at the tables that no run's job has been asked about."""
        for kind, paths in expected.items():
            unique = dict.fromkeys(paths)
            there = [path for path in unique if path in self._files]
            self._found.files[kind] = (len(there), len(unique))
            self._found.missing += [path for path in unique if path not in self._files and path not in looked_at]
            for path in there:
                self._note_age(path)
                if path.endswith(".arrow") and path not in looked_at:
                    self._check_table(path)

    def _note_age(self, path: str) -> None:
        age = (self._files[path].changed, path)
        self._found.oldest = min(self._found.oldest or age, age)
        self._found.newest = max(self._found.newest or age, age)

    def _check_table(self, path: str) -> None:
        try:
            _read_facts(self._found.folder / path)
        except FileNotFoundError:
            self._found.missing.append(path)
        except _DAMAGE as error:
            self._found.damaged.append(Finding(path, _damage_words("it", error)))

    def _survey_logs(self, keys: Sequence[RunKey]) -> None:
        """Find the failures of all other rules: plans, gathering, analysis, figures, claims."""
        if not (self._found.missing or self._found.unfinished):
            return
        labels = [run_label(key) for key in keys]
        labels += [*self._starts(keys), *toys(self._config), *self._config["datasets"], *self._config["comparisons"]]
        # Logs of what the configuration no longer names tell nothing.
        named = re.compile("|".join(rf"(?:^|_|/){re.escape(label)}(?:_|$)" for label in labels) or "(?!)")
        for path in sorted(self._files):
            logged = layout.job_of_log(path)
            if logged is None or logged[0] in _RUN_RULES:
                continue
            rule, subject = logged
            reason = _failure(self._found.folder / path)
            if reason is not None and (not subject or named.search(subject)):
                self._found.failed.append(Finding(f"{rule}: {subject}" if subject else rule, reason, path))

    def _measure_disk(self) -> None:
        for path, file in self._files.items():
            self._found.disk[layout.contents(path)] += file.size


def _figures(named: Iterable[Named]) -> Iterator[Asked]:
    """Yield the figures of an experiment but those that can no longer be found."""
    for figure in named:
        try:
            yield asked(figure)
        except (SgdlineError, KeyError):
            continue


def _read_facts(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of rows of a table and its metadata; of the data no more than the first column is touched."""
    seals = read_seal(path)
    with path.open("rb") as file, pa.memory_map(str(path), "r") as source:
        for place, seal in enumerate(seals):
            check_head(file.fileno(), seal, place=place)
        reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=[0]))
        rows = sum(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))
        facts = provenance(reader.schema)
    if not facts:
        raise ValueError("it says nothing about its making")
    return rows, facts


def _damage_words(table: str, error: Exception) -> str:
    return f"{table} is no whole table ({error}). Delete it and start Snakemake"


def _tail(path: Path) -> list[str]:
    """Return the last lines of a log; none if it has gone."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _failure(log: Path) -> str | None:
    """Return why a job failed, by the traceback at the end of its log; None if it has not failed."""
    lines = _tail(log)
    after = next((len(lines) - back for back, line in enumerate(reversed(lines)) if _STAMP.match(line)), 0)
    if not any(line.startswith(_TRACEBACK) for line in lines[after:]):
        return None
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if last.startswith("KeyboardInterrupt"):
        return None  # somebody stopped it
    known = re.match(r"(?:[\w.]+\.)?SgdlineError: (.*)", last)
    return known[1] if known else last


def report(found: Survey, *, everything: bool = False, now: float | None = None) -> str:
    """Return a survey as text that fits on a screen.

    Args:
        found: The survey.
        everything: Name every run and file, not the first few.
        now: Seconds since the epoch; the present if None.
    """
    now = time.time() if now is None else now
    lines = [f"{found.folder}, expected by the configuration of {_date(found.recorded)}", ""]
    segments: dict[str, int] = {state.value: found.segments[state] for state in State if found.segments[state]}
    facts = {
        "runs": f"{sum(found.runs.values()):,}: {_counts(found.runs)}",
        "segments": f"{sum(segments.values()):,}: {_counts(segments)}",
        "files": ", ".join(f"{there:,} of {asked:,} {kind}" for kind, (there, asked) in found.files.items()),
        "rows": ", ".join(f"{kind} {rows:,}" for kind, rows in sorted(found.rows.items())) or "none",
        "drift": "none measured" if found.drift is None else _drift_words(*found.drift),
        "disk": f"{_bytes(found.disk.total())}: "
        + ", ".join(f"{kind} {_bytes(size)}" for kind, size in found.disk.most_common()),
        "oldest": "nothing yet" if found.oldest is None else _age(*found.oldest, now),
        "newest": "nothing yet" if found.newest is None else _age(*found.newest, now),
    }
    if found.left_over:
        named = ", ".join(found.left_over if everything else found.left_over[:1])
        facts["left over"] = f"runs that the configuration does not name: {len(found.left_over):,}, {named}"
    if found.nested:
        facts["not counted"] = ", ".join(found.nested) + " (results folders of their own)"
    for name, words in facts.items():
        lines += textwrap.wrap(words, _WIDTH, initial_indent=f"{name:<13}", subsequent_indent=" " * 13, **_UNBROKEN)
    limit = None if everything else _SHOWN
    for title, findings in (
        ("failed", found.failed),
        ("damaged", found.damaged),
        ("diverged", found.diverged),
        ("not finished", found.unfinished),
        ("missing", [Finding(path, "") for path in found.missing]),
    ):
        lines += _listed(title, findings, limit=limit, shorten=not everything)
    if found.untimely:
        lines += ["", *textwrap.wrap(_untimely_words(found.untimely), _WIDTH, **_UNBROKEN)]
    verdict = "All there." if found.complete else "Not all there: start Snakemake, which makes what is missing."
    return "\n".join([*lines, "", verdict])


def _untimely_words(untimely: Sequence[tuple[str, str]]) -> str:
    made, source = untimely[0]
    count = len({path for path, _ in untimely})
    others = f" (and {count - 1:,} more of the kind)" if count > 1 else ""
    return (
        f"Times do not fit: {made} is older than {source}, which it is made from{others}, so Snakemake may make "
        "it again. After a copy that did not keep times, copy again with cp -a or rsync -a, or add --touch to your "
        "snakemake command once; after a change, start Snakemake."
    )


def _listed(title: str, findings: Sequence[Finding], *, limit: int | None, shorten: bool) -> Iterator[str]:
    if not findings:
        return
    yield ""
    yield f"{title}: {len(findings):,}"
    for finding in findings[:limit]:
        words = f"{finding.subject}: {finding.words}" if finding.words else finding.subject
        words = textwrap.shorten(words, 3 * _WIDTH, placeholder=" ...") if shorten else words
        yield from textwrap.wrap(words, _WIDTH, initial_indent="  ", subsequent_indent="  ", **_UNBROKEN)
        if finding.log is not None:
            yield f"    {finding.log}"
    if limit is not None and len(findings) > limit:
        yield f"  and {len(findings) - limit:,} more (--all)"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _drift_words(drift: float, table: str) -> str:
    return "0: every replay ended exactly at its checkpoint" if drift == 0 else f"{drift:.3g} at most, in {table}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _age(seconds: float, path: str, now: float) -> str:
    passed = max(now - seconds, 0.0)
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if passed >= 2 * length:
            return f"{_date(seconds)} ({passed / length:.0f} {unit} ago) {path}"
    return f"{_date(seconds)} (just now) {path}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
