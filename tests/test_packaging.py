"""What is published: complete archives, wheels with a true tag, one version, documents whose paths exist."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import reptile_np
from tests.building import in_a_virtual_environment, skip_unless_the_package_can_be_built

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
DOCUMENTS = [
    path
    for path in sorted(ROOT.rglob("*"))
    if path.suffix in {".md", ".py", ".h", ".c", ".sh", ".toml", ".in"}
    and not {"build", "dist"} & set(path.relative_to(ROOT).parts)
    and not any(part.startswith(".") or part.endswith(".egg-info") for part in path.relative_to(ROOT).parts)
    and not in_a_virtual_environment(path, ROOT)
]
FOLDERS = r"(?:reptile_np|csrc|tests|benchmarks|examples|\.ci|\.github)"
MADE_LATER = {"reptile_np/nn/native/_kernels", "reptile_np/nn/native/_kernels.c"}  # by a build
MADE_LATER |= {f"benchmarks/results/{name}.json" for name in ("my-machine", "NAME")}  # by benchmarks/run.py


def tracked():
    """The files that git tracks, as paths from the root."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone, or no git here")
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {path for path in listing.stdout.splitlines() if (ROOT / path).exists()}


@pytest.fixture
def clone(tmp_path):
    """A copy of the tracked files in which archives can be built."""
    skip_unless_the_package_can_be_built()
    for path in tracked():
        target = tmp_path / "clone" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)
    return tmp_path / "clone"


def build(what, clone, compiler):
    """Build an "sdist" or a "wheel" as pip does; return its path and its names."""
    done = subprocess.run(
        [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_{what}('dist')"],
        cwd=clone,
        env={**os.environ, "CC": str(compiler), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = (clone / "dist").iterdir()
    if what == "wheel":
        return archive, zipfile.ZipFile(archive).namelist()
    with tarfile.open(archive) as tar:
        return archive, [member.name.partition("/")[2] for member in tar if member.isfile()]


def metadata(wheel):
    """Return the text of a wheel's file WHEEL."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/WHEEL"))).decode()


NO_COMPILER = "/bin/false"


@pytest.fixture
def compiler(tmp_path):
    """A compiler that writes empty files: the wheel's tag must not depend on how long compiling takes."""
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n')
    script.chmod(0o755)
    return script


posix = pytest.mark.skipif(os.name == "nt", reason="on Windows no extension is built")


def test_the_source_archive_holds_every_tracked_file_but_checkpoints_of_records(clone):
    _, names = build("sdist", clone, NO_COMPILER)
    wanted = {path for path in tracked() if not (path.startswith("benchmarks/") and path.endswith(".npz"))}
    assert wanted - set(names) == set()
    generated = ("reptile_np.egg-info/", "PKG-INFO", "setup.cfg")
    assert [name for name in set(names) - wanted if not name.startswith(generated)] == []


def test_a_wheel_built_without_a_compiler_is_pure_and_holds_the_whole_package(clone):
    wheel, names = build("wheel", clone, NO_COMPILER)
    assert wheel.name == f"reptile_np-{reptile_np.__version__}-py3-none-any.whl"
    assert "Root-Is-Purelib: true" in metadata(wheel)
    package = {name for name in names if ".dist-info/" not in name}
    assert package == {path for path in tracked() if path.startswith("reptile_np/")}


@posix
def test_a_wheel_with_the_extension_is_tagged_native_for_every_later_python(clone, compiler):
    wheel, names = build("wheel", clone, compiler)
    assert len([name for name in names if name.startswith("reptile_np/nn/native/_kernels.")]) == 1
    assert "Root-Is-Purelib: false" in metadata(wheel)
    assert not wheel.name.endswith("-any.whl")
    if sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert "-cp311-abi3-" in wheel.name


@posix
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core compiles one source at a time")
def test_sources_are_compiled_at_the_same_time(clone, tmp_path):
    """The compiler of the first source waits until that of another one has begun."""
    script = tmp_path / "compiler"
    script.write_text(
        "#!/bin/sh\n"
        f"mkdir {tmp_path}/first 2> /dev/null || : > {tmp_path}/second\n"
        f"for i in $(seq 600); do [ -e {tmp_path}/second ] && break; sleep 0.1; done\n"
        f"[ -e {tmp_path}/second ] || exit 1\n"
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n'
    )
    script.chmod(0o755)
    _, names = build("wheel", clone, script)
    assert len([name for name in names if name.startswith("reptile_np/nn/native/_kernels.")]) == 1


@posix
def test_an_extension_of_earlier_sources_is_not_shipped_when_the_present_ones_do_not_compile(clone, compiler):
    native, _ = build("wheel", clone, compiler)
    native.unlink()
    os.utime(clone / "csrc/interface.h", (2**31, 2**31))  # newer than what was built
    wheel, names = build("wheel", clone, NO_COMPILER)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert [name for name in names if "_kernels" in name] == []


@posix
def test_a_build_in_place_that_fails_leaves_no_extension_of_earlier_sources(clone, compiler):
    def build_in_place(cc):
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(command, cwd=clone, env={**os.environ, "CC": str(cc)}, capture_output=True, check=True)
        return list((clone / "reptile_np/nn/native").glob("_kernels.*"))

    assert len(build_in_place(compiler)) == 1
    os.utime(clone / "csrc/interface.h", (2**31, 2**31))
    assert build_in_place(NO_COMPILER) == []


@pytest.mark.parametrize(("platform", "modules"), [("linux", 1), ("darwin", 1), ("win32", 0)])
def test_every_platform_but_windows_builds_the_kernels(platform, modules):
    skip_unless_the_package_can_be_built()
    program = (
        "import runpy, sys, setuptools\n"
        "from setuptools.command import bdist_wheel, build_ext\n"
        "setuptools.setup = lambda **arguments: print(len(arguments['cffi_modules']))\n"
        f"sys.platform = {platform!r}\n"
        "runpy.run_path('setup.py')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"{modules}\n", done.stderr


def build_options(platform, **environment):
    pytest.importorskip("cffi")
    return runpy.run_path(str(ROOT / "csrc/build_ffi.py"))["options"](platform, environment)


def test_libraries_are_linked_only_on_platforms_that_have_them():
    linux, apple = build_options("linux"), build_options("darwin")
    assert (linux["libraries"], linux["extra_link_args"]) == (["m"], ["-pthread"])
    assert (apple["libraries"], apple["extra_link_args"]) == ([], [])


@pytest.mark.parametrize(
    ("cflags", "without"), [("", True), ("-Werror", True), ("-g", False), ("-O1 -g3 -Werror", False)]
)
def test_debug_information_is_left_out_unless_cflags_asks_for_it(cflags, without):
    assert ("-g0" in build_options("linux", CFLAGS=cflags)["extra_compile_args"]) == without


def test_the_version_is_written_in_the_package_and_every_document_agrees():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "reptile_np.__version__"}
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert citation.group(1) == latest.group(1) == reptile_np.__version__


def test_all_is_the_union_of_the_users_extras_and_strategies_need_no_linter():
    users = set(EXTRAS) - {"all", "test", "dev"}
    (everything,) = EXTRAS["all"]
    assert set(re.search(r"\[(.+)\]", everything).group(1).split(",")) == users
    assert {re.split(r"[<>=]", requirement)[0] for requirement in EXTRAS["test"]} == {"pytest", "hypothesis"}


@pytest.mark.parametrize("file", sorted((ROOT / "reptile_np").rglob("*.py")), ids=lambda file: file.name)
def test_no_message_tells_to_install_this_package_from_an_index(file):
    """No index has it: a message names the library that is missing."""
    assert not re.search(r"reptile_np\[\w", file.read_text(encoding="utf-8"))


def test_the_public_packages_are_those_on_disk_and_are_imported_at_first_use():
    on_disk = {path.parent.name for path in (ROOT / "reptile_np").glob("*/__init__.py")} - {"cli"}
    assert on_disk <= set(reptile_np.__all__)
    program = (
        "import sys, reptile_np\n"
        "assert 'numpy' not in sys.modules\n"
        "for name in reptile_np.__all__: getattr(reptile_np, name)\n"
        "assert set(reptile_np.__all__) <= set(dir(reptile_np))\n"
        "assert len(dir(reptile_np)) == len(set(dir(reptile_np)))\n"
        "try: reptile_np.absent\n"
        "except AttributeError as error: assert 'absent' in str(error)\n"
        "else: raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def missing_paths(text, document):
    """Return the paths that a document names and that do not exist."""
    named = {path.rstrip("/.") for path in re.findall(rf"(?<![\w/.-])({FOLDERS}/[\w./-]*[\w/])", text)}
    absent = {path for path in named - MADE_LATER if not (ROOT / path).exists()}
    if document.suffix == ".md":  # also names without their folder, like `layers.py`
        names = {path.name for path in DOCUMENTS}
        code = re.findall(r"`([\w./-]+\.(?:py|h|c|sh|toml))`", text)
        absent |= {path for path in code if Path(path).name not in names}
    return absent


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document):
    assert missing_paths(document.read_text(), document) == set()


def test_a_path_that_does_not_exist_would_be_found():
    absent = "absent"  # inserted below, or this file would name paths that do not exist
    text = f"see `csrc/{absent}.h`, reptile_np/nn/layers.py, tests/{absent}/, `{absent}.py` and `layers.py`"
    assert missing_paths(text, Path("README.md")) == {f"csrc/{absent}.h", f"tests/{absent}", f"{absent}.py"}
