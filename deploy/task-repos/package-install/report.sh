#!/bin/sh
# What the stages said: 0 when all is well, 1 when something is not.
cat "$TASKBOT_OUTPUT/results.tap" || exit 3
! grep -q '^not ok' "$TASKBOT_OUTPUT/results.tap"
