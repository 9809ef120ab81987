#!/bin/sh
# Whether a log that speaks TAP says that all is well: every test of the plan ran, and none failed that counts.
log=$1
planned=$(sed -n 's/^1\.\.\([0-9][0-9]*\).*/\1/p' "$log" | head -n 1)
ran=$(grep -Ec '^(not )?ok([[:space:]]|$)' "$log")
failed=$(grep -E '^not ok([[:space:]]|$)' "$log" | grep -Eicv '# *(todo|skip)')
if grep -q '^Bail out!' "$log"; then
    echo "TAP: bailed out"
    exit 1
fi
echo "TAP: $ran of $planned tests ran, $failed failed"
[ "$ran" = "$planned" ] && [ "$failed" = 0 ]
