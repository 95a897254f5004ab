"""Pull mode: somebody asks for a wire, and what is stale on the way to it is made (DESIGN, section 8)."""
