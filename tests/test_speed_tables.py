"""The tables of times in the documents are what the records in ``benchmarks/results`` say."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SPEED, README = ((ROOT / name).read_text(encoding="utf-8") for name in ("benchmarks/speed.md", "README.md"))
SECTIONS = [section for section in SPEED.split("\n## ") if "Default variant: `" in section]
NAMES = {
    "Omniglot training step, 5-way, batch 10": "Omniglot step, 5-way, batch 10",
    "Omniglot training step, 20-way, batch 20": "Omniglot step, 20-way, batch 20",
    "Omniglot outer step, 25 inner steps of batch 10": "Omniglot meta-iteration, 25 steps of batch 10",
    "Mini-ImageNet training step, batch 10": "Mini-ImageNet step, 5-way, batch 10",
    "exact MAML gradient, 5 steps and a query": "Omniglot MAML gradient, K = 5, 5+5 images",
    "sine waves, 32 inner steps of batch 10": "sine meta-iteration, 32 SGD steps of batch 10",
}
"""README's names of some workloads, and those of the record."""
PEERS = {"JAX*": "jax-im2col", "TensorFlow": "tensorflow"}


def rows(text, columns):
    """The rows of numbers of the tables in a text that have this number of columns."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]
    return [row for row in table if len(row) == columns and re.search(r"\d", row[-2])]


def measured(names, work, threads):
    """From the first record with this row: milliseconds, share of the peak, and the ratios in each setting.

    The ratio to the fastest other program is the smaller one of the two settings.
    """
    for name in names:
        settings = json.loads((RESULTS / f"{name}.json").read_text())["settings"]
        ratios, others, own = [], [], None
        for setting in ("as installed", "with settings"):
            timed = [
                row for row in settings[setting]["rows"] if (row["work"], row["threads"]) == (work, threads)
            ]
            ours = [row for row in timed if row["default"]]
            if not ours:
                break
            own = own or ours[0]
            ratio = {row["variant"]: row["ms_min"] / ours[0]["ms_min"] for row in timed}
            ratios.append(ratio["numpy"])
            peers = {v: r for v, r in ratio.items() if v != "numpy" and not v.startswith("native")}
            others += [(r, v) for v, r in peers.items() if r == min(peers.values())]
        else:
            return own["ms_min"], own["peak_share"], *ratios, min(others, default=None)
    raise AssertionError(f"no record of {work} with {threads} threads in {names}")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_a_table_of_speed_is_its_record(section):
    names = re.findall(r"`((?:xeon|zen\d)-\w+)`", section)
    table = rows(section, 7)
    assert len(table) > 10
    for work, threads, *cells in table:
        ms, share, plain, tuned, other = measured(names, work, int(threads))
        fastest = f"{other[0]:.2f} ({other[1]})" if other else "-"
        expected = [f"{ms:#.4g}".rstrip("."), f"{share:.0%}", f"{plain:.2f}", f"{tuned:.2f}", fastest]
        assert cells == expected, (work, threads)


def test_readmes_table_is_the_record_of_zen_5():
    table = rows(README.partition("\n## Speed")[2], 4)
    assert [row[0] for row in table] == list(NAMES)
    for work, milliseconds, numpy, fastest in table:
        ms, _, plain, tuned, other = measured(["zen5-steps"], NAMES[work], 1)
        digits = 1 if ms >= 10 else 2
        assert milliseconds == f"{ms:.{digits}f}"
        assert numpy == f"{plain:.1f}, {tuned:.1f}"
        ratio, peer = re.fullmatch(r"([\d.]+) \((.*)\)", fastest).groups()
        assert (ratio, PEERS[peer]) == (f"{other[0]:.2f}", other[1])
