# shellcheck shell=bash disable=SC2034  # some variables are for those who source this
# What the commands of this directory share: messages, the lock, ports, processes, probes.
# Sourced, never run. A command sets SERVICE (rabbitmq or dynamodb) before it calls anything
# that takes a lock, starts a process or waits for one.

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
STATE_DIR=$(realpath -ms -- "${STREAMBOX_STATE_DIR:-$HERE/.state}")

# Every wait ends. A lock is held for as long as somebody else builds or installs.
readonly LOCK_WAIT_S=1800
readonly PROBE_TIMEOUT_S=5
readonly GIVEN_SERVICE_WAIT_S=5
readonly DOCKER_ANSWER_TIMEOUT_S=20
readonly IMAGE_PULL_TIMEOUT_S=900
readonly COMPOSE_TIMEOUT_S=180
readonly KILL_WAIT_S=15
readonly POLL_INTERVAL_S=0.1

# Below the range that Linux hands out to outgoing connections, so that none of those takes a
# port between our choosing it and our listening on it.
readonly PORT_MIN=21000 PORT_MAX=31999

# More open files than this make the Erlang VM reserve gigabytes for its tables.
readonly MAX_OPEN_FILES=65536

say() { printf 'localstack: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# retry SECONDS COMMAND...: until COMMAND succeeds, 1 when time is up
retry() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep "$POLL_INTERVAL_S"
  done
}

# --- state ------------------------------------------------------------------------------------

service_dir() { printf '%s/%s' "$STATE_DIR" "$SERVICE"; }

recorded() { [[ ! -e "$(service_dir)/$1" ]] || cat -- "$(service_dir)/$1"; }

record() { printf '%s\n' "$2" >"$(service_dir)/$1"; }

# record_port VARIABLE: the port that the user wants, or a free one
record_port() {
  local port=${!1:-}
  if [[ -z "$port" ]]; then
    port=$(free_ports 1)
  else
    [[ "$port" =~ ^[1-9][0-9]{0,4}$ ]] || die "$1 is '$port'; it has to be a port, or empty for a free one."
    require_free_port "$port" "$1 names another one, or a free one if it is empty"
  fi
  record port "$port"
}

# One command at a time works on a service of a state directory. The lock is on the directory
# itself, on descriptor 9: nothing is left behind, and whoever waited while `remove` deleted the
# directory notices that the path is another one by now.
lock_service() {
  local dir
  dir=$(service_dir)
  while true; do
    mkdir -p -- "$dir" || die "cannot create $dir; STREAMBOX_STATE_DIR can name another directory."
    { exec 9<"$dir"; } 2>/dev/null || continue
    flock -w "$LOCK_WAIT_S" 9 || die "another command has been at work in $dir for $LOCK_WAIT_S seconds; gave up."
    [[ ! "$dir" -ef "/proc/$$/fd/9" ]] || return 0
  done
}

remove_state() {
  rm -rf --one-file-system -- "$(service_dir)"
  # The other service may be in there, or just leaving.
  rmdir -- "$STATE_DIR" 2>/dev/null || true
}

# --- processes --------------------------------------------------------------------------------

# A process belongs to a service if this variable is in its environment. It is inherited by
# whatever the process starts (RabbitMQ starts epmd), and unlike a process id on file it never
# comes to mean somebody else's process.
marker() { printf 'STREAMBOX_SERVICE=%s' "$(service_dir)"; }

members() {
  local file
  # A process may end while it is looked at, and other users' are not ours to read.
  { grep -lzxsF -e "$(marker)" /proc/[0-9]*/environ || true; } | while IFS=/ read -r _ _ file _; do
    printf '%s\n' "$file"
  done
}

# Asked twice: for a moment, a process that starts another program has no environment to show.
no_members() { [[ -z "$(members)" ]] && sleep "$POLL_INTERVAL_S" && [[ -z "$(members)" ]]; }

# start_process LOG COMMAND...: in a session of its own, out of reach of the terminal's Ctrl-C.
# The lock is given up only after the marker is in place: there is no moment at which the
# process exists, unlocked and unmarked. Other descriptors are closed because a caller who
# reads our output to its end would wait for the process to close them.
start_process() {
  local log=$1
  shift
  # shellcheck disable=SC2016  # expanded by the inner shell
  env "$(marker)" setsid -- bash -c '
    open_files=$(ulimit -n)
    if [[ $open_files == unlimited ]] || ((open_files > $1)); then ulimit -n "$1"; fi
    shift
    for fd in /proc/$$/fd/*; do
      fd=${fd##*/}
      if ((fd > 2)); then eval "exec $fd>&-"; fi
    done
    exec "$@"' start_process "$MAX_OPEN_FILES" "$@" </dev/null >"${PROCESS_STDOUT:-$log}" 2>>"$log" &
  # Until it bears the marker, it looks as if it had ended.
  retry "$KILL_WAIT_S" marked_or_gone "$!" || true
}

marked_or_gone() { grep -qzxsF -e "$(marker)" "/proc/$1/environ" || ! kill -0 "$1" 2>/dev/null; }

kill_members() {
  local pid
  for pid in $(members); do
    kill -KILL "$pid" 2>/dev/null || true
  done
  no_members
}

# Repeated, because a process may have started another one meanwhile.
end_members() { retry "$KILL_WAIT_S" kill_members || die "processes $(members | tr '\n' ' ')do not end."; }

show_log() {
  [[ -s "$1" ]] || return 0
  say "the end of $1:"
  tail -n 15 -- "$1" >&2
}

# --- ports ------------------------------------------------------------------------------------

# The kernel's rows of the sockets that listen on port $1.
listening_rows() {
  local port
  printf -v port '%04X' "$1"
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    grep -E "^ *[0-9]+: [0-9A-F]+:$port [0-9A-F]+:[0-9A-F]+ 0A " || true
}

# free_ports COUNT
free_ports() {
  local count=$1 port
  for port in $(shuf -i "$PORT_MIN-$PORT_MAX" -n 100); do
    ((count > 0)) || return 0
    [[ -z "$(listening_rows "$port")" ]] || continue
    printf '%s\n' "$port"
    count=$((count - 1))
  done
  ((count == 0)) || die "no free port between $PORT_MIN and $PORT_MAX."
}

# require_free_port PORT WHAT_HELPS
require_free_port() {
  [[ -z "$(listening_rows "$1")" ]] || die "port $1, where $SERVICE is to listen, is taken by another program: $2."
}

# Whether one of the service's own processes listens on port $1: somebody else's may have been
# faster, and would answer as well.
members_listen() {
  local inode pid links
  inode=$(listening_rows "$1" | while read -r _ _ _ _ _ _ _ _ _ inode _; do printf '%s' "$inode"; break; done)
  [[ -n "$inode" ]] || return 1
  for pid in $(members); do
    links=$(readlink "/proc/$pid/fd/"* 2>/dev/null || true)
    [[ "$links" != *"socket:[$inode]"* ]] || return 0
  done
  return 1
}

# --- probes -----------------------------------------------------------------------------------

# parse_url URL DEFAULT_PORT: sets URL_HOST, URL_PORT, URL_PATH
parse_url() {
  [[ "$1" =~ ^([a-z]+)://([^/?#]*@)?(\[[^]]+\]|[^:/?#]+)(:([0-9]+))?([/?#].*)?$ ]] || return 1
  URL_HOST=${BASH_REMATCH[3]#[}
  URL_HOST=${URL_HOST%]}
  URL_PORT=${BASH_REMATCH[5]:-$2}
  URL_PATH=${BASH_REMATCH[6]:-/}
}

# shellcheck disable=SC2016  # expanded by the inner shell, here and below
port_answers() {
  timeout "$PROBE_TIMEOUT_S" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
}

# An open port proves nothing: Docker's proxy accepts connections before the broker listens. So
# we introduce ourselves (AMQP 0-9-1) and want Connection.Start back: a method frame (1) on
# channel 0 that holds class 10, method 10.
# shellcheck disable=SC2016
amqp_answers() {
  local frame
  frame=$(timeout "$PROBE_TIMEOUT_S" bash -c '
    exec 3<>"/dev/tcp/$0/$1" && printf "AMQP\0\0\11\1" >&3 && head -c 11 <&3 | od -An -v -tx1
    ' "$1" "$2" 2>/dev/null) || return 1
  [[ "${frame//[[:space:]]/}" =~ ^010000.{8}000a000a$ ]]
}

# dynamodb_status HOST PORT PATH: the first line of the answer to ListTables. The signature is
# none: emulators only look at its shape, and AWS refuses it, which is an answer, too.
# shellcheck disable=SC2016
dynamodb_status() {
  local request
  request="POST $3 HTTP/1.1\r\nHost: $1:$2\r\nConnection: close\r\nContent-Length: 2\r\n"
  request+="Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: DynamoDB_20120810.ListTables\r\n"
  request+="X-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 "
  request+="Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{}"
  timeout "$PROBE_TIMEOUT_S" bash -c '
    exec 3<>"/dev/tcp/$0/$1" && printf "$2" >&3 && head -n 1 <&3
    ' "$1" "$2" "$request" 2>/dev/null
}

dynamodb_answers() { [[ "$(dynamodb_status "$1" "$2" "${3:-/}")" == "HTTP/1.1 200"* ]]; }

# --- Docker -----------------------------------------------------------------------------------

# engine_answers: 0 if a Docker engine does; otherwise 1 and the reason in DOCKER_PROBLEM.
engine_answers() {
  local answer
  DOCKER_PROBLEM="there is no docker command"
  have docker || return 1
  answer=$(timeout "$DOCKER_ANSWER_TIMEOUT_S" docker version --format '{{.Server.Version}}' 2>&1) && return 0
  DOCKER_PROBLEM="no Docker engine answers"
  [[ "$answer" != *"permission denied"* ]] ||
    DOCKER_PROBLEM="this user may not use the Docker engine (join the group \`docker\` and log in again)"
  return 1
}

# docker_usable: 0 if an engine answers and compose is there; otherwise 1 and the reason in
# DOCKER_PROBLEM. Sets COMPOSE.
docker_usable() {
  engine_answers || return 1
  DOCKER_PROBLEM="a Docker engine answers, but neither \`docker compose\` nor \`docker-compose\` is there"
  find_compose
}

find_compose() {
  if docker compose version >/dev/null 2>&1; then
    COMPOSE=(docker compose)
  elif have docker-compose; then
    COMPOSE=(docker-compose)
  else
    return 1
  fi
}

# A compose project per service and state directory: stacks do not meet, and `down -v` of one
# takes only its own containers, volumes and network.
compose_project() {
  local sum
  sum=$(service_dir | sha256sum)
  printf 'streambox-%s-%s' "$SERVICE" "${sum:0:12}"
}

# compose ARG...: the published port is the recorded one, so that it outlives a restart.
compose() {
  local port
  port=$(recorded port)
  STREAMBOX_RABBITMQ_PORT=$port STREAMBOX_LOCALSTACK_PORT=$port timeout -k 10 "$COMPOSE_TIMEOUT_S" \
    "${COMPOSE[@]}" -p "$(compose_project)" -f "$HERE/compose.yaml" "$@" </dev/null >&2
}

# compose_image VARIABLE: its value or the compose file's default
compose_image() {
  local line
  line=$(grep -m 1 -F "\${$1:-" "$HERE/compose.yaml")
  line=${line#*:-}
  printf '%s' "${!1:-${line%\}*}}"
}

image_present() {
  docker image inspect "$1" >/dev/null 2>&1 && return 0
  say "fetching the image $1"
  timeout -k 10 "$IMAGE_PULL_TIMEOUT_S" docker pull --quiet "$1" </dev/null >&2 && return 0
  DOCKER_PROBLEM="a Docker engine answers, but the image $1 cannot be fetched"
  return 1
}

# For a service that was started with Docker: there is no doing anything with it without.
require_docker() {
  docker_usable || die "the $SERVICE container of $STATE_DIR was started with Docker, and now $DOCKER_PROBLEM."
}
