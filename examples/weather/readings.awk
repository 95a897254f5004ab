#!/usr/bin/awk -f
# Split one day of station data into single readings: a folder for each wire, a file for each value.
# The files are numbered, since values go on a wire in the order of their names.
# A sensor that had nothing to say (NA) gives no value: gusts are reported only when the wind gusts.
BEGIN { FS = ","; out = ENVIRON["KOALJA_OUT"] }
FNR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
{ put("temp", "temp"); put("wind", "wind_speed"); put("gust", "wind_gust") }

function put(wire, name,    value, file) {
    value = $column[name]
    if (value == "NA") return
    if (!(wire in count)) system("mkdir -p '" out "/" wire "'")
    file = sprintf("%s/%s/%04d.csv", out, wire, ++count[wire])
    printf "%s,%.2f\n", $column["time_hour"], value > file
    close(file)
}
