#!/bin/sh
# Two sensors of a weather station: every reading of a day, as a message of its own.  sensors.sh MQTT-PORT
set -eu
cd "$(dirname "$0")"

publish() { # the sensor, its column
    awk -F, -v sensor="$1" -v column="$2" 'FNR > 1 && $column != "NA" {
        printf "{\"sensor\": \"%s\", \"time\": \"%s\", \"value\": %s}\n", sensor, $15, $column
    }' readings/*.csv | mosquitto_pub -p "$port" -q 1 -t "jfk/$1" -l
}

port=$1
publish temp 6
publish wind 10
