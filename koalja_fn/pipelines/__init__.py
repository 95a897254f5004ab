"""Pipelines of the first implementation (`koalja.aljabr.io/v1alpha1`) become wired folders. No I/O."""
