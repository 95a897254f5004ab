#!/bin/sh
# cc.sh NAME SOURCE HEADER OBJECT: compile SOURCE under its own NAME beside HEADER.
# The scratch folder is ours alone; with relative names in it the same source gives the same object.
set -eu
cp "$2" "$1"
cp "$3" primes.h
gcc -std=gnu89 -O2 -Dlint -I. -c -o object.o "$1"
cp object.o "$4"
