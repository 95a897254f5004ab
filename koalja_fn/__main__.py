"""`python -m koalja_fn` is the command `koalja-fn`."""

from koalja_fn.commands import main

main(prog_name="koalja-fn")
