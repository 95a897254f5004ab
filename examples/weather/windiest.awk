#!/usr/bin/awk -f
# The highest hourly wind speed of a day: DATE,MPH
BEGIN { FS = "," }
FNR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
$column["wind_speed"] == "NA" { next }
!seen++ || $column["wind_speed"] + 0 > peak { peak = $column["wind_speed"] + 0 }
{ date = sprintf("%04d-%02d-%02d", $column["year"], $column["month"], $column["day"]) }
END { if (seen) printf "%s,%.2f\n", date, peak }
