# The agent inside of a virtual machine: runs scripts that the worker sends, one at a time.
# It needs a POSIX shell, dd, cat and tar, as BusyBox or coreutils bring them. MARK, WORK, OUTPUT and
# HOME_DIR are set before this text.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022

# The character devices of our ports; no udev is needed. By the shell alone: emulated, every program that is started
# takes its time.
for p in /sys/class/virtio-ports/*; do
  name=
  [ ! -r "$p/name" ] || read -r name <"$p/name"
  case $name in
    taskbot.control) control=/dev/${p##*/} ;;
    taskbot.output) output=/dev/${p##*/} ;;
  esac
  [ -z "$control" ] || [ -z "$output" ] || break
done
[ -c "$control" ] && [ -c "$output" ] || exit 1
# Fails while another agent has them.
exec 3<"$control" 4>"$output" || exit 1
RUN=/run/taskbot-agent
SECRETS=/run/taskbot-secrets
GROUP=/sys/fs/cgroup/taskbot
mkdir -p -m 700 "$RUN" "$GROUP" 2>/dev/null
[ -e "$GROUP/cgroup.procs" ] || GROUP=

# Finds our disks, IN and OUT. Whoever boots a kernel directly has not loaded their driver before the first is needed.
disks() {
  for attempt in 1 2; do
    for d in /sys/block/*; do
      name=
      # A serial number has no end of line, so that reading it ends with an error.
      [ ! -r "$d/serial" ] || read -r name <"$d/serial" || :
      case $name in
        taskbot-in) IN=/dev/${d##*/} ;;
        taskbot-out) OUT=/dev/${d##*/} ;;
      esac
    done
    [ ! -b "$IN" ] || return 0
    command -v taskbot_disks >/dev/null && taskbot_disks
  done
  echo "taskbot: no disks: the kernel lacks virtio_blk"
  return 1
}

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

ended() { printf '\036%s end %s %s %s\n' "$MARK" "$1" "$2" "$3" >&4; }

# Gets a long script from the disk. Arguments: its number, where it is in KiB, its bytes.
fetch() {
  disks >&4 && dd if="$IN" bs=1024 skip="$2" count=$(($3 / 1024)) 2>/dev/null >"$RUN/script"
  first=
  read -r first 2>/dev/null <"$RUN/script"
  # Never something that the machine had read before it was there: that would do nothing, and well.
  [ "$first" = "# $MARK" ]
}

# Runs what is in `text`. Argument: its number.
run() {
  # A script before it may have removed everything: the shell's own commands are left.
  [ -d "$RUN" ] || { ended "$1" 127 0; return; }
  # Nothing was killed for a script that is the first.
  [ -n "$before" ] && before=$(ooms) || before=0
  (
    {
      set -- /proc/[0-9]*
      there=$*
      (
        # Whoever writes 0 means itself; `$$` would be the agent.
        [ -z "$GROUP" ] || echo 0 >"$GROUP/cgroup.procs"
        export TASKBOT_MARK="$MARK"
        exec </dev/null 2>&1 4>&- 5>&- 6<&-
        eval "$text"
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
    ended "$1" "${code:-255}" "$((${after:-0} - ${before:-0}))"
  ) 3<&- 5>"$RUN/code" 6<"$RUN/code" &
}

# Unpacks what is moved in. Arguments: its number, where it is on the disk in MiB, its bytes.
take() {
  disks >&4 && mkdir -p "$WORK/$OUTPUT" "$HOME_DIR" &&
    (cd "$WORK" && dd if="$IN" bs=1048576 skip="$2" count=$((($3 + 1048575) / 1048576)) 2>/dev/null | tar -x -f - >&4 2>&1)
  ended "$1" $? 0
}

printf '\036%s ready 0 0 0\n' "$MARK" >&4
while read -r word number start bytes <&3; do
  case $word in
    # Its lines follow.
    run)
      text=
      while [ "$start" -gt 0 ] && IFS= read -r line <&3; do
        text="$text$line
"
        start=$((start - 1))
      done
      run "$number"
      ;;
    fetch) if fetch "$number" "$start" "$bytes"; then text='. "$RUN/script"' && run "$number"; else ended "$number" 255 0; fi ;;
    take) take "$number" "$start" "$bytes" ;;
    disks) disks >/dev/null 2>&1 ;;
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
