#!/bin/sh
# split.sh WORD BOOK FOLDER: one file for each part of BOOK that begins with a line "WORD number".
# What stands before the first part is left out; the files are numbered, so they keep their order.
set -eu
mkdir -p "$3"
awk -v word="$1" -v folder="$3" '
    $1 == word && NF == 2 { close(file); file = sprintf("%s/%02d.txt", folder, ++part) }
    file { print > file }
' "$2"
