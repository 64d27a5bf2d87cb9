"""Carry questions with bash alone: its /dev/udp and /dev/tcp, plus dd and od for the datagrams.

Arguments of SCRIPT: how many tries may be in flight, the microseconds between two of them, then one row per question
(see `probes.carry`). One subshell per try, so that a try waits for nothing but its own answer; they start at least
2.5 ms apart, or they would mostly wait for the CPU. A round trip is read to 0.1 ms or 5 %, whichever is more, and
holds the time in which the node schedules a process: 1 ms or so, more on a loaded node. bash 4.2 or newer.

- bash writes its stdout line by line (shell.c, sh_setlinebuf): a message with 0x0a, such as any name with a
  label of ten letters, would leave as two datagrams. dd with `obs` puts it together.
- `read -t 0` says that a datagram or an error is there without taking it (select); a datagram must be taken
  whole (dd), since what a byte by byte `read` leaves is lost. On TCP, `read -n 1` is exact and needs no
  process; `-d ""` makes it tell a zero byte.
- A pipe opened for reading and writing is never at its end: waiting on it is a pause without a process.
- A connect has no time limit of its own: what is still at it after the deadline is killed.
- No here-string anywhere: before bash 5.1 it is a temporary file.
"""

from __future__ import annotations

SCRIPT = r"""
set -f
trap "" PIPE
in_flight=$1 apart=$2
shift 2
exec {never}<> <(:)
if [[ -n ${EPOCHREALTIME-} ]]; then
  now() { t=${EPOCHREALTIME/[.,]/}; }
else
  now() { t=$(date +%s%N); t=${t%???}; }
fi
seconds() { printf -v s "%d.%06d" $(($1 / 1000000)) $(($1 % 1000000)); }
pause() { seconds "$1"; read -r -t "$s" -u "$never" _; }
tell() { printf "@dns try %s %d %s\n" "$label" $((t - start)) "$*"; }
data() { while [[ -n $1 ]]; do printf "@dns data %s %s\n" "$label" "${1:0:1000}"; set -- "${1:1000}"; done; }
failed() {
  local line text=
  while read -r -t 0.01 -u "$errors" line; do text+=" $line;"; done
  now
  tell "$1$text"
}
send() {
  if [[ $message == *\\x0a* ]]; then printf "$message" | dd obs=65535 >&3; else printf "$message" >&3; fi
}
datagram() {
  local hex step
  until read -r -t 0 -u 3; do
    now
    ((t < end)) || { tell timeout; return; }
    step=$(((t - start) / 20))
    ((step > 100)) || step=100
    ((step < end - t)) || step=$((end - t))
    pause "$step"
  done
  now
  if hex=$(timeout 1 dd bs=65535 count=1 <&3 | od -An -v -tx1; exit "${PIPESTATUS[0]}"); then
    tell answer
    data "${hex//[[:space:]]/}"
  else
    failed error
  fi
}
stream() {
  local byte code x count=0 want=2 hex= s=1
  while ((count < want)); do
    if ! read -r -t 0 -u 3; then
      now
      ((t < end)) || { tell "timeout connected, $count bytes"; return; }
      seconds $((end - t))
    fi
    IFS= read -r -d "" -n 1 -t "$s" -u 3 byte
    code=$?
    ((code <= 128)) || continue
    ((code == 0)) || { failed closed; return; }
    printf -v x %d "'$byte"
    printf -v x %02x $((x & 255))
    hex+=$x
    ((++count != 2)) || want=$((2 + 16#$hex))
    ((want < 4096)) || want=4096
  done
  now
  tell answer
  data "${hex:4}"
}
attempt() {
  exec {errors}<> <(:) 2>&"$errors"
  now
  start=$t end=$((t + deadline))
  exec 3<>"/dev/$protocol/$address/$port" || { failed error; return; }
  send || { failed error; return; }
  if [[ $protocol == udp ]]; then datagram; else stream; fi
}
ends=() labels=()
sweep() {
  local pid
  now
  for pid in "${!ends[@]}"; do
    if ! kill -0 "$pid"; then
      unset "ends[pid]"
    elif ((t > ends[pid])); then
      kill -KILL "$pid" && { label=${labels[pid]} start=$((t - deadline)); tell timeout no connection; }
      unset "ends[pid]"
    fi
  done 2>/dev/null
}
escaped=() rounds=0
for row; do
  row=($row) rest= hex=${row[7]} head=
  while [[ -n $hex ]]; do rest+=\\x${hex:0:2} hex=${hex:2}; done
  size=$((${#row[7]} / 2 + 2))
  [[ ${row[1]} == udp ]] || printf -v head "\\\\x%02x" $((size / 256)) $((size % 256))
  escaped+=("$head $rest")
  ((rounds >= row[4])) || rounds=${row[4]}
done
spacing=$((10000 / $#))
((spacing > 2500)) || spacing=2500
((spacing > apart)) || spacing=$apart
for ((try = 0; try < rounds; try++)); do
  for ((i = 1; i <= $#; i++)); do
    row=(${!i}) parts=${escaped[i - 1]}
    probe=${row[0]} protocol=${row[1]} address=${row[2]} port=${row[3]} deadline=${row[5]}
    ((try < row[4])) || continue
    sweep
    while ((${#ends[@]} >= in_flight)); do pause 2000; sweep; done
    label="$probe $try" number=$((row[6] + try))
    printf -v id "\\\\x%02x" $((64 + number / 200)) $((32 + number % 200))
    message=${parts% *}$id${parts#* }
    now
    attempt &
    ends[$!]=$((t + deadline + 300000)) labels[$!]=$label
    disown "$!"
    pause "$spacing"
  done
done
while ((${#ends[@]})); do
  sweep
  ((${#ends[@]} == 0)) || pause 2000
done
"""
