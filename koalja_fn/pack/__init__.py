"""From user code to images: Cloud Native Buildpacks, and what they need of the OCI."""
