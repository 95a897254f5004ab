"""Queues as a way in: messages of SQS become values, and objects that they tell of are fetched."""

from koalja_fn.queues.feeding import Feeders, drain, feed

__all__ = ["Feeders", "drain", "feed"]
