#!/bin/sh
# The five longest of the given texts: lines, then the two first words of the text.
set -eu
for part in "$@"; do
    printf '%5d  %s\n' "$(wc -l < "$part")" "$(awk 'NR == 1 { heading = $1 " " $2 }
        $1 == "SCENE" { print heading ", " $1 " " $2; found = 1; exit }
        END { if (!found) print heading }' "$part")"
done | sort -k1,1nr -k2 | head -n 5
