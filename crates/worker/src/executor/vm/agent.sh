# The agent inside of a virtual machine: runs scripts that the worker sends, one at a time.
# It needs a POSIX shell, dd, cat and tar, as BusyBox or coreutils bring them. MARK, WORK, OUTPUT and
# HOME_DIR are set before this text.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022

# The character devices of our ports (no udev is needed) and our block devices. By the shell alone: emulated, every
# program that is started takes its time.
for p in /sys/class/virtio-ports/*; do
  name=
  [ ! -r "$p/name" ] || read -r name <"$p/name"
  case $name in
    taskbot.control) control=/dev/${p##*/} ;;
    taskbot.output) output=/dev/${p##*/} ;;
  esac
done
for d in /sys/block/*; do
  name=
  # A serial number has no end of line, so that reading it ends with an error.
  [ ! -r "$d/serial" ] || read -r name <"$d/serial" || :
  case $name in
    taskbot-in) IN=/dev/${d##*/} ;;
    taskbot-out) OUT=/dev/${d##*/} ;;
  esac
done
[ -c "$control" ] && [ -c "$output" ] && [ -b "$IN" ] || exit 1
# Fails while another agent has them.
exec 3<"$control" 4>"$output" || exit 1
RUN=/run/taskbot-agent
SECRETS=/run/taskbot-secrets
mkdir -p -m 700 "$RUN"
export IN OUT RUN
GROUP=/sys/fs/cgroup/taskbot
mkdir "$GROUP" 2>/dev/null && [ -e "$GROUP/cgroup.procs" ] || GROUP=

# Everything that the script started: whatever has its mark in its environment or is in its group.
marked() {
  { grep -l -s "TASKBOT_MARK=$MARK" /proc/[0-9]*/environ
    [ -z "$GROUP" ] || sed 's,.*,/proc/&/environ,' "$GROUP/cgroup.procs"
  } 2>/dev/null
}

end_all() {
  rounds=0
  while [ "$rounds" -lt 100 ]; do
    found=$(marked)
    [ -n "$found" ] || return 0
    for p in $found; do
      p=${p#/proc/}
      kill -KILL "${p%%/*}" 2>/dev/null
    done
    rounds=$((rounds + 1))
  done
}

ooms() { sed -n 's/^oom_kill //p' /proc/vmstat; }

# Arguments: number of the script, where it is on the disk in KiB, its bytes.
run() {
  # A script before it may have removed everything: the shell's own commands are left.
  [ -d "$RUN" ] || { printf '\036%s end %s 127 0\n' "$MARK" "$1" >&4; return; }
  before=$(ooms)
  echo 1 2>/dev/null >/proc/sys/vm/drop_caches
  # It ends in blank lines, so that it fills its blocks.
  dd if="$IN" bs=1024 skip="$2" count=$(($3 / 1024)) 2>/dev/null >"$RUN/script"
  (
    {
      set -- /proc/[0-9]*
      there=$*
      (
        # `$$` would be the agent.
        [ -z "$GROUP" ] || { read -r own rest </proc/self/stat && echo "$own" >"$GROUP/cgroup.procs"; }
        TASKBOT_MARK=$MARK exec sh "$RUN/script" </dev/null 2>&1 4>&- 5>&- 6<&-
      )
      echo $? >&5
      set -- /proc/[0-9]*
      # Where there are the same processes as before, there is none to be ended.
      [ "$*" = "$there" ] || end_all
    } 2>/dev/null | cat >&4
    code=
    read -r code <&6
    after=$before
    [ "$code" = 0 ] || after=$(ooms)
    printf '\036%s end %s %s %s\n' "$MARK" "$1" "${code:-255}" "$((${after:-0} - ${before:-0}))" >&4
  ) 3<&- 5>"$RUN/code" 6<"$RUN/code" &
}

# Unpacks what is moved in. Arguments: its number, where it is on the disk in MiB, its bytes.
take() {
  mkdir -p "$WORK/$OUTPUT" "$HOME_DIR" &&
    (cd "$WORK" && dd if="$IN" bs=1048576 skip="$2" count=$((($3 + 1048575) / 1048576)) 2>/dev/null | tar -x -f - >&4 2>&1)
  printf '\036%s end %s %s 0\n' "$MARK" "$1" $? >&4
}

printf '\036%s ready 0 0 0\n' "$MARK" >&4
while read -r word number start bytes <&3; do
  case $word in
    run) run "$number" "$start" "$bytes" ;;
    take) take "$number" "$start" "$bytes" ;;
    end) end_all ;;
    # A file system in memory, also where /run is on a disk.
    keep)
      mkdir -p "$SECRETS"
      grep -q " $SECRETS tmpfs " /proc/mounts || mount -t tmpfs -o mode=0700,size=4m taskbot-secrets "$SECRETS"
      ;;
    # Never onto a disk: without that file system there are none.
    secret)
      grep -q " $SECRETS tmpfs " /proc/mounts && (umask 077; printf "$start" >"$SECRETS/$number")
      ;;
  esac
done
