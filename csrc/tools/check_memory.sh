#!/usr/bin/env bash
# Run eleven files of the native tests under AddressSanitizer + UndefinedBehaviorSanitizer, one call of every kernel under valgrind, and
# compare_tables.c with three threads under ThreadSanitizer.
#
#   csrc/tools/check_memory.sh [PYTHON]      PYTHON: an interpreter with the test requirements (default: python3)
#
# Needs valgrind, the compiler's libasan, libubsan and libtsan, and setuptools >= 77 for PYTHON.  Works on a copy in a temporary folder:
# the installed extension is not changed.  CC chooses the compiler.
set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
native=tests/nn/native

need() { # WHAT COMMAND...: one line and exit 2 if COMMAND fails
    "${@:2}" >/dev/null 2>&1 || { echo "check_memory.sh: needs $1" >&2; exit 2; }
}
library() { "${CC:-cc}" -print-file-name="$1"; } # its path, or the bare name if the compiler has none
need "valgrind" command -v valgrind
need "a C compiler with libasan, libubsan and libtsan" \
    test -f "$(library libasan.so)" -a -f "$(library libubsan.so)" -a -f "$(library libtsan.so)"
need "setuptools >= 77 in $python (pip install 'setuptools>=77')" \
    "$python" -c 'import setuptools; assert int(setuptools.__version__.split(".")[0]) >= 77'
need "cffi, numpy, pytest and hypothesis in $python (pip install '.[test]')" "$python" -c 'import cffi, numpy, pytest, hypothesis'

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$root"/{csrc,reptile_np,tests,setup.py,pyproject.toml,README.md,LICENSE} "$copy"
cd "$copy"
rm -f reptile_np/nn/native/_kernels*

build() { # FLAGS: compile the extension in place, warnings are errors
    CFLAGS="-g -Werror -DRK_PORTABLE16 $1" LDFLAGS="$1" "$python" setup.py -q build_ext --inplace --force
}

build "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
# detect_leaks=0: NumPy and the interpreter do not free everything at exit.  --capture=sys: shows what a sanitizer writes before it ends
# the process
LD_PRELOAD="$(library libasan.so) $(library libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
    PYTHONMALLOC=malloc "$python" -m pytest -q -p no:cacheprovider --capture=sys \
    "$native"/test_{maps,argument_checks,large_sizes,winograd,networks,pools,network_memory,network_threads,inner_loops,maml,plans}.py

rm -rf build reptile_np/nn/native/_kernels*
build ""
PYTHONPATH=. PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=9 --errors-for-leak-kinds=none \
    --suppressions=csrc/tools/valgrind.supp "$python" "$native/call_every_kernel.py"

"${CC:-cc}" -std=c11 -O1 -g -fsanitize=thread -ffp-contract=fast -Wno-psabi -DRK_PORTABLE16 -DTHREADS=3 -DRK_A=portable -DRK_B=portable16 -Icsrc \
    csrc/tools/compare_tables.c csrc/variants/portable.c csrc/variants/portable16.c \
    csrc/core/team.c -lm -pthread -o compare
TSAN_OPTIONS=halt_on_error=1 ./compare
echo "memory checks: clean"
