#!/usr/bin/env bash
# Run the native tests under AddressSanitizer + UndefinedBehaviorSanitizer, then a short run under valgrind.
#
#   csrc/tools/check_memory.sh [PYTHON]      PYTHON: an interpreter with the test requirements (default: python3)
#
# Works on a copy in a temporary folder, so the installed extension stays as it is.  CC chooses the compiler.
set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$root"/{csrc,reptile_np,tests,setup.py,pyproject.toml,README.md,LICENSE} "$copy"
cd "$copy"
rm -f reptile_np/nn/native/_kernels*

build() { # FLAGS: compile the extension in place, warnings are errors
    CFLAGS="-g -Werror $1" LDFLAGS="$1" "$python" setup.py -q build_ext --inplace --force
}

build "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
# numpy and the interpreter leak by design; detect_leaks would report them, not us
LD_PRELOAD="$(${CC:-cc} -print-file-name=libasan.so) $(${CC:-cc} -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
    PYTHONMALLOC=malloc "$python" -m pytest -q -p no:cacheprovider tests/nn/native/test_maps.py tests/nn/native/test_argument_checks.py \
    tests/nn/native/test_winograd.py tests/nn/native/test_networks.py

rm -rf build reptile_np/nn/native/_kernels*
build ""
PYTHONPATH=. PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=9 --errors-for-leak-kinds=none --suppressions=csrc/tools/valgrind.supp \
    "$python" csrc/tools/memory_driver.py
echo "memory checks: clean"
