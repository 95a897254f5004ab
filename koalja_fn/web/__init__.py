"""A small HTTP/1.1 server: threads for a WSGI application, and an express way for small requests.

It is a server of our own since none of the well-kept ones has what makes thousands of durable events a
second: to see which requests have come *together*, so that they share one commit. What is unusual or against
the rules of HTTP is refused, never guessed at. It knows nothing of circuits and values.
"""

from koalja_fn.web.connection import Body
from koalja_fn.web.heads import BadRequest, Head
from koalja_fn.web.server import Answer, Express, Server

__all__ = ["Answer", "BadRequest", "Body", "Express", "Head", "Server"]
