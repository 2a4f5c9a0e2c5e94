# bin/serve and bin/test source this file. It changes to the top of the tree, installs the packages of
# $lock into .venv with Python 3.11 or newer (with venv and pip), and sets $venv_python. For --help it
# prints the docstring of $module instead, and installs nothing.
# shellcheck shell=sh disable=SC2154

cd "$(dirname -- "$0")/.." || exit 1

# The caller's settings of Python must not change ours.
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONSTARTUP

wants_help=
for argument in "$@"; do
    case $argument in -h | --help) wants_help=yes ;; esac
done

find_python() {
    too_old=
    without_venv=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        found=$("$candidate" -c '
import sys
print(sys.executable if sys.version_info >= (3, 11) else "old " + sys.version.split()[0])
' 2>/dev/null) || continue
        case $found in
            '') continue ;;
            'old '*)
                too_old="$candidate is ${found#old }"
                continue
                ;;
        esac
        if [ -n "$wants_help" ] || "$found" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$found"
            return 0
        fi
        without_venv=$candidate
    done
    if [ -n "$without_venv" ]; then
        echo "$0: $without_venv has no venv or no pip." \
            "On Debian and Ubuntu: apt install python3-venv" >&2
    elif [ -n "$too_old" ]; then
        echo "$0: needs Python 3.11 or newer; $too_old." >&2
    else
        echo "$0: needs Python 3.11 or newer with venv and pip; no python3 was found." >&2
    fi
    return 1
}

python=$(find_python) || exit 1
if [ -n "$wants_help" ]; then
    exec "$python" -c '
import ast, sys
print(ast.get_docstring(ast.parse(open(sys.argv[1], encoding="utf-8").read())))
' "bin/$module.py"
fi
"$python" -m bin.install "$lock" || exit 1
# shellcheck disable=SC2034 # read by the scripts that source this file
venv_python=$PWD/.venv/bin/python
