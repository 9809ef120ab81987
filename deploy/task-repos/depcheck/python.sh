#!/bin/sh
# python.sh MODULE SCRIPT [ARGUMENT…]: runs a script with a Python that has the module. Bindings of RPM and libsolv
# belong to the distribution's own Python, which need not be the first one in PATH.
set -eu
module=$1
shift
for python in python3 /usr/bin/python3; do
    if "$python" -c "import $module" 2>/dev/null; then
        exec "$python" -B "$@"
    fi
done
echo "python.sh: no python3 here has the module \`$module\`" >&2
exit 2
