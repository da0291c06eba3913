"""How often `diagnose` is right on the labelled logs of tests/fixtures/diagnosis: data/diagnose_accuracy.csv.

    python benchmarks/diagnose_accuracy.py [--out] [--list] [--holdout SEED [--held]]

Every log gets one of three grades (tests/fixtures/diagnosis/README.md says how the labels were made):

wrong       the kind is another one and not `unknown`; or the answer says that something failed where nothing did, or
            that nothing failed where something did; or a fact contradicts the label, or is given where the label says
            that the log does not give it; or the answer names the log's producer wrongly; or it claims the same
            incident where the label has none; or a sentence of the text, apart from what it says does not help, matches
            a `must_not_say`; or a suggestion matches a `must_not_advise`; or `diagnose` raised an exception.
incomplete  the kind is `unknown` where the label has one; or an essential fact of the kind or a `must_say` is missing.
right       otherwise.

--out writes the rows. --list prints each log that is not right, and why. --holdout splits the logs of every kind into
two halves by a seed and prints only the first half, so that whoever writes recognisers does not see the other;
--held prints the other half instead. The exit status is 1 when an answer is wrong.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "fixtures" / "diagnosis"
ROWS = ROOT / "data" / "diagnose_accuracy.csv"
RIGHT, INCOMPLETE, WRONG = "right", "incomplete", "wrong"
COLUMNS = ("log", "kind", "form", "answered", "result", "why")

# --- the adapter: the only part that knows what a Diagnosis looks like --------------------------------------

# A kind's name in `diagnose`, where it differs from its name in labels.json.
KIND_NAMES: dict[str, str] = {}
_SENTENCE_END = re.compile(r"(?<=[.;:!?])\s+|\s+-\s+|\s+[0-9]+\.\s+")


@dataclass(frozen=True)
class Answer:
    """What `diagnose` said of a log, in the terms of the labels.

    `failed` is None where the answer leaves it open, `facts` hold only what is given as known, `advice` are the edits
    it suggests as helping, `in_vain` what it says does not help, `incidents` the incidents it claims to be the same.
    """

    kind: str
    failed: bool | None = None
    producer: str | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)
    text: str = ""
    advice: tuple[str, ...] = ()
    in_vain: tuple[str, ...] = ()
    incidents: tuple[str, ...] = ()


def answer_of(diagnosis: object) -> Answer:
    """A Diagnosis as an `Answer`."""
    return Answer(
        kind=KIND_NAMES.get(diagnosis.kind, diagnosis.kind),
        failed=diagnosis.failed,
        producer=diagnosis.producer,
        facts={name: value for name, value in diagnosis.facts.items() if value not in (None, "")},
        text=diagnosis.text(),
        advice=tuple(s.edit for s in diagnosis.suggestions),
        in_vain=tuple(words for s in diagnosis.in_vain for words in (s.edit, s.why)),
        incidents=tuple(m.incident.name for m in diagnosis.incidents if m.degree == "the same"),
    )


def diagnose(text: str) -> Answer:
    """This checkout's answer to a log."""
    from helpers.diagnosis.diagnose import diagnose as real

    return answer_of(real(text))


# --- grading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grade:
    """`right`, `incomplete` or `wrong`, and the reasons against `right`."""

    result: str
    why: tuple[str, ...] = ()


def grade(label: Mapping, answer: Answer, *, kinds: Mapping, phrases: Mapping) -> Grade:
    """The grade of an answer by a label of labels.json; `kinds` and `phrases` are that file's tables."""
    wrong, missing = [], []
    allowed = {label["kind"], *label.get("also_right", ())}
    if answer.kind not in allowed:
        if answer.kind == "unknown":
            missing.append(f"unknown, and it is {label['kind']}")
        else:
            wrong.append(f"{answer.kind}, and it is {label['kind']}")
    if label["failed"] is not None and answer.failed is not None and label["failed"] != answer.failed:
        wrong.append("says that it failed" if answer.failed else "says that nothing failed")
    producers = label["producer"] if isinstance(label["producer"], list) else [label["producer"]]
    # Inductor's kernels are Triton's as well.
    if "inductor" in producers:
        producers = [*producers, "triton"]
    if answer.producer not in (None, "unknown", *producers):
        wrong.append(f"names {answer.producer} as the producer")
    for incident in answer.incidents:
        if incident != label.get("incident"):
            wrong.append(f"claims the same incident: {incident}")
    for name, value in label["facts"].items():
        given = answer.facts.get(name)
        if given is not None and not _agrees(name, value, given):
            wrong.append(f"{name} {given}, and the log gives {value if value is not None else 'none'}")
    searched = " ".join(answer.text.split())
    remaining = searched
    for said in answer.in_vain:
        remaining = remaining.replace(" ".join(said.split()), " ")
    sentences = _SENTENCE_END.split(remaining)
    wrong += [f"says {p!r}" for p in _hits(label.get("must_not_say", ()), sentences, phrases)]
    wrong += [f"advises {p!r}" for p in _hits(label.get("must_not_advise", ()), answer.advice, phrases)]
    if answer.kind == label["kind"]:
        for name in kinds[label["kind"]]["essential"]:
            value = label["facts"].get(name)
            if value is not None and name not in answer.facts and not _in_text(value, searched):
                missing.append(f"{name} {value} is missing")
    if answer.kind != "unknown" or label["kind"] == "unknown":
        hits = _hits(label.get("must_say", ()), [searched], phrases)
        missing += [f"does not say {p!r}" for p in label.get("must_say", ()) if p not in hits]
    if wrong:
        return Grade(WRONG, tuple(wrong))
    return Grade(INCOMPLETE, tuple(missing)) if missing else Grade(RIGHT)


def _hits(patterns: Iterable[str], texts: Iterable[str], phrases: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The patterns found in one of the texts; `$name` is a phrase of labels.json, void after its `unless`."""
    texts, found = list(texts), []
    for pattern in patterns:
        phrase = phrases[pattern[1:]] if pattern.startswith("$") else {"says": pattern}
        unless = phrase.get("unless", r"(?!)")
        if any(
            not re.search(unless, text[: m.start()], re.IGNORECASE)
            for text in texts
            for m in re.finditer(phrase["says"], text, re.IGNORECASE)
        ):
            found.append(pattern)
    return found


def _agrees(name: str, value: str | int | None, given: str | int) -> bool:
    if value is None:
        return False
    a, b = str(value).casefold(), str(given).casefold()
    if name in ("triton", "ptxas"):
        # `12.9` and `12.9.86` do not contradict each other.
        return f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.")
    if name in ("source", "pass", "feature", "signal"):
        return a in b or b in a
    return a == b


def _in_text(value: str | int, text: str) -> bool:
    if isinstance(value, int):
        return re.search(rf"(?<![\d,.]){value:,}(?![\d])|(?<![\d,.]){value}(?!\d)", text) is not None
    return value.casefold() in text.casefold()


# --- the corpus -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One log's grade; `seconds` is how long the answer took and is not written to the rows."""

    log: str
    kind: str
    form: str
    answered: str
    result: str
    why: str
    seconds: float


def read_labels(folder: Path = CORPUS) -> dict:
    """labels.json of a corpus: `kinds`, `phrases` and `logs`."""
    return json.loads((folder / "labels.json").read_text(encoding="utf-8"))


def read_log(name: str, folder: Path = CORPUS) -> str:
    """A log as `diagnose` gets it: decoded, its line ends untouched."""
    return (folder / f"{name}.log").read_bytes().decode("utf-8", errors="replace")


def first_half(labels: Mapping, seed: int) -> set[str]:
    """Names of half the logs of each kind (the larger half where the number is odd), drawn by a seed."""
    rng = random.Random(seed)
    chosen: set[str] = set()
    for kind in sorted({label["kind"] for label in labels["logs"].values()}):
        names = sorted(name for name, label in labels["logs"].items() if label["kind"] == kind)
        rng.shuffle(names)
        chosen |= set(names[: (len(names) + 1) // 2])
    return chosen


def measure(
    labels: Mapping, names: Iterable[str], *, folder: Path = CORPUS, ask: Callable[[str], Answer] = diagnose
) -> list[Row]:
    """A row for each named log. An exception of `ask` is a wrong answer."""
    rows = []
    ask("")  # imports are no part of an answer's time
    for name in names:
        label = labels["logs"][name]
        text = read_log(name, folder)
        start = time.perf_counter()
        try:
            answer = ask(text)
            graded = grade(label, answer, kinds=labels["kinds"], phrases=labels["phrases"])
            said = answer.kind
        except Exception as error:
            graded, said = Grade(WRONG, (f"raised {type(error).__name__}: {error}",)), "exception"
        seconds = time.perf_counter() - start
        rows.append(Row(name, label["kind"], label["form"], said, graded.result, "; ".join(graded.why), seconds))
    return rows


def table(rows: list[Row]) -> str:
    """Counts by kind, and their sum."""
    lines = [f"{'kind':30}{'logs':>6}{'right':>7}{'incomplete':>12}{'wrong':>7}"]
    kinds = sorted({row.kind for row in rows})
    for kind in (*kinds, None):
        of = [row for row in rows if kind in (None, row.kind)]
        counts = [sum(row.result == result for row in of) for result in (RIGHT, INCOMPLETE, WRONG)]
        lines.append(f"{kind or 'all':30}{len(of):6}{counts[0]:7}{counts[1]:12}{counts[2]:7}")
    share = sum(row.result == RIGHT for row in rows) / len(rows) if rows else 0.0
    slowest = max(rows, key=lambda row: row.seconds, default=None)
    lines.append(f"right: {share:.1%}" + (f"; slowest: {slowest.log}, {slowest.seconds:.2f} s" if slowest else ""))
    return "\n".join(lines)


def as_csv(rows: list[Row], day: str) -> str:
    """The rows of data/diagnose_accuracy.csv, under a line that says where they come from."""
    out = io.StringIO()
    out.write(f"# the labelled logs of tests/fixtures/diagnosis; python benchmarks/diagnose_accuracy.py --out; {day}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return out.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Grade the corpus, print the table; 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--out", nargs="?", const=ROWS, type=Path, help=f"write the rows (default: {ROWS.name} in data)"
    )
    parser.add_argument("--list", action="store_true", help="print each log that is not right, and why")
    parser.add_argument("--holdout", type=int, metavar="SEED", help="only the first half of each kind, drawn by a seed")
    parser.add_argument("--held", action="store_true", help="with --holdout: the other half instead")
    options = parser.parse_args(argv)
    if options.held and options.holdout is None:
        parser.error("--held needs --holdout SEED")
    labels = read_labels()
    names = sorted(labels["logs"])
    if options.holdout is not None:
        first = first_half(labels, options.holdout)
        names = [name for name in names if (name in first) != options.held]
    rows = measure(labels, names)
    if options.list:
        for row in rows:
            if row.result != RIGHT:
                print(f"{row.result:11}{row.log}: {row.why}")
    print(table(rows))
    if options.out:
        options.out.write_text(as_csv(rows, datetime.date.today().isoformat()), encoding="utf-8")
    return int(any(row.result == WRONG for row in rows))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
