"""Where `writes_of` was before the rooms; this door goes with the renames of version 0.2.0."""

from upscale_opt.tracing.writes import writes_of

__all__ = ["writes_of"]
