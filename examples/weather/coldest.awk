#!/usr/bin/awk -f
# The lowest temperature of a day: DATE,FAHRENHEIT
BEGIN { FS = "," }
FNR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
$column["temp"] == "NA" { next }
!seen++ || $column["temp"] + 0 < low { low = $column["temp"] + 0 }
{ date = sprintf("%04d-%02d-%02d", $column["year"], $column["month"], $column["day"]) }
END { if (seen) printf "%s,%.2f\n", date, low }
