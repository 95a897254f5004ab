#!/bin/sh
# Run the program that was built. Its author states the proof: 664579 primes below ten million.
set -eu
cp "$1" primes
chmod 755 primes
./primes 0 10000000 > all
count=$(wc -l < all)
test "$count" -eq 664579
echo "$((count)) primes below 10000000, the last is $(tail -n 1 all)"
./primes 4294967200 4294967300
