#!/bin/sh
# The whole of it on this machine: a broker, two sensors, the bridge, the circuit. Ends when all is worked off.
set -eu
cd "$(dirname "$0")"
mqtt=${MQTT_PORT:-1884} port=${PORT:-8099} broker= circuit=

trap 'kill $broker $circuit 2>/dev/null || true; wait' EXIT INT TERM
mosquitto -p "$mqtt" >/dev/null 2>&1 & broker=$!
koalja-fn run . --port "$port" -q & circuit=$!

bridge() { python3 bridge.py --mqtt "127.0.0.1:$mqtt" --topic 'jfk/#' --to "http://127.0.0.1:$port/iot/message" "$@"; }
bridge --count 0        # from here on the broker keeps messages for the bridge
sh sensors.sh "$mqtt"
bridge --count 48

kill "$circuit" && wait "$circuit"
koalja-fn run --once .
