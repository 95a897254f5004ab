"""Arriving, forming, executing, sweeping: what happens to values, each step one transaction."""
