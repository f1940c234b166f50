"""The report fits 80 columns whatever the times, names everything, and shows the default variant first."""

import json
import sys
from pathlib import Path

import pytest

from reptile_np.bench import report
from reptile_np.bench.catalogue import all_workloads

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPEED = (BENCHMARKS / "speed.md").read_text(encoding="utf-8")
RECORDS = [path for name in ("xeon*", "zen*") for path in (BENCHMARKS / "results").glob(f"{name}.json")]


def row(work, variant, ms, default=False, threads=1):
    return {
        "work": work,
        "variant": variant,
        "default": default,
        "threads": threads,
        "ms_min": ms,
        "ms_median": 3 * ms,
        "gflops": 987.654,
        "calls": 9,
        "peak_share": 0.98765,
        "vs_numpy": 123.456,
    }


def result(ms):
    names = [workload.name for workload in all_workloads()]
    variants = ["numpy", "native-avx512", "torch-compiled-channels-last"]
    rows = [row(name, variant, ms, variant == "native-avx512", 64) for name in names for variant in variants]
    return {
        "peak_gflops": 127.6,
        "peaks": {"64": {"avx512": 121.9, "avx2": 127.6, "portable": 50.2}},
        "machine": {"processor": "A processor with a long name " * 4, "cores": 64},
        "busy": True,
        "warnings": ["the machine was busy " * 8],
        "failures": [f"{names[0]}, native-avx2, 64 threads: losses differs by 1.0e-02 from float64"],
        "rows": rows,
    }


@pytest.mark.parametrize("ms", [0.0021, 0.9999, 1.5, 99.999, 1234.5, 98765.4])
def test_it_fits_80_columns_and_no_two_columns_run_together(ms):
    text = report.format_table(result(ms))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.startswith((" *native", "  numpy", "  torch"))]
    assert all(len(line.replace("*", " ").split()) == 7 for line in rows)
    names = {workload.name for workload in all_workloads()}
    short = [line for line in lines if any(line.startswith(f"{name} ") for name in names)]
    assert len(short) == len(names)
    assert all(len(line[46:].split()) == 4 for line in short)


def test_it_names_everything_and_marks_the_default():
    shown = result(1.0)
    text = report.format_table(shown)
    assert all(each["work"] in text and each["variant"] in text for each in shown["rows"])
    assert "The default variant, native-avx512" in text
    assert "WRONG" in text
    marked = [line for line in text.splitlines() if line.startswith(" *")]
    assert {line.split()[0] for line in marked} == {"*native-avx512"}
    assert text.index("NOTE: the machine was busy") < text.index("The default variant")


@pytest.mark.parametrize(
    ("share", "ratio", "shown"), [(0.125, 2.5, ["12.5%", "2.50"]), (None, None, ["-", "-"])]
)
def test_a_line_ends_with_the_share_of_the_peak_and_the_ratio_to_numpy_or_a_dash_for_what_is_not_known(
    share, ratio, shown
):
    timed = row("a work", "numpy", 1.5, default=True) | {"peak_share": share, "vs_numpy": ratio}
    words = [line.split() for line in report.format_table(result(1.0) | {"rows": [timed]}).splitlines()]
    assert ["a", "work", "1", "1.500", *shown] in words
    assert ["*numpy", "1", "1.500", "4.500", "987.7", *shown] in words


def test_without_kernels_it_says_that_no_peak_was_measured():
    text = report.format_table(result(1.0) | {"peaks": {"2": {}}})
    assert "threads = 2: not measured, no kernels are built" in text


def test_four_figures_of_a_time():
    times = [0.00213, 0.28412, 1.2837, 12.8371, 1234.52]
    assert list(map(report.milliseconds, times)) == ["0.0021", "0.2841", "1.284", "12.84", "1234.5"]


def test_the_tables_of_speed_md_are_of_the_default_variant_and_the_records_own(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run

    known = set()
    for path in RECORDS:
        known |= set(run.ratios(json.loads(path.read_text(encoding="utf-8"))).splitlines())
    shown = [line for line in SPEED.splitlines() if line.startswith("|") and line.count("|") == 8]
    assert len(shown) > 20
    assert [line for line in shown if line not in known] == []
